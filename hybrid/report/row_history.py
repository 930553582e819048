"""Format the history of one row for `hybrid why`."""

import textwrap
from collections.abc import Mapping

from msgspec import UNSET

from hybrid.provenance.rows import Receipt, VoteReceipt
from hybrid.report.templates import dollars

WIDTH = 100
SHORT = 12
"""The number of hex digits of a key that are printed; the JSONL has them all."""


def row_history_lines(receipt: Receipt) -> list[str]:
    """Format the history of a row: its label, the votes on it, the decision, and the consequences."""
    place = f", {receipt.where}" if receipt.where else ""
    title = f"{receipt.id}{place}: {'draft' if receipt.origin == 'synthetic' else f'{receipt.part} row'}"
    return [
        title,
        *_indented(receipt.text),
        "",
        *_origin(receipt),
        *_evidence(receipt),
        *_decision(receipt),
        *_consequences(receipt),
    ]


def _origin(receipt: Receipt) -> list[str]:
    if receipt.draft_status is not None:
        status = "accepted" if receipt.draft_status == "accepted" else "refused"
        reason = f" ({receipt.reason})" if receipt.reason else ""
        return [
            _line("label", receipt.given),
            _line("plan", receipt.plan or "not recorded"),
            _line("written from", ", ".join(receipt.parents) or "not recorded"),
            _line("draft", f"{status}{reason}"),
        ]
    lines = [_line("given label" if receipt.part == "train" else f"{receipt.part} label", receipt.given)]
    lines += [_line(f"annotator {name}", label) for name, label in receipt.annotations.items()]
    if receipt.trusted is not None:
        lines.append(_line("trusted", f"{receipt.trusted.label}, by {receipt.trusted.source}"))
    return lines


def _evidence(receipt: Receipt) -> list[str]:
    lines = [line for vote in receipt.votes for line in _vote(vote, receipt.policy)]
    if receipt.classifier:
        lines.append(_line("classifier", _probs(receipt.classifier)))
    return lines


def _vote(vote: VoteReceipt, policy: str) -> list[str]:
    confidence = f", confidence {vote.confidence:.2f}" if vote.confidence is not None else ""
    answer = f"{vote.label}{confidence}" if vote.status == "ok" else f"{vote.status}: {vote.reason}"
    with_policy = f"policy {policy}" if policy else "no policy"
    lines = [_line(f"{vote.teacher}#{vote.sample}", answer)]
    lines += _indented(vote.rationale, "      ") if vote.rationale else []
    if vote.recorded:
        return [*lines, f"      recorded, so no call was made; {with_policy}"]
    if not vote.model:
        return [*lines, f"      {_why_no_answer(vote)}; {with_policy}"]
    return [
        *lines,
        f"      {vote.model}: {vote.input_tokens} tokens in{_cached(vote)}, {vote.output_tokens} out, "
        f"{dollars(vote.cost_usd)}, "
        f"{vote.seconds:.1f} s; prompt {vote.prompt}, {with_policy}, key {vote.key[:SHORT]}",
    ]


def _why_no_answer(vote: VoteReceipt) -> str:
    if vote.key:
        return f"the trace store has no answer under key {vote.key[:SHORT]}"
    if vote.status == "failed":
        return "not in the trace store: failed answers are not kept"
    return "no trace key: the vote was imported, or collected by a version that recorded no key"


def _cached(vote: VoteReceipt) -> str:
    counts = {"written to the cache": vote.cache_write_tokens, "read from the cache": vote.cache_read_tokens}
    return "".join(f", {count} {what}" for what, count in counts.items() if count)


def _decision(receipt: Receipt) -> list[str]:
    if receipt.action is None:
        return []
    changed = f", by {', '.join(receipt.changed_by)}" if receipt.changed_by else ""
    return [
        _line("combined", _probs(receipt.probs)) if receipt.probs else _line("combined", "not computed"),
        _line("decision", f"{receipt.action}: {receipt.given} -> {receipt.label}{changed}"),
        *_indented(receipt.reason, "      "),
        _line("training weight", f"{receipt.weight:g}"),
    ]


def _consequences(receipt: Receipt) -> list[str]:
    lines = [_line("drafts from it", ", ".join(receipt.drafts))] if receipt.drafts else []
    if receipt.evidence is not UNSET:
        words = ", ".join(f"{word.text} {word.score:.2f}" for word in receipt.evidence)
        lines.append(_line("evidence words", words or "none"))
    served = receipt.served
    if served is None:
        return lines
    right = "right" if served.right else "wrong"
    lines.append(_line("the bundle", f"{served.label} ({right}), {_probs(served.probs)}"))
    lines.append(_line("escalates", "yes" if served.escalate else "no"))
    return [*lines, _line("the decoder", served.decoder)] if served.decoder else lines


def _line(name: str, value: str) -> str:
    return f"  {name:<18} {value}"


def _probs(probs: Mapping[str, float]) -> str:
    """List the five most probable labels, the most probable first."""
    ranked = sorted(probs.items(), key=lambda item: -item[1])[:5]
    return ", ".join(f"{label} {p:.2f}" for label, p in ranked) + (", ..." if len(probs) > len(ranked) else "")


def _indented(text: str, indent: str = "  ") -> list[str]:
    return [
        line
        for part in text.splitlines()
        for line in textwrap.wrap(part, WIDTH, initial_indent=indent, subsequent_indent=indent)
    ]
