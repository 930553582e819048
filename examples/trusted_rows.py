"""Your own data, some rows of which a person has checked: those judge, and some of them teach cleaning.

`python examples/trusted_rows.py reviews.csv [ENCODER]`, with the columns `text`, `label` and `checked`; `checked` is empty
where nobody has looked. Needs `hybrid-cascade[train]`.
"""

import sys

import pandas

import hybrid


def main() -> None:
    rows = pandas.read_csv(sys.argv[1])
    encoder = sys.argv[2] if len(sys.argv) > 2 else "minilm"
    checked = rows["checked"].notna()
    print(f"{checked.sum()} of {len(rows)} rows are checked")
    # Rows with gold calibrate and test, and train nothing. Those that shall teach as well are named one by one: here a
    # fifth of them, which `audit` then trusts and which are taken out of the gold.
    teaching = rows[checked].sample(frac=0.2, random_state=0)
    teaching[["text", "checked"]].rename(columns={"checked": "label"}).to_csv("audit.csv", index=False)
    rows.loc[teaching.index, "checked"] = None
    result = hybrid.fit(
        rows,
        label="label",
        gold="checked",
        encoder=encoder,
        data={"audit": "audit.csv"},
        run_dir="runs/reviews/trusted",
    )
    print(result)
    wrong = result.metrics["labels"]
    print(f"threshold {result.classifier.bundle.threshold.value:.3f}; wrong training labels: {wrong['wrong_given']}")


if __name__ == "__main__":
    main()
