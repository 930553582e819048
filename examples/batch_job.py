"""A nightly job: label the rows of a csv in pieces of constant memory, and set aside what a person should see.

`python examples/batch_job.py BUNDLE rows.csv labelled.csv unsure.csv`, with a column `text`. Needs the runtime and pandas.
For files of any format, with resumption after a stop, there is `hybrid score`.
"""

import sys
from pathlib import Path

import pandas

import hybrid

ROWS_A_PIECE = 1000


def main() -> None:
    bundle, source, labelled, unsure = sys.argv[1:]
    classifier = hybrid.load(bundle)
    n_rows = n_unsure = 0
    for path in (labelled, unsure):
        Path(path).unlink(missing_ok=True)
    for piece in pandas.read_csv(source, chunksize=ROWS_A_PIECE):
        answers = classifier.classify(piece, text="text").add_prefix("hybrid_")
        joined = piece.join(answers)
        escalates = joined["hybrid_escalate"]
        for path, rows in ((labelled, joined[~escalates]), (unsure, joined[escalates])):
            rows.to_csv(path, mode="a", header=not Path(path).exists(), index=False)
        n_rows += len(piece)
        n_unsure += int(escalates.sum())
    print(f"{n_rows} rows: {n_rows - n_unsure} labelled, {n_unsure} for a person")


if __name__ == "__main__":
    main()
