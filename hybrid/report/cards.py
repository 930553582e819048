"""The bundle's cards: the model card (what it is, how far to trust it) and the data card (where its labels come from)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from hybrid.pipeline.context import RunContext
from hybrid.provenance.rows import Receipt, VoteReceipt
from hybrid.report.step_gains import decoder_name, variant_name
from hybrid.report.templates import template
from hybrid.types import DraftStatus, Report, Row

MAX_CHANGES_LISTED = 20


class Teacher(Row, frozen=True, kw_only=True):
    """One source of votes, all its samples together."""

    name: str
    recorded: bool
    votes: dict[str, int]
    """The number of votes by status."""
    priced: int
    """The number of votes whose price is known: those in the trace store, and recorded ones."""
    cost_usd: float
    """The cost of the priced votes at the time they were asked for."""
    tokens: int
    prompts: list[str]
    """The hashes of the prompts with their policy; empty for recorded answers."""


class Tally(Row, frozen=True, kw_only=True):
    """Counts over the provenance of all rows."""

    parts: dict[str, int]
    given: dict[str, int]
    """The number of training rows by given label."""
    decided: dict[str, int]
    """The number of training rows by decided label, without dropped rows."""
    actions: dict[str, int]
    changes: dict[str, int]
    """The number of changed labels by `from -> to`, most frequent first."""
    changed_by: dict[str, int]
    """The number of changed labels by the source that supports them; a label can have several."""
    changed: int
    weight: float
    """The sum of the weights of the training rows."""
    trusted: dict[str, int]
    annotators: dict[str, int]
    teachers: list[Teacher]
    policies: list[str]
    drafts: dict[str, int]
    characters: tuple[int, float, int]
    """The shortest, median and longest training text."""


def render_card(context: RunContext, counts: Tally, summary: Report, *, made_from: str) -> str:
    """Render the model card in Markdown. `made_from`, the fingerprint of its sources, ends it in a comment."""
    evaluated = context.run.report("evaluate")
    return template("model-card.md").render(
        made_from=made_from,
        counts=counts,
        summary=summary,
        recipe=context.recipe,
        labels=context.labels,
        served=summary["test"][summary["served"]],
        trained_on=variant_name(summary["served"]),
        decoder=decoder_name(summary),
        recall=evaluated["recall"],
        evidence=context.run.report("train").get("evidence"),
        micro_f1={
            "value": evaluated["encoder"].get("micro_f1"),
            "interval": evaluated["encoder"].get("micro_f1_interval"),
        },
    )


def render_data_card(context: RunContext, counts: Tally, summary: Report, *, made_from: str) -> str:
    """Render the data card in Markdown. `made_from`, the fingerprint of its sources, ends it in a comment."""
    return template("data-card.md").render(
        made_from=made_from,
        summary=summary,
        counts=counts,
        changes=list(counts.changes.items())[:MAX_CHANGES_LISTED],
        recipe=context.recipe,
        labels=context.labels if context.recipe.task == "single_label" else sorted({*counts.given, *counts.decided}),
        dealt=context.run.report("split"),
        cleaned=context.run.report("clean"),
    )


def tally(receipts: Sequence[Receipt]) -> Tally:
    """Count the rows, decisions, votes and drafts of a run by their provenance."""
    rows = [receipt for receipt in receipts if receipt.draft_status is None]
    train = [receipt for receipt in rows if receipt.part == "train"]
    changed = [receipt for receipt in train if receipt.label not in (None, receipt.given)]
    lengths = [len(receipt.text) for receipt in train]
    return Tally(
        parts=dict(Counter(receipt.part for receipt in rows)),
        given=dict(Counter(receipt.given for receipt in train)),
        decided=dict(Counter(str(receipt.label) for receipt in train if receipt.weight)),
        actions=dict(Counter(str(receipt.action) for receipt in train)),
        changes=_most_common(f"{receipt.given} -> {receipt.label}" for receipt in changed),
        changed_by=_most_common(name for receipt in changed for name in receipt.changed_by),
        changed=len(changed),
        weight=sum(receipt.weight or 0.0 for receipt in train),
        trusted=dict(Counter(receipt.trusted.source for receipt in train if receipt.trusted)),
        annotators=dict(Counter(name for receipt in train for name in receipt.annotations)),
        teachers=_teachers([vote for receipt in train for vote in receipt.votes]),
        policies=sorted({receipt.policy for receipt in train if receipt.policy}),
        drafts=dict(Counter(_accepted(receipt.draft_status) for receipt in receipts if receipt.draft_status)),
        characters=(min(lengths, default=0), median(lengths or [0]), max(lengths, default=0)),
    )


def _accepted(status: DraftStatus) -> str:
    return "accepted" if status == "accepted" else "refused"


def _teachers(votes: Sequence[VoteReceipt]) -> list[Teacher]:
    by_name: dict[str, list[VoteReceipt]] = {}
    for vote in votes:
        by_name.setdefault(vote.teacher, []).append(vote)
    return [_teacher(name, own_votes) for name, own_votes in sorted(by_name.items())]


def _teacher(name: str, votes: Sequence[VoteReceipt]) -> Teacher:
    return Teacher(
        name=name,
        recorded=all(vote.recorded for vote in votes),
        votes=dict(Counter(vote.status for vote in votes)),
        priced=sum(vote.recorded or vote.cost_usd is not None for vote in votes),
        cost_usd=sum(vote.cost_usd or 0.0 for vote in votes),
        tokens=sum((vote.input_tokens or 0) + (vote.output_tokens or 0) for vote in votes),
        prompts=sorted({vote.prompt for vote in votes if vote.prompt}),
    )


def _most_common(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
