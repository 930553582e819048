"""The story: the stages in their order, what each reads and what it leaves on disk."""

from hybrid.pipeline.context import RunContext
from hybrid.pipeline.data import clean, split, synthesize, verify
from hybrid.pipeline.judge import calibrate, evaluate
from hybrid.pipeline.model import export, quantize, train


def run_stages(story: RunContext) -> None:
    """Take a recipe from data to a judged bundle. What is finished and unchanged is skipped."""
    story.check_llms()
    split(story)
    verify(story)
    clean(story)
    synthesize(story)
    train(story)
    export(story)
    quantize(story)
    calibrate(story)
    evaluate(story)
