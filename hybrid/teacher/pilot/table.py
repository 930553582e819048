"""What the pilot prints: one line a way, what stands beside it, and the choice."""

from rich.table import Table

from hybrid.evaluation.intervals import Estimate
from hybrid.progress import Screen
from hybrid.teacher.pilot.choose import title
from hybrid.teacher.pilot.compare import FILE, Piloted
from hybrid.teacher.pilot.measure import Measured

COLUMNS = ("model", "way", "accuracy", "answered", "AUROC confidence", "AUROC votes", "$ a row", "$ job", "time")


def say_pilot(piloted: Piloted, screen: Screen) -> None:
    """Print a pilot: a drawn table on a terminal, plain columns elsewhere."""
    sources = ", ".join(f"{n} {source}" for source, n in piloted.trusted.items())
    screen.say(f"pilot of {piloted.recipe} on {piloted.rows} trusted rows ({sources}), 95 % intervals")
    _say_table(screen, [COLUMNS, *map(_cells, piloted.ways)])
    for line in [*_beside(piloted), *piloted.not_asked, "", *_chosen(piloted), f"  all of it in {FILE} of the run"]:
        screen.say(line if not line or line.startswith(" ") else f"  {line}")


def _say_table(screen: Screen, rows: list[tuple[str, ...]]) -> None:
    if screen.console.is_terminal:
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        screen.console.print(table)
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        screen.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(way: Measured) -> tuple[str, ...]:
    return (
        way.model,
        way.way.name,
        _figure(way.accuracy),
        f"{way.answered:.0%}",
        _figure(way.auroc_confidence),
        _figure(way.auroc_share),
        _dollars(way.cost_usd_a_row, 6),
        _dollars(way.cost_usd_job, 2),
        _duration(way.seconds_job),
    )


def _beside(piloted: Piloted) -> list[str]:
    return [
        f"given labels {_figure(piloted.given)}; TF-IDF on the {piloted.tfidf_rows:,} other rows at hand "
        f"{_figure(piloted.tfidf)}",
        *(f"{title(way)}: {_worth(way, piloted)}" for way in piloted.ways),
    ]


def _worth(way: Measured, piloted: Piloted) -> str:
    if way.worth_rows is None:
        return f"its labels are worth more than the {piloted.tfidf_rows:,} rows at hand are to TF-IDF"
    about = f"about {way.worth_rows:,} labelled rows" if way.worth_rows > piloted.curve[0].rows else "next to none"
    return f"as accurate as TF-IDF on {about}: its labels are worth fewer than the {piloted.tfidf_rows:,} at hand"


def _chosen(piloted: Piloted) -> list[str]:
    choice = piloted.choice
    if choice.way is None:
        return ["choice: none", f"  {choice.reason}", f"rule: {choice.rule}"]
    way = f"{choice.way.model}: {choice.way.name}"
    first = f"choice: {way}" if choice.ask else f"choice: do not ask; the nearest would be {way}"
    settings = (
        [
            f'  to run it so: --teacher {choice.way.model} --set verify.answer="{choice.way.answer}" '
            f"--set verify.votes={choice.way.votes}"
        ]
        if choice.ask
        else []
    )
    return [first, f"  {choice.reason}", *settings, f"rule: {choice.rule}"]


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
