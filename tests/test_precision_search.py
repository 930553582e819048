"""quantize: what is served has shown on real rows that it decides as fp32 does, or it is fp32."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from hybrid.config import QuantizeConfig
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.deberta_onnx import export_deberta
from hybrid.encoders.linears import find_linears
from hybrid.errors import ExportError
from hybrid.precisions import PRECISIONS, ServedPrecision, ladder
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages import quantize as stage
from hybrid.stages.quantize import Quantized, quantize
from hybrid.types import Example, Precision
from tests.corpus import LABELS, texts_and_gold

TEXTS, GOLD = texts_and_gold(400)
ROWS = [Example(id=str(i), text=text, label=label) for i, (text, label) in enumerate(zip(TEXTS, GOLD, strict=True))]
BELOW_FP32 = ladder(portable=False)
EASY = QuantizeConfig(margin=0.5, agreement=0.5)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(deberta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeBERTa-v3 with a fresh head as fp32 graph, with its tokenizer."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("exported")
    write_tokenizer(load_tokenizer(deberta), folder / "tokenizer.json", TextLimits(max_length=32))
    model = load_classifier(deberta, LABELS)
    export_deberta(model, ("input_ids", "attention_mask"), folder / "model.onnx", opset=20)
    return folder


def quantized(exported: Path, folder: Path, config: QuantizeConfig, *, portable: bool = False) -> Quantized:
    return quantize(
        ROWS,
        LABELS,
        config,
        exported=exported,
        folder=folder,
        range_texts=TEXTS[:40],
        reading=TextLimits(max_length=32),
        seed=0,
        portable=portable,
    )


def test_a_portable_bundle_gets_a_precision_that_every_processor_computes_alike(exported: Path, tmp_path: Path) -> None:
    assert ladder(portable=True) == ["int7_mixed", "int7_row", "int8_weights"]
    assert set(ladder(portable=True)) - {"int8_weights"} == {name for name in PRECISIONS if name.startswith("int7")}
    found = quantized(exported, tmp_path, EASY, portable=True)
    assert [trial.precision for trial in found.trials] == ["int7_mixed"]
    named = msgspec.structs.replace(EASY, precision="int8_row")
    assert quantized(exported, tmp_path, named, portable=True).precision == "int8_row"


def test_the_fastest_precision_that_holds_every_gate_is_served(exported: Path, tmp_path: Path) -> None:
    found = quantized(exported, tmp_path, EASY)
    assert found.precision == BELOW_FP32[0]
    assert [trial.passed for trial in found.trials] == [True]
    assert (tmp_path / "model.onnx").stat().st_size == found.trials[0].bytes
    served = Encoder(tmp_path, n_labels=len(LABELS)).logits(TEXTS)
    assert np.abs(served - Encoder(exported, n_labels=len(LABELS)).logits(TEXTS)).max() > 0
    assert not (tmp_path / "trial.onnx").exists()


def test_what_fails_falls_back_to_fp32_and_every_trial_names_its_gate(exported: Path, tmp_path: Path) -> None:
    found = quantized(exported, tmp_path, QuantizeConfig(margin=1e-9))
    assert found.precision == "fp32"
    assert [trial.precision for trial in found.trials] == BELOW_FP32
    assert {trial.failed_gate for trial in found.trials} <= {"accuracy", "macro_f1", "agreement"}
    assert (tmp_path / "model.onnx").read_bytes() == (exported / "model.onnx").read_bytes()
    half = found.trials[BELOW_FP32.index("int8_half")].fp32_linears
    assert set(found.trials[BELOW_FP32.index("int8_partial")].fp32_linears) < set(half)


def test_few_rows_cannot_show_that_nothing_is_lost(exported: Path, tmp_path: Path) -> None:
    config = QuantizeConfig(precision="int8_weights", agreement=0.0)
    with pytest.raises(
        ExportError, match=r"accuracy may fall by up to \d\.\d+ points \(at 95%\), expected at most 0\.5"
    ):
        quantized(exported, tmp_path, config)


def test_too_little_agreement_stops_a_precision_that_is_demanded(exported: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(EASY, precision="int8_static", agreement=1.0)
    with pytest.raises(ExportError, match=r"quantize\.precision = 'int8_static': it decides .*set it to \"auto\" or"):
        quantized(exported, tmp_path, config)


def test_plain_dynamic_quantization_is_stopped_because_neighbours_move_its_answers(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dynamic(_source: object, _precision: Precision, path: Path, **_: object) -> list[str]:
        quantize_dynamic(exported / "model.onnx", path, weight_type=QuantType.QInt8)
        return []

    monkeypatch.setattr(stage, "write_graph_at", dynamic)
    with pytest.raises(ExportError, match="neighbours in a batch move a probability by"):
        quantized(exported, tmp_path, msgspec.structs.replace(EASY, precision="int8_static"))


@pytest.mark.parametrize("precision", ["fp32", "int8_row", "int8_weights"])
def test_a_precision_that_is_demanded_and_holds_is_served(precision: Precision, exported: Path, tmp_path: Path) -> None:
    found = quantized(exported, tmp_path, msgspec.structs.replace(EASY, precision=precision))
    assert found.precision == precision
    assert [trial.precision for trial in found.trials] == ([] if precision == "fp32" else [precision])
    assert set(found.report["ms_a_text"]) == {"fp32", precision}  # type: ignore[call-overload]


def test_a_precision_is_added_by_one_line_of_the_table(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRECISIONS, "int8_narrow", ServedPrecision(narrow="row"))
    config = msgspec.structs.replace(EASY, precision="int8_narrow")
    found = quantized(exported, tmp_path, config)
    assert found.precision == "int8_narrow"
    narrow = {linear.name for linear in find_linears(onnx.load(exported / "model.onnx")) if linear.narrows}
    assert narrow
    assert narrow.isdisjoint(found.trials[0].fp32_linears)


def test_the_recipe_names_a_precision_of_the_table_or_none() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"precision = 'int4': expected auto, int8_static, .*, fp32"):
        msgspec.convert({"precision": "int4"}, QuantizeConfig)
