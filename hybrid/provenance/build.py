"""Build the receipts of a run from its tables and its trace store."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import DataError
from hybrid.files.table import read_rows
from hybrid.llm.traces.export import StoredAnswer, stored_answers
from hybrid.llm.traces.recorded import Recorded
from hybrid.pipeline.context import RunContext
from hybrid.prompts import text_hash
from hybrid.provenance.rows import Receipt, Served, VoteReceipt
from hybrid.runtime.bundle import read_bundle
from hybrid.runtime.decision import predict_probs
from hybrid.types import Decision, Draft, Example, Judged, Row, Scored, Trusted, Vote

DIGITS = 6


class _Tables(Row, frozen=True, kw_only=True):
    """The sources of the receipts, indexed by row id."""

    labels: tuple[str, ...]
    policy: str
    method: str
    votes: dict[str, list[Vote]]
    answers: dict[str, StoredAnswer]
    """Stored answers by the trace key of the vote."""
    decisions: dict[str, Decision]
    classifier: dict[str, tuple[float, ...]]
    trusted: dict[str, Trusted]
    served: dict[str, Served]
    children: dict[str, list[str]]


def read_receipts(context: RunContext) -> list[Receipt]:
    """Build the receipts of all rows, in row order, followed by those of all drafts.

    Raises:
        DataError: a table of the run cannot be read.
    """
    rows, drafts = context.rows(), context.drafts()
    tables = _tables(context, rows, drafts)
    return [_of_row(row, tables) for row in rows] + [_of_draft(draft) for draft in drafts]


def receipt_of(receipts: Sequence[Receipt], name: str, run: Path) -> Receipt:
    """Find the receipt of a row by its id, or by its place such as `rows.csv:17`, with or without the file's folder.

    Raises:
        DataError: no row has this id or place, or several have the place.
    """
    by_id = [receipt for receipt in receipts if receipt.id == name]
    matches = by_id or [receipt for receipt in receipts if f"/{receipt.where}".endswith(f"/{name}")]
    if len(matches) > 1:
        raise DataError(f"{run}: {len(matches)} rows are {name!r}; name one by its id, such as {matches[0].id!r}")
    if matches:
        return matches[0]
    example = receipts[0]
    place = f", or a place such as {example.where!r}" if example.where else ""
    raise DataError(f"{run}: no row {name!r}; expected an id of split/rows.jsonl, such as {example.id!r}{place}")


def _tables(context: RunContext, rows: Sequence[Example], drafts: Sequence[Draft]) -> _Tables:
    run, train = context.run, [row for row in rows if row.part == "train"]
    verified, votes = run.report("verify"), read_rows(run.path("verify", "votes.jsonl"), Vote)
    probs_file = run.path("clean", "classifier.npy")
    classifier = np.load(probs_file) if probs_file.is_file() else np.zeros((0, 0))
    return _Tables(
        labels=context.labels,
        policy=verified.get("policy", ""),
        method=run.report("clean")["method"],
        votes=_by_row(votes),
        answers=stored_answers(context.traces, {vote.trace_key for vote in votes if vote.trace_key}),
        decisions={decision.id: decision for decision in context.decisions()},
        classifier={row.id: tuple(probs) for row, probs in zip(train, classifier.tolist(), strict=False)},
        trusted={row.id: row for row in context.trusted()},
        served=_served(context),
        children=_children(drafts),
    )


def _by_row(votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    by_row: dict[str, list[Vote]] = {}
    for vote in votes:
        by_row.setdefault(vote.id, []).append(vote)
    return by_row


def _children(drafts: Sequence[Draft]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for draft in drafts:
        for parent in draft.parents:
            children.setdefault(parent, []).append(draft.id)
    return children


def _served(context: RunContext) -> dict[str, Served]:
    tables = [context.run.path(*parts) for parts in (("calibrate", "scored.jsonl"), ("evaluate", "judged.jsonl"))]
    # A run that stopped before evaluation still has receipts, without served answers.
    if context.recipe.task == "multi_label" or not all(path.is_file() for path in tables):
        return {}
    threshold = read_bundle(context.run.path("bundle")).threshold.value
    scored, judged = read_rows(tables[0], Scored), read_rows(tables[1], Judged)
    return {row.id: _answer(row.probs, row.label, None, context.labels, threshold) for row in scored} | {
        row.id: _answer(row.probs, row.gold, row.decoder, context.labels, threshold) for row in judged
    }


def _answer(probs: Sequence[float], gold: str, decoder: str | None, labels: Sequence[str], threshold: float) -> Served:
    prediction = predict_probs(labels, probs, threshold=threshold)
    return Served(
        label=prediction.label,
        confidence=round(prediction.confidence, DIGITS),
        probs=_named(labels, probs),
        escalate=prediction.escalate,
        right=prediction.label == gold,
        decoder=decoder,
    )


def _of_row(row: Example, tables: _Tables) -> Receipt:
    decision, votes = tables.decisions.get(row.id), tables.votes.get(row.id, [])
    receipt = Receipt(
        id=row.id,
        where=row.where,
        text=row.text,
        part=row.part,
        origin=row.origin,
        given=row.label,
        annotations=row.annotations,
        served=tables.served.get(row.id),
        parents=row.parents,
    )
    if decision is None:
        return receipt
    return msgspec.structs.replace(
        receipt,
        trusted=tables.trusted.get(row.id),
        policy=tables.policy if votes else "",
        votes=[_of_vote(vote, tables.answers.get(vote.trace_key)) for vote in votes],
        classifier=_named(tables.labels, tables.classifier.get(row.id, ())),
        probs=_named(tables.labels, decision.probs),
        action=decision.action,
        label=decision.label,
        weight=decision.weight,
        reason=decision.reason,
        scores=decision.scores,
        changed_by=_changed_by(row, decision, votes, tables),
        drafts=tables.children.get(row.id, []),
    )


def _of_vote(vote: Vote, answer: StoredAnswer | None) -> VoteReceipt:
    receipt = VoteReceipt(
        teacher=vote.voter,
        sample=vote.sample,
        status=vote.status,
        label=vote.label,
        confidence=vote.confidence,
        rationale=vote.rationale,
        reason=vote.reason,
        recorded=vote.teacher == Recorded.name,
        key=vote.trace_key,
    )
    if answer is None:
        return receipt
    reply = answer.reply
    return msgspec.structs.replace(
        receipt,
        prompt=text_hash(answer.request.system),
        model=reply.model,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        cache_write_tokens=reply.cache_write_tokens,
        cache_read_tokens=reply.cache_read_tokens,
        cost_usd=reply.cost_usd,
        seconds=round(reply.seconds, 2),
    )


def _changed_by(row: Example, decision: Decision, votes: Sequence[Vote], tables: _Tables) -> list[str]:
    """Name the cleaning method and the sources that support a label other than the given one."""
    if decision.label == decision.given:
        return []
    trusted = tables.trusted.get(row.id)
    if trusted is not None and trusted.label == decision.label:
        return [f"trusted ({trusted.source})"]
    probs = tables.classifier.get(row.id, ())
    predicted = [tables.labels[int(np.argmax(probs))]] if probs else []
    supporters = [name for name, label in row.annotations.items() if label == decision.label]
    supporters += [vote.source for vote in votes if vote.label == decision.label]
    return [tables.method, *supporters, *(["classifier"] if decision.label in predicted else [])]


def _of_draft(draft: Draft) -> Receipt:
    return Receipt(
        id=draft.id,
        text=draft.text,
        part="train",
        origin="synthetic",
        given=draft.label,
        parents=draft.parents,
        draft_status=draft.status,
        plan=draft.plan,
        reason=draft.reason,
        scores=draft.scores,
    )


def _named(labels: Sequence[str], probs: Sequence[float]) -> dict[str, float]:
    return {label: round(float(p), DIGITS) for label, p in zip(labels, probs, strict=False)}
