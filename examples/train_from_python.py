"""From a csv with noisy labels to a bundle, in one call.

`python examples/train_from_python.py reviews.csv [ENCODER]`, with the columns `text` and `label`. Needs
`hybrid-cascade[train]`; ENCODER is minilm, mpnet, deberta or a folder with a model.
"""

import sys

import pandas

import hybrid


def main() -> None:
    rows = pandas.read_csv(sys.argv[1])
    encoder = sys.argv[2] if len(sys.argv) > 2 else "minilm"
    # The same call again skips what is finished. Any setting of a recipe is a keyword: a section as a dict.
    result = hybrid.fit(
        rows, text="text", label="label", encoder=encoder, train={"epochs": 4}, run_dir="runs/reviews/python"
    )
    print(result)
    changed = result.labels[result.labels["action"] != "keep"]
    print(f"{len(changed)} of {len(result.labels)} training labels were changed, dropped or put up for review:")
    print(changed[["text", "given", "label", "action"]].head(5).to_string(index=False))
    print(f"report: {result.report}")
    print(f"bundle: {result.bundle}")
    for answer in result.classifier.classify(["Stale bread and cold soup."]):
        print(answer.label, round(answer.confidence, 3))


if __name__ == "__main__":
    main()
