"""The stages of a run, in their order: the one list that running, reports, requantizing, estimates and tests read."""

from hybrid.config import Recipe
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.stamps import stamp_key
from hybrid.stages.calibrate import CALIBRATE
from hybrid.stages.clean import CLEAN
from hybrid.stages.evaluate import EVALUATE
from hybrid.stages.export import EXPORT
from hybrid.stages.quantize import QUANTIZE
from hybrid.stages.split import SPLIT
from hybrid.stages.stage import Stage
from hybrid.stages.student import STUDENT
from hybrid.stages.synthesize import SYNTHESIZE
from hybrid.stages.train import TRAIN
from hybrid.stages.verify import VERIFY

STAGES: tuple[Stage, ...] = (
    SPLIT,
    VERIFY,
    CLEAN,
    SYNTHESIZE,
    TRAIN,
    EXPORT,
    QUANTIZE,
    STUDENT,
    CALIBRATE,
    EVALUATE,
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages that a run of the recipe goes through."""
    return tuple(stage for stage in STAGES if stage.is_part_of(recipe))


def stage_names(recipe: Recipe) -> tuple[str, ...]:
    """The names of the stages that a run of the recipe goes through."""
    return tuple(stage.name for stage in stages_of(recipe))


def run_stages(context: RunContext) -> None:
    """Take a recipe from data to a judged bundle. What is finished and unchanged is skipped."""
    context.check_llms()
    for stage in stages_of(context.recipe):
        run_stage(stage, context)


def run_stage(stage: Stage, context: RunContext) -> None:
    """Bring one stage up to date; the stages that it reads from are."""
    reads = stage.reads(context.recipe)
    key = stamp_key(stage, context, reads)
    context.run.do(
        stage.name,
        key=key,
        outputs=stage.writes,
        may_write=stage.may_write,
        work=lambda: stage.work(context.io(stage, reads, key=key)),
        summary_line=stage.summary_line,
    )
