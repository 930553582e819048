"""`hybrid traces`: export and import the answers of a trace store, print what its calls cost, and judge reasons."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_json, add_step, count

if TYPE_CHECKING:
    from hybrid.llm.cost.pricing import Spent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the steps of `hybrid traces`."""
    steps = parser.add_subparsers(required=True, metavar="STEP")
    export = add_step(
        steps,
        "export",
        "write every answer of a store to a JSONL file",
        "hybrid traces export runs/sentiment/traces.sqlite answers.jsonl",
    )
    export.set_defaults(act=_export)
    import_ = add_step(
        steps,
        "import",
        "add the answers of a JSONL file to a store",
        "hybrid traces import runs/sentiment/traces.sqlite answers.jsonl",
    )
    import_.set_defaults(act=_import)
    for step in (export, import_):
        _add_store(step)
        step.add_argument("file", type=Path, help="the JSONL file")
        add_json(step)
    export.add_argument(
        "--unreadable", action="store_true", help="write the unreadable answers instead, the last one to each question"
    )
    cost = add_step(
        steps, "cost", "what the calls of a store cost, by role", "hybrid traces cost runs/sentiment/traces.sqlite"
    )
    _add_store(cost)
    add_json(cost)
    cost.set_defaults(act=_cost)

    judge = add_step(
        steps,
        "judge",
        "how good the reasons of a teacher, of a file or store of traces, or of a student are",
        "hybrid traces judge runs/sentiment/embedded --student runs/sentiment/embedded/student/student.gguf",
    )
    judge.add_argument("run", type=Path, help="the finished run whose rows the answers are about")
    judge.add_argument(
        "traces",
        type=Path,
        nargs="?",
        help="a trace store (.sqlite), or a file with id or text, label and rationale; without it the run's own votes",
    )
    judge.add_argument("--student", type=Path, metavar="GGUF", help="a student, which is asked about test rows")
    judge.add_argument("--rows", type=count, default=200, help="test rows that a student is asked about (%(default)s)")
    add_json(judge)
    judge.set_defaults(act=_judge)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="the trace store, such as runs/sentiment/traces.sqlite")


def _export(options: argparse.Namespace) -> object:
    from hybrid.llm.traces.export import export_traces

    count = export_traces(options.store, options.file, unreadable=options.unreadable)
    print(f"{count} {'unreadable ' * options.unreadable}answers written to {options.file}")
    return {"answers": count, "file": str(options.file)}


def _import(options: argparse.Namespace) -> object:
    from hybrid.llm.traces.export import import_traces

    count = import_traces(options.store, options.file)
    print(f"{count} new answers in {options.store}")
    return {"new_answers": count, "store": str(options.store)}


def _cost(options: argparse.Namespace) -> object:
    from hybrid.llm.cost.pricing import Pricing
    from hybrid.llm.cost.trace_ledger import run_ledger
    from hybrid.llm.traces.export import open_existing

    file = open_existing(options.store)
    roles = [role for (role,) in file.read("SELECT DISTINCT role FROM calls ORDER BY role")]
    spent = {role: run_ledger(file, Pricing(role=role, model="")).spent() for role in roles}
    for role, of_role in spent.items():
        print(cost_line(role, of_role))
    return spent


def _judge(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_run
    from hybrid.errors import ConfigError
    from hybrid.pipeline.judged_reasons import judge_reasons, lines_of

    if options.traces and options.student:
        raise ConfigError("traces judge: got a file of traces and --student; name one of them")
    judged = judge_reasons(open_run(options.run), options.traces, options.student, options.rows)
    print("\n".join(lines_of(judged)))
    return judged


def cost_line(role: str, spent: "Spent") -> str:
    """Format the calls, tokens and cost of a role as one line."""
    cached = f" (cache: {spent.cache_write_tokens} written, {spent.cache_read_tokens} read)"
    unsettled = f", and up to {spent.unsettled_usd:.4f} USD for {spent.unsettled} calls without an answer"
    return (
        f"{role}: {spent.calls} calls, {spent.input_tokens} tokens in{cached}, {spent.output_tokens} out, "
        f"{spent.settled_usd:.4f} USD{unsettled if spent.unsettled else ''}"
    )
