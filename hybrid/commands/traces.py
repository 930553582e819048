"""`hybrid traces`: export and import the answers of a trace store as JSONL, and print what its calls cost."""

import argparse
from pathlib import Path

from hybrid.llm.cost.pricing import Pricing, Spent
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.export import export_traces, import_traces, open_existing


def add_traces(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of `hybrid`."""
    traces = commands.add_parser("traces", help="the answers that were paid for: export, import, and what they cost")
    steps = traces.add_subparsers(required=True, metavar="STEP")
    export = steps.add_parser("export", help="write every answer of a store to a JSONL file")
    export.set_defaults(act=_export)
    import_ = steps.add_parser("import", help="add the answers of a JSONL file to a store")
    import_.set_defaults(act=_import)
    for step in (export, import_):
        _add_store(step)
        step.add_argument("file", type=Path, help="the JSONL file")
    export.add_argument(
        "--unreadable", action="store_true", help="write the unreadable answers instead, the last one to each question"
    )
    cost = steps.add_parser("cost", help="what the calls of a store cost, by role")
    _add_store(cost)
    cost.set_defaults(act=_cost)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=Path, help="the trace store, such as runs/sentiment/traces.sqlite")


def _export(options: argparse.Namespace) -> None:
    count = export_traces(options.store, options.file, unreadable=options.unreadable)
    print(f"{count} {'unreadable ' * options.unreadable}answers written to {options.file}")


def _import(options: argparse.Namespace) -> None:
    print(f"{import_traces(options.store, options.file)} new answers in {options.store}")


def _cost(options: argparse.Namespace) -> None:
    file = open_existing(options.store)
    for (role,) in file.read("SELECT DISTINCT role FROM calls ORDER BY role"):
        print(cost_line(role, run_ledger(file, Pricing(role=role, model="")).spent()))


def cost_line(role: str, spent: Spent) -> str:
    """Format the calls, tokens and cost of a role as one line."""
    cached = f" (cache: {spent.cache_write_tokens} written, {spent.cache_read_tokens} read)"
    unsettled = f", and up to {spent.unsettled_usd:.4f} USD for {spent.unsettled} calls without an answer"
    return (
        f"{role}: {spent.calls} calls, {spent.input_tokens} tokens in{cached}, {spent.output_tokens} out, "
        f"{spent.settled_usd:.4f} USD{unsettled if spent.unsettled else ''}"
    )
