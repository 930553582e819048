"""export: the checkpoint as an ONNX graph that is shown to compute the same."""

from hybrid.config import Recipe
from hybrid.stages.stage import LABELS, PARITY, ROWS, Reads, Stage, StageIO
from hybrid.types import Report


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("export", "encoder"),
        tables=(ROWS,),
        files=("train/checkpoint/config.json", "train/checkpoint/model.safetensors", "train/checkpoint/tokenizer.json"),
        reports=(LABELS,),
    )


def _work(io: StageIO) -> Report:
    from hybrid.encoders.exporting import export

    exported = export(
        io.input_folder("train/checkpoint"),
        io.rows("train"),
        io.labels,
        io.recipe.export,
        folder=io.output("export"),
        reading=io.limits,
        on_done=io.advance,
    )
    io.write(PARITY, exported.parity)
    return exported.report


EXPORT = Stage(
    name="export",
    purpose="checkpoint -> ONNX graph",
    version=2,
    reads=_reads,
    writes=("export/model.onnx", "export/tokenizer.json", PARITY.path),
    code=("hybrid.encoders", "hybrid.runtime"),
    work=_work,
    summary_line=lambda r: f"{r['bytes'] / 1e6:.0f} MB, largest difference of a logit {r['max_abs_diff']:.1e}",
)
