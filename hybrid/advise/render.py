"""The lines that `hybrid advise` prints."""

import textwrap
from collections.abc import Iterator

from hybrid.advise.advice import Advice
from hybrid.advise.measurements import DecoderPrice, Facts, Learned, NotMeasured, Teacher
from hybrid.advise.thresholds import value
from hybrid.advise.tree import VERDICTS, Question, figure

WIDTH = 110
SHOWN_LABELS = 8


def advice_lines(advice: Advice) -> list[str]:
    """Everything that was measured, the way through the tree, what was not measured, and the verdict."""
    return [
        *_fact_lines(advice.measured.facts),
        *_learned_lines(advice.measured.learned),
        *_price_lines(advice),
        "",
        "the tree:",
        *(
            line
            for number, question in enumerate(advice.decision.path, start=1)
            for line in _question_lines(number, question)
        ),
        *_not_measured_lines(advice),
        "",
        f"verdict: {VERDICTS[advice.decision.verdict]}",
        *_wrapped(f"{advice.decision.because}.", "  "),
    ]


def _fact_lines(facts: Facts) -> Iterator[str]:
    parts = ", ".join(f"{n:,} {part}" for part, n in facts.parts.items())
    yield f"{facts.rows:,} rows: {parts}. {facts.near_duplicates:,} nearly repeat another."
    by_size = sorted(facts.labels.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{label} {n:,}" for label, n in by_size[:SHOWN_LABELS])
    more = f" and {len(by_size) - SHOWN_LABELS} more labels" if len(by_size) > SHOWN_LABELS else ""
    yield f"training rows by given label: {shown}{more}"
    if facts.leaks:
        yield f"{facts.leaks} test rows nearly repeat a training row: their scores will be too good"


def _learned_lines(learned: Learned) -> Iterator[str]:
    yield f"by cross-validation over training rows, judged by {learned.judged:,} {learned.judged_by} labels:"
    yield f"  {'most frequent label':<44} {learned.majority:.3f}"
    yield f"  {'TF-IDF':<44} {figure(learned.tfidf)}"
    yield f"  {f'frozen {learned.encoder_name}':<44} {figure(learned.encoder)}"
    yield "  learning curve of the frozen encoder: " + ", ".join(
        f"{point.accuracy:.3f} with {point.rows:,} rows" for point in learned.curve
    )
    if learned.further:
        low, middle, high = (100 * each for each in (learned.further.low, learned.further.value, learned.further.high))
        yield f"  {value('further_rows'):.0f} more labels would add about {middle:.1f} points [{low:.1f}, {high:.1f}]"


def _price_lines(advice: Advice) -> Iterator[str]:
    measured, per_day = advice.measured, advice.wishes.per_day
    yield f"{'price and time of an answer':<46} {'ms':>8} {'USD a million':>19}" + (
        f" {'USD a day':>16}" if per_day else ""
    )
    speed = measured.speed
    yield _price_line(f"encoder, {speed.precision}, on this machine", speed.ms, (speed.usd_per_million,) * 2, per_day)
    if isinstance(measured.teacher, Teacher):
        for way in measured.teacher.ways:
            usd = None if way.usd_per_million is None else (way.usd_per_million,) * 2
            yield _price_line(f"{measured.teacher.model}, {_style(way.answer)}", way.ms, usd, per_day)
    for price in measured.decoders:
        yield _price_line(_decoder_name(price), price.ms, price.usd_per_million, per_day)
    limit = advice.wishes.p95_ms
    if limit is not None and speed.p95_ms > limit:
        yield f"  the encoder's 95th percentile is {speed.p95_ms:.1f} ms, above --p95: serve it in int8, or take a smaller one"


def _price_line(name: str, ms: float | None, usd: tuple[float, float] | None, per_day: float | None) -> str:
    line = f"  {name:<44} {'-' if ms is None else f'{ms:,.1f}':>8} {_range(usd):>19}"
    day = None if usd is None or per_day is None else (usd[0] * per_day / 1e6, usd[1] * per_day / 1e6)
    return f"{line} {_range(day):>16}" if per_day else line


def _question_lines(number: int, question: Question) -> list[str]:
    branch = f" -> {question.leads_to}" if question.leads_to else ""
    return [f"  {number}. {question.question} {question.answer}{branch}", *_wrapped(question.number, "     ")]


def _not_measured_lines(advice: Advice) -> Iterator[str]:
    teacher = advice.measured.teacher
    if isinstance(teacher, NotMeasured) or advice.measured.untimed or _unasked(advice):
        yield from ("", "not measured:")
    if names := _unasked(advice):
        yield from _wrapped(
            f"the time of an answer of {', '.join(names)}: none was asked; only the price is known.", "  "
        )
    for decoder in advice.measured.untimed:
        yield from _wrapped(
            f"the time of {decoder.what}: {decoder.why.rstrip('.')}. To measure it: {decoder.remedy}.", "  "
        )
    if isinstance(teacher, NotMeasured):
        cost = f"; it would cost {_range(teacher.usd)} USD" if teacher.usd else ""
        yield from _wrapped(
            f"whether a teacher reasons better than it answers at once: {teacher.why}{cost}. To measure it: {teacher.remedy}.",
            "  ",
        )


def _unasked(advice: Advice) -> list[str]:
    """The models whose prices alone are known."""
    return list(dict.fromkeys(price.model for price in advice.measured.decoders if price.ms is None))


def _decoder_name(price: DecoderPrice) -> str:
    return f"{price.model}, {_style(price.answer)}"


def _style(answer: str) -> str:
    return "chain of thought" if answer == "reasoned" else "direct"


def _range(usd: tuple[float, float] | None) -> str:
    if usd is None:
        return "not known"
    low, high = (f"{each:,.2f}" for each in usd)
    return low if low == high else f"{low}-{high}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
