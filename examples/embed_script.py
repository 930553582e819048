"""The bundle in a plain script: label the lines of standard input, and set aside what the encoder is not sure of.

`python examples/embed_script.py BUNDLE < texts.txt`. Needs the runtime alone: numpy, onnxruntime, tokenizers, msgspec.
"""

import sys
from itertools import islice

import hybrid

TEXTS_A_CALL = 256
"""The runtime sorts the texts of a call by length and pads little; more than this gains nothing."""


def main() -> None:
    classifier = hybrid.load(sys.argv[1])
    texts = (line.strip() for line in sys.stdin if line.strip())
    while chunk := list(islice(texts, TEXTS_A_CALL)):
        for text, answer in zip(chunk, classifier.classify(chunk), strict=True):
            label = "?" if answer.escalate else answer.label
            print(f"{label}\t{answer.confidence:.3f}\t{text}")


if __name__ == "__main__":
    main()
