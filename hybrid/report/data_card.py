"""The bundle's data card: where the training labels come from, who changed which, and what that cost."""

from hybrid.pipeline.context import RunContext
from hybrid.report.data_card_counts import Tally
from hybrid.report.templates import template
from hybrid.types import Report

MOST_CHANGES = 20


def render_data_card(story: RunContext, counts: Tally, summary: Report, *, made_from: str) -> str:
    """Return the card in Markdown, every figure from the receipts or the summary. `made_from` ends it, in a comment."""
    return template("data-card.md").render(
        made_from=made_from,
        summary=summary,
        counts=counts,
        changes=list(counts.changes.items())[:MOST_CHANGES],
        recipe=story.recipe,
        labels=story.labels if story.recipe.task == "single_label" else sorted({*counts.given, *counts.decided}),
        dealt=story.run.report("split"),
        cleaned=story.run.report("clean"),
    )
