"""`hybrid score`: label every row of a file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_engine, add_json
from hybrid.files.formats import FORMATS

if TYPE_CHECKING:
    from hybrid.scoring.shards import ShardReport
    from hybrid.scoring.tally import Tally


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid score`."""
    formats = ", ".join(name for name, file_format in FORMATS.items() if file_format.can_write)
    parser.add_argument("input", type=Path, metavar="IN", help=f"the file to score ({formats}), or a folder")
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT",
        help="the file or folder to write: the same rows with label, confidence and escalate",
    )
    parser.add_argument("--bundle", required=True, help="the folder of the bundle")
    parser.add_argument(
        "--text", default="text", metavar="COLUMN", help="the column that holds the texts (%(default)s)"
    )
    parser.add_argument(
        "--threshold", type=float, help="escalate below this confidence (default: the bundle's threshold)"
    )
    parser.add_argument("--prefix", default="hybrid_", help="how the names of the added columns begin (%(default)s)")
    parser.add_argument("--probs", action="store_true", help="add the probability of every label")
    parser.add_argument("--skip-bad", action="store_true", help="mark rows that cannot be read, instead of stopping")
    slices = parser.add_mutually_exclusive_group()
    slices.add_argument(
        "--shard", default="", metavar="K/N", help="do one of N slices of the work; the last to finish writes OUT"
    )
    slices.add_argument("--join", action="store_true", help="write OUT from the slices that --shard left")
    add_engine(parser)
    add_json(parser)
    parser.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> object:
    import msgspec

    import hybrid
    from hybrid.progress import Screen
    from hybrid.runtime.bundle import bundle_path
    from hybrid.runtime.promises import advice, effect_line
    from hybrid.scoring.score import Job, join_shards, score, score_shard
    from hybrid.scoring.shards import read_shard

    shard = read_shard(options.shard) if options.shard else None
    job = Job(
        source=options.input,
        target=options.output,
        text=options.text,
        threshold=options.threshold,
        prefix=options.prefix,
        probs=options.probs,
        skip_bad=options.skip_bad,
    )
    folder = bundle_path(options.bundle)
    classifier, screen = hybrid.load(folder, engine=options.engine_backend), Screen(sys.stderr)
    bundle = classifier.bundle
    if hint := (
        advice(bundle.threshold, bundle.reference)
        if job.threshold is None
        else effect_line(bundle.reference, job.threshold)
    ):
        screen.say(hint)
    with screen.working("score"):
        if shard:
            report = score_shard(classifier, folder, job, shard, screen)
            print(shard_line(report, job.target))
            return {"file": str(job.target), **msgspec.to_builtins(report)}
        tally = (join_shards if options.join else score)(classifier, folder, job, screen)
    print(summary_line(tally, job.target))
    return {"file": str(job.target), **msgspec.to_builtins(tally)}


def shard_line(report: "ShardReport", target: Path) -> str:
    """Return the result of a shard in one sentence."""
    if report.tally:
        return f"shard {report.shard} was the last; {summary_line(report.tally, target)}"
    return (
        f"{target}: shard {report.shard} is done ({report.parts:,} parts); {report.parts_done:,} of {report.parts_all:,} parts "
        "are there"
    )


def summary_line(tally: "Tally", target: Path) -> str:
    """Return the result in one sentence: rows by label, and how many escalate, were truncated or could not be read."""
    answered = max(tally.rows - tally.bad, 1)
    labels = ", ".join(f"{label or 'no label'} {count:,}" for label, count in sorted(tally.labels.items()))
    return (
        f"{target}: {tally.rows:,} rows ({labels or 'no label given'}); "
        f"{tally.escalate:,} to escalate ({tally.escalate / answered:.1%}), {tally.truncated:,} truncated, "
        f"{tally.bad:,} unreadable"
    )
