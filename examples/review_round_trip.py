"""A review, there and back: the rows most worth a look go to a person, and the answers become trusted rows.

`python examples/review_round_trip.py RUN sheet.csv` writes the sheet, with an empty column `label`. Fill it in, and
`python examples/review_round_trip.py RUN sheet.csv read` takes the answers over; the same `hybrid.fit` or recipe then uses
them. Needs `hybrid-cascade[train]`. RUN is the folder of a run, such as runs/reviews/python.
"""

import subprocess
import sys


def hybrid_command(*words: str) -> None:
    """Run `hybrid`, as one types it in a shell."""
    subprocess.run([sys.executable, "-m", "hybrid", *words], check=True)


def main() -> None:
    run, sheet, *rest = sys.argv[1:]
    if rest == ["read"]:
        hybrid_command("review", "read", run, sheet)
    else:
        hybrid_command("review", "export", run, sheet, "--rows", "20")
        print(f"fill in the column 'label' of {sheet}, then: python {sys.argv[0]} {run} {sheet} read")


if __name__ == "__main__":
    main()
