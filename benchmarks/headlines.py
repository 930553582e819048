"""The pipeline on somebody else's csv: gold-market headlines, the packaged encoder, settings as they come.

`python benchmarks/headlines.py [FOLDER]` with train.csv and test.csv (columns text, label) in FOLDER.
The data set is FrugalGPT's (Chen et al. 2023); where the folder is absent the benchmark says so and stops.
"""

import sys
import tempfile
from pathlib import Path

import msgspec
from benchmark_data import headlines_folder
from targets import bar, finish

PUBLISHED = {
    "TF-IDF with a linear SVM, the same 5,000 labels": 0.898,
    "FrugalGPT's best cascade (2023)": 0.878,
    "best single LLM in its 2024 summary (gpt-4-turbo)": 0.8558,
}


def main() -> None:
    from hybrid.recipe import main as recipe

    folder = headlines_folder(sys.argv[1:])
    if folder is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = f"--data {folder / 'train.csv'} --test {folder / 'test.csv'} --text text --label label"
        status = recipe(["new", "headlines", *data.split(), "--folder", scratch, "--runs", f"{scratch}/runs"])
        if status:
            sys.exit(status)
        summary = msgspec.json.decode((Path(scratch) / "runs/headlines/default/summary.json").read_bytes())
    served = summary["test"][summary["served"]]
    fresh = summary["test"]["without_twins"]
    print(f"\n{'':<55} accuracy  macro-F1")
    print(
        f"{'ours, all test rows, n = ' + str(served['rows']):<55} {served['accuracy']:8.4f}  {served['macro_f1']:8.4f}"
    )
    if fresh:
        print(
            f"{'ours, rows without a twin in train, n = ' + str(fresh['rows']):<55} {fresh['accuracy']:8.4f}  {fresh['macro_f1']:8.4f}"
        )
    ours = summary["test"]["tfidf_given"]
    print(f"{'TF-IDF with logistic regression, this run':<55} {ours['accuracy']:8.4f}  {ours['macro_f1']:8.4f}")
    for name, accuracy in PUBLISHED.items():
        print(f"{name + ', published':<55} {accuracy:8.4f}")
    bar("headlines_accuracy", served["accuracy"], ">= 0.905", served["accuracy"] >= 0.905)
    finish()


if __name__ == "__main__":
    main()
