"""The bundle's model card: what the model is, what it was trained on, how far to trust it."""

from hybrid.pipeline.context import RunContext
from hybrid.report.data_card_counts import Tally
from hybrid.report.step_gains import decoder_name, variant_name
from hybrid.report.templates import template
from hybrid.types import Report


def render_card(story: RunContext, counts: Tally, summary: Report, *, made_from: str) -> str:
    """Return the card in Markdown, every figure from receipts and summary. `made_from` ends it, in a comment."""
    evaluated = story.run.report("evaluate")
    return template("card.md").render(
        made_from=made_from,
        counts=counts,
        summary=summary,
        recipe=story.recipe,
        labels=story.labels,
        served=summary["test"][summary["served"]],
        trained_on=variant_name(summary["served"]),
        decoder=decoder_name(summary),
        recall=evaluated["recall"],
        micro_f1={
            "value": evaluated["encoder"].get("micro_f1"),
            "interval": evaluated["encoder"].get("micro_f1_interval"),
        },
    )
