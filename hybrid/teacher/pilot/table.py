"""Print a pilot: one line per strategy, the baseline, and the choice."""

from hybrid.evaluation.intervals import Estimate
from hybrid.progress import Screen
from hybrid.teacher.pilot.choose import title
from hybrid.teacher.pilot.compare import FILE, Piloted
from hybrid.teacher.pilot.measure import Measured

COLUMNS = (
    "model",
    "strategy",
    "accuracy",
    "answered",
    "AUROC confidence",
    "AUROC votes",
    "$ per row",
    "$ per job",
    "time",
)


def print_pilot(piloted: Piloted, screen: Screen) -> None:
    """Print a pilot as a table in plain columns, and the choice."""
    sources = ", ".join(f"{n} {source}" for source, n in piloted.trusted.items())
    screen.say(f"pilot of {piloted.recipe} on {piloted.rows} trusted rows ({sources}), 95 % intervals")
    _print_table(screen, [COLUMNS, *map(_cells, piloted.ways)])
    for line in [
        *_baseline_lines(piloted),
        *piloted.not_asked,
        "",
        *_choice_lines(piloted),
        f"  all figures are in {FILE} of the run",
    ]:
        screen.say(line if not line or line.startswith(" ") else f"  {line}")


def _print_table(screen: Screen, rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        screen.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(measured: Measured) -> tuple[str, ...]:
    return (
        measured.model,
        measured.strategy.name,
        _figure(measured.accuracy),
        f"{measured.answered:.0%}",
        _figure(measured.auroc_confidence),
        _figure(measured.auroc_share),
        _dollars(measured.cost_usd_a_row, 6),
        _dollars(measured.cost_usd_job, 2),
        _duration(measured.seconds_job),
    )


def _baseline_lines(piloted: Piloted) -> list[str]:
    return [
        f"given labels {_figure(piloted.given)}; TF-IDF on the {piloted.tfidf_rows:,} other labelled rows "
        f"{_figure(piloted.tfidf)}",
        *(f"{title(measured)}: {_equivalent_rows(measured, piloted)}" for measured in piloted.ways),
    ]


def _equivalent_rows(measured: Measured, piloted: Piloted) -> str:
    if measured.worth_rows is None:
        return f"its labels are worth more than the {piloted.tfidf_rows:,} labelled rows are to TF-IDF"
    about = (
        f"about {measured.worth_rows:,} labelled rows"
        if measured.worth_rows > piloted.curve[0].rows
        else "next to none"
    )
    return f"as accurate as TF-IDF on {about}: its labels are worth fewer than the {piloted.tfidf_rows:,} there are"


def _choice_lines(piloted: Piloted) -> list[str]:
    choice = piloted.choice
    if choice.way is None:
        return ["choice: none", f"  {choice.reason}", f"rule: {choice.rule}"]
    strategy = f"{choice.way.model}: {choice.way.name}"
    headline = f"choice: {strategy}" if choice.ask else f"choice: do not ask; the nearest would be {strategy}"
    settings = (
        [
            f'  to use it: --teacher {choice.way.model} --set verify.answer="{choice.way.answer}" '
            f"--set verify.votes={choice.way.votes}"
        ]
        if choice.ask
        else []
    )
    return [headline, f"  {choice.reason}", *settings, f"rule: {choice.rule}"]


def _figure(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _dollars(cost: float | None, digits: int) -> str:
    return "unknown" if cost is None else f"{cost:.{digits}f}"


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 7200
        else f"{seconds / 60:.0f} min"
        if seconds >= 120
        else f"{seconds:.0f} s"
    )
