"""What the encoder is not sure of goes to a decoder: a function of yours, or a language model by its name.

`python examples/add_decoder.py demo` asks the function below. `python examples/add_decoder.py demo claude-opus-4-8` asks
Claude (key in ANTHROPIC_API_KEY, at most one dollar), `... local` the small packaged model, and a URL the server there.
"""

import sys

import hybrid

WORDS = {"negative": ("not", "awful", "late"), "positive": ("love", "thanks", "great")}
TEXTS = ["I love it!", "It arrived.", "Well, it is not what I ordered, and it came late.", "The meeting is at noon."]


def by_words(text: str) -> str | None:
    """A decoder may be any function from a text to a label, or None where it cannot tell."""
    for label, words in WORDS.items():
        if any(word in text.lower().split() for word in words):
            return label
    return None


def main() -> None:
    bundle, *names = sys.argv[1:]
    if names:
        budget = 1.0 if names[0].startswith("claude") else None
        classifier = hybrid.load(bundle, decoder=names[0], budget_usd=budget)
    else:
        classifier = hybrid.load(bundle, decoder=by_words)
    # The threshold decides who answers; without one it is the bundle's.
    for text, answer in zip(TEXTS, classifier.classify(TEXTS), strict=True):
        print(f"{answer.label}\t{answer.source}\t{answer.escalation}\t{text}")


if __name__ == "__main__":
    main()
