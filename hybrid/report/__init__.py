"""What a run came to: `summary.json`, `report.html` and the bundle's model card."""

from collections.abc import Sequence

from hybrid.report.summary import SeedFigures, summarise
from hybrid.story import Story
from hybrid.table import write_json


def write_outcome(story: Story, figures: Sequence[SeedFigures]) -> None:
    """Write summary, report and model card where a stage worked or one of them is missing."""
    run = story.run
    summary = summarise(story, figures)
    write_json(run.path("summary.json"), summary)
