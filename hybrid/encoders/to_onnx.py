"""Exports a checkpoint as an ONNX graph of standard operators, with torch's exporter."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from hybrid.encoders.evidence import evidence_logits, head_of
from hybrid.runtime.engines.open_graph import EVIDENCE

TRACED_SHAPE = (2, 16)  # the exporter would take an axis of size 1 for a constant


class _Logits(torch.nn.Module):
    """The classifier as a function of its inputs in a fixed order: its logits, and those of its evidence head if it has one."""

    def __init__(self, model: Any, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self._model = model
        self._names = inputs

    def forward(self, *inputs: torch.Tensor) -> Any:
        features = dict(zip(self._names, inputs, strict=True))
        if head_of(self._model) is None:
            return self._model(**features).logits
        outputs = self._model(**features, output_hidden_states=True)
        return outputs.logits, evidence_logits(self._model, outputs.hidden_states)


def export_onnx(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write the fp32 graph of a sequence classifier; batch and length stay dynamic.

    The graph has the inputs named, int64 [batch, sequence], the output `logits` [batch, k], and where the model has an
    evidence head that head's logits [batch, sequence]. Traces of the exporting machine (file names, stack traces) are
    removed, so that the same checkpoint gives the same bytes.
    """
    model = model.to("cpu").float().eval()
    # torch's fused attention becomes a third more nodes (it guards against rows without any key), and slower ones.
    model.set_attn_implementation("eager")
    examples = tuple(torch.ones(TRACED_SHAPE, dtype=torch.int64) for _ in inputs)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet():
        program = torch.onnx.export(
            _Logits(model, inputs),
            examples,
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=["logits", *([] if head_of(model) is None else [EVIDENCE])],
            dynamic_shapes=(tuple(axes for _ in inputs),),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    onnx.save_model(proto, str(path))


def _strip(proto: onnx.ModelProto) -> None:
    """Remove metadata that differs between machines and is not used for serving."""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    proto.doc_string = proto.graph.doc_string = ""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*proto.graph.initializer, *proto.graph.input, *proto.graph.output]:
        del value.metadata_props[:]
        value.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporter, which prints advice for its developers."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)
