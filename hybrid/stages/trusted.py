"""The trusted rows of a run, for the stages that learn from them: a share of the gold, an audit, a review's answers."""

from hybrid.config import Recipe
from hybrid.data.escalated_rows import read_added, trusted_of
from hybrid.data.trusted import read_reviewed, trusted_rows
from hybrid.stages.stage import GOLD, LABELS, ROWS, Reads, StageIO
from hybrid.types import Report, Trusted


def trusted_reads(recipe: Recipe) -> Reads:
    """What the trusted rows are made from. Gold is read only where the recipe declares some of it trusted."""
    return Reads(
        settings=("data.trusted", "task", "seed"),
        tables=(ROWS, GOLD) if recipe.data.trusted else (ROWS,),
        reports=(LABELS,),
        recipe_files=("data.audit",),
        shared_files=("reviewed", "escalated"),
    )


def trusted_rows_of(io: StageIO) -> list[Trusted]:
    """The training rows whose labels the user vouches for, in row order: the only gold that trains."""
    if io.recipe.task == "multi_label":
        return []
    rows, n_gold = io.rows(), io.recipe.data.trusted
    vouched = trusted_rows(
        rows,
        io.read(GOLD) if n_gold else [],
        io.labels,
        n_gold=n_gold,
        audit=io.recipe_files("data.audit"),
        reviewed=io.shared_file("reviewed"),
        seed=io.recipe.seed,
    )
    added = trusted_of(rows, read_added(io.shared_file("escalated"), io.labels))
    added_ids = {row.id for row in added}
    return [*(row for row in vouched if row.id not in added_ids), *added]


def unused_answers(io: StageIO) -> Report:
    """How many answers of reviews train nothing: their text is no longer among the rows, or it calibrates or tests."""
    if io.recipe.task == "multi_label" or not io.shared_file("reviewed").exists():
        return {"gone": 0, "judging": 0}
    reviewed = read_reviewed(io.shared_file("reviewed"), io.rows(), io.labels)
    return {"gone": reviewed.n_gone, "judging": reviewed.n_judging}
