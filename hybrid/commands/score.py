"""`hybrid score`: label every row of a file."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.cluster.engine import ENGINES, LOCAL
from hybrid.commands.arguments import add_engine, add_json, count
from hybrid.files.formats import FORMATS

if TYPE_CHECKING:
    from hybrid.progress import Screen
    from hybrid.runtime import Classifier
    from hybrid.scoring.output import Workplace
    from hybrid.scoring.shards import ShardReport
    from hybrid.scoring.tally import Tally


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid score`."""
    formats = ", ".join(name for name, file_format in FORMATS.items() if file_format.can_write)
    parser.add_argument(
        "input", metavar="IN", help=f"the file to score ({formats}), or a folder; s3://, gs:// and abfs:// URLs too"
    )
    parser.add_argument(
        "output",
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
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=LOCAL,
        help="where the work is done: in processes of this machine, or on the machines of a Ray cluster (%(default)s)",
    )
    parser.add_argument("--ray-address", default="", metavar="HOST:PORT", help="the cluster (default: RAY_ADDRESS)")
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes that work at once (default: one a processor, if they pay)"
    )
    parser.add_argument(
        "--worker-threads", type=count, metavar="N", help="processors of each (default: 1 on Ray, else a fair share)"
    )
    add_engine(parser)
    add_json(parser)
    parser.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> object:
    import msgspec

    import hybrid
    from hybrid.files.places import place_of
    from hybrid.progress import Screen
    from hybrid.runtime.bundle import bundle_path
    from hybrid.runtime.promises import advice, effect_line
    from hybrid.scoring.score import Job, join_shards, score_shard, score_with
    from hybrid.scoring.shards import read_shard

    shard = read_shard(options.shard) if options.shard else None
    job = Job(
        source=place_of(options.input),
        target=place_of(options.output),
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
    with screen.working("score"), _place(options, classifier, folder, screen) as place:
        if shard:
            report = score_shard(classifier, folder, job, shard, screen, place=place)
        elif options.join:
            tally = join_shards(classifier, folder, job, screen, place=place)
        else:
            tally = score_with(place, classifier, folder, job, screen)
    if shard:
        print(shard_line(report, job.target))
        return {"file": str(job.target), **msgspec.to_builtins(report)}
    print(summary_line(tally, job.target))
    return {"file": str(job.target), **msgspec.to_builtins(tally)}


@contextmanager
def _place(
    options: argparse.Namespace, classifier: "Classifier", bundle_dir: Path, screen: "Screen"
) -> "Iterator[Workplace]":
    """Yield where the work is done."""
    from hybrid.scoring.work import OnEngine, OnThisMachine

    backend, workers, threads = options.engine_backend, options.workers, options.worker_threads
    if options.engine == LOCAL:
        yield OnThisMachine(classifier, bundle_dir, backend, workers=workers, threads=threads)
        return
    from hybrid.cluster.ray_cluster import RayEngine

    # Ray prints what its machines report to standard output, which is for the result.
    with Path(os.devnull).open("w", encoding="utf-8") as sink, redirect_stdout(sink):
        engine = RayEngine(address=options.ray_address, workers=workers, threads=threads or 1, say=screen.say)
        with closing(engine):
            yield OnEngine(engine, classifier, bundle_dir, backend)


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
