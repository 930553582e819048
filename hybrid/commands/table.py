"""Every command of `hybrid`, in the groups of `hybrid --help`: what it is for, where it is, what it needs, an example.

To add a command, write a module with `add_arguments(parser)`, which sets `act` to the function that does the work, and
add an entry here. `act` returns what `--json` prints, where the command offers that.
"""

from typing import NamedTuple

GROUPS = {
    "train": "From your data to a bundle",
    "use": "Use a bundle",
    "labels": "Labels and the teacher that checks them",
    "around": "This machine and this folder",
}
"""The title of each group."""


class Command(NamedTuple):
    """One command."""

    name: str
    group: str
    """A key of `GROUPS`."""
    purpose: str
    """One line for `hybrid --help`."""
    example: str
    """A line that works as it is typed."""
    extra: str = ""
    """The extra of the package whose dependencies it needs; empty: the runtime alone can run it."""

    @property
    def module(self) -> str:
        """The module that has the command."""
        return f"hybrid.commands.{'list_' if self.name == 'list' else self.name}"


BUNDLE = "demo"
RUN = "runs/sentiment/embedded"

COMMANDS = (
    Command(
        "advise",
        "train",
        "measure your data: what kind of model it calls for, and why",
        "hybrid advise reviews.csv --text text --label label",
        "train",
    ),
    Command(
        "new",
        "train",
        "write a commented recipe for your own data, and run it",
        "hybrid new reviews --data reviews.csv --text text --label label",
        "train",
    ),
    Command(
        "estimate",
        "train",
        "what a run would ask of its language models and what that costs; spends nothing",
        "hybrid estimate sentiment --teacher claude-opus-5-5",
        "train",
    ),
    Command(
        "run",
        "train",
        "run a recipe from data to bundle; what is finished and unchanged is skipped",
        "hybrid run sentiment",
        "train",
    ),
    Command(
        "student",
        "train",
        "fine-tune a small decoder on the teacher's reasons, or compare the ways to",
        "hybrid student sentiment",
        "student",
    ),
    Command(
        "bundle",
        "train",
        "write the bundle of a finished run at another precision, or a portable one",
        f"hybrid bundle {RUN} sentiment-fp32 --precision fp32",
        "train",
    ),
    Command(
        "predict",
        "use",
        "classify texts; writes one JSON object per line",
        f'hybrid predict {BUNDLE} "What a day!"',
    ),
    Command(
        "info",
        "use",
        "a bundle's labels, encoder, calibration, threshold and promises",
        f"hybrid info {BUNDLE}",
    ),
    Command(
        "score",
        "use",
        "label every row of a file of any size; an interrupted job goes on",
        f"hybrid score reviews.csv labelled.csv --bundle {BUNDLE}",
    ),
    Command(
        "serve",
        "use",
        "serve a bundle over HTTP, with a page to try it",
        f"hybrid serve {BUNDLE} --port 8000",
        "serve",
    ),
    Command(
        "why",
        "labels",
        "everything that happened to a row: votes, prices, decision, weight",
        f"hybrid why {RUN} --all receipts.jsonl",
        "train",
    ),
    Command(
        "review",
        "labels",
        "the rows most worth re-checking: write them out, read the answers back",
        f"hybrid review export {RUN} looks.csv --rows 20",
        "train",
    ),
    Command(
        "policy",
        "labels",
        "let the teacher write the labelling policy from a few rows",
        "hybrid policy sentiment --teacher claude-opus-5-5",
        "train",
    ),
    Command(
        "pilot",
        "labels",
        "compare ways of asking the teacher on trusted rows, in accuracy and price",
        "hybrid pilot sentiment --set data.trusted=200",
        "train",
    ),
    Command(
        "traces",
        "labels",
        "the answers that were paid for: export, import, and what they cost",
        "hybrid traces export runs/sentiment/traces.sqlite answers.jsonl",
    ),
    Command("doctor", "around", "what this machine is, what works on it, and how fast", "hybrid doctor"),
    Command("list", "around", "the recipes, profiles, runs and bundles that can be found here", "hybrid list"),
    Command(
        "completion",
        "around",
        "the script with which a shell completes the words of these commands",
        'eval "$(hybrid completion bash)"',
        "completion",
    ),
)


def command_named(name: str) -> Command | None:
    """The command of that name; None where there is none."""
    return next((command for command in COMMANDS if command.name == name), None)
