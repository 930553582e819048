"""The result of `hybrid.fit`: a finished run, with what one wants of it at hand."""

from html import escape
from pathlib import Path
from typing import Any

import msgspec

from hybrid.runtime.cascade import Classifier, load
from hybrid.types import Report


class Fitted:
    """A finished run. In a notebook it shows its figures."""

    classifier: Classifier
    """The bundle, loaded: `classifier.classify(texts)`."""
    run: Path
    """The folder of the run."""
    bundle: Path
    """The folder to ship: `hybrid.load(bundle)` anywhere."""
    report: Path
    """The page about the run, one file for a browser."""
    metrics: Report
    """The figures of `summary.json`, such as `metrics["test"]["cleaned"]["accuracy"]`."""

    def __init__(self, run: Path, classifier: Classifier, metrics: Report) -> None:
        """Join the parts of a finished run; `hybrid.fit` is what a user calls."""
        self.run = run
        self.bundle = run / "bundle"
        self.report = run / "report.html"
        self.classifier = classifier
        self.metrics = metrics

    @classmethod
    def read(cls, run: Path) -> "Fitted":
        """Read the finished run in a folder."""
        metrics: Report = msgspec.json.decode((run / "summary.json").read_bytes())
        return cls(run, load(run / "bundle"), metrics)

    @property
    def labels(self) -> Any:
        """What cleaning did, a row each training row: a pandas DataFrame.

        Its columns: `id`, `text`, `given` (the label as given), `label` (as it trains), `action` (keep, relabel, drop or
        review), `weight` (in training), `reason`, and `gold` (None where a row has none).
        """
        import pandas

        from hybrid.files.table import read_rows
        from hybrid.stages.stage import DECISIONS, GOLD, ROWS

        texts = {row.id: row.text for row in read_rows(self.run / ROWS.path, ROWS.row_type)}
        gold = {row.id: row.label for row in read_rows(self.run / GOLD.path, GOLD.row_type)}
        decisions = read_rows(self.run / DECISIONS.path, DECISIONS.row_type)
        columns = ["id", "text", "given", "label", "action", "weight", "reason", "gold"]
        rows = [(d.id, texts[d.id], d.given, d.label, d.action, d.weight, d.reason, gold.get(d.id)) for d in decisions]
        return pandas.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        """Name the run, and how good what ships is."""
        return f"Fitted({str(self.run)!r}: {self._score_line()})"

    def _repr_html_(self) -> str:
        """Show figures and places in a notebook."""
        labels, rows = self.metrics["labels"], self.metrics["rows"]
        wrong = "unknown without gold labels"
        if labels["wrong_given"] is not None:
            wrong = f"{labels['wrong_given']:.1%} as given, {labels['wrong_cleaned']:.1%} cleaned"
        lines = {
            "on test rows": self._score_line(),
            "rows": ", ".join(f"{rows[part]:,} {part}" for part in ("train", "calibration", "test")),
            "wrong training labels": wrong,
            "threshold": f"{self.classifier.bundle.threshold.value:.3f}",
            "report": str(self.report),
            "bundle": str(self.bundle),
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(line)}</td></tr>" for name, line in lines.items())
        return f"<table>{cells}</table>"

    def _score_line(self) -> str:
        scores = self.metrics["test"][self.metrics["served"]]
        judged_by = "gold" if self.metrics["judged_by_gold"] else "labels as given"
        return (
            f"accuracy {scores['accuracy']:.3f}, macro-F1 {scores['macro_f1']:.3f} on "
            f"{self.metrics['rows']['test']:,} rows ({judged_by})"
        )
