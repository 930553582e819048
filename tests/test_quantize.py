"""int8 that no neighbour moves: the graphs of every precision, beside fp32 and beside plain dynamic quantization."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.deberta_onnx import export_deberta
from hybrid.encoders.ladder import RUNGS, read_source, sensitivities, write_rung
from hybrid.encoders.linears import find_linears
from hybrid.encoders.quantize import quantized
from hybrid.encoders.to_onnx import export_onnx
from hybrid.runtime.reading import Reading
from hybrid.types import Precision
from tests.corpus import LABELS, texts_and_gold

pytestmark = pytest.mark.slow
BELOW_FP32 = RUNGS[:-1]
TEXTS = [*texts_and_gold(120)[0], "short", "long " * 60]
Feed = dict[str, np.ndarray]


@pytest.fixture(params=["bert", "deberta"], scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 graph of a family with its tokenizer, in a folder."""
    encoder = request.getfixturevalue(request.param)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = load_tokenizer(encoder)
    model = load_classifier(encoder, LABELS)
    with torch.no_grad():
        for layer in (model.bert if request.param == "bert" else model.deberta).encoder.layer:
            layer.output.LayerNorm.weight[3] *= 12  # real encoders have features that outlie the others
    write_tokenizer(tokenizer, folder / "tokenizer.json", Reading(max_length=32))
    export = export_onnx if request.param == "bert" else export_deberta
    export(model, ("input_ids", "attention_mask"), folder / "model.onnx", opset=20)
    return folder


def feeds(folder: Path, batches: list[list[int]]) -> Iterator[Feed]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for rows in batches:
        encoded = tokenizer.encode_batch([TEXTS[i] for i in rows])
        yield {
            "input_ids": np.array([one.ids for one in encoded]),
            "attention_mask": np.array([one.attention_mask for one in encoded]),
        }


def alone() -> list[list[int]]:
    return [[i] for i in range(len(TEXTS))]


def probs(path: Path, folder: Path, batches: list[list[int]]) -> np.ndarray:
    """Return the probabilities of every text [n, k], answered in the batches given."""
    session = onnxruntime.InferenceSession(path)
    found = np.empty((len(TEXTS), len(LABELS)))
    for rows, feed in zip(batches, feeds(folder, batches), strict=True):
        logits = session.run(None, feed)[0].astype(np.float64)
        found[rows] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return found


def batchings(n: int) -> Iterator[list[list[int]]]:
    """Yield `n` random ways to put all texts in batches of up to 32."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        order = rng.permutation(len(TEXTS)).tolist()
        cuts = sorted({0, len(order), *rng.integers(1, len(order), 8).tolist()})
        yield [order[a:b] for a, b in pairwise(cuts)]


def moved_by_neighbours(path: Path, folder: Path) -> tuple[float, int]:
    """Return the largest change of a probability over five batchings, and how many decisions changed."""
    single = probs(path, folder, alone())
    together = [probs(path, folder, batches) for batches in batchings(5)]
    largest = max(float(np.abs(one - single).max()) for one in together)
    return largest, sum(int((one.argmax(axis=1) != single.argmax(axis=1)).sum()) for one in together)


@pytest.mark.parametrize("precision", BELOW_FP32)
def test_no_neighbour_and_no_padding_moves_an_answer(precision: Precision, exported: Path, tmp_path: Path) -> None:
    source = read_source(exported / "model.onnx", list(feeds(exported, alone()[:40])))
    write_rung(source, precision, tmp_path / "model.onnx", sensitive=[linear.name for linear in source.linears])
    shift, changed = moved_by_neighbours(tmp_path / "model.onnx", exported)
    assert shift < 1e-5
    assert changed == 0


def test_plain_dynamic_quantization_fails_the_same_test(exported: Path, tmp_path: Path) -> None:
    quantize_dynamic(exported / "model.onnx", tmp_path / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)
    shift, _ = moved_by_neighbours(tmp_path / "model.onnx", exported)
    assert shift > 1e-3


@pytest.mark.parametrize("precision", BELOW_FP32)
def test_every_precision_stays_near_fp32_and_is_smaller(precision: Precision, exported: Path, tmp_path: Path) -> None:
    source = read_source(exported / "model.onnx", list(feeds(exported, alone()[:40])))
    kept = write_rung(source, precision, tmp_path / "model.onnx", sensitive=[linear.name for linear in source.linears])
    exact = probs(exported / "model.onnx", exported, alone())
    assert np.abs(probs(tmp_path / "model.onnx", exported, alone()) - exact).mean() < 0.02
    assert (tmp_path / "model.onnx").stat().st_size < (exported / "model.onnx").stat().st_size
    assert bool(kept) == (precision in ("int8_partial", "int8_half"))


def test_onnxruntime_makes_one_kernel_of_every_product(exported: Path, tmp_path: Path) -> None:
    source = read_source(exported / "model.onnx", list(feeds(exported, alone()[:8])))
    for precision in ("int8_static", "int8_row"):
        write_rung(source, precision, tmp_path / "model.onnx")
        model = onnx.load(tmp_path / "model.onnx")
        onnx.checker.check_model(model)
        assert {node.domain for node in model.graph.node} == {""}
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
        kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert kinds.count("MatMulIntegerToFloat") == len(source.linears)
        assert "MatMulInteger" not in kinds


def test_outlying_features_are_smoothed_and_that_makes_the_answers_more_exact(exported: Path, tmp_path: Path) -> None:
    source = read_source(exported / "model.onnx", list(feeds(exported, alone()[:40])))
    names = {linear.name: "static" for linear in source.linears}
    exact = probs(exported / "model.onnx", exported, alone())
    errors = {}
    for smoothed in (True, False):
        model = quantized(source.model, names, source.ranges, outlier=4 if smoothed else np.inf)
        assert any(name.name.endswith(".smoothing") for name in model.graph.initializer) == smoothed
        onnx.save_model(model, str(tmp_path / "model.onnx"))
        errors[smoothed] = np.abs(probs(tmp_path / "model.onnx", exported, alone()) - exact).mean()
    assert errors[True] < errors[False]


def test_the_sensitivity_names_the_linear_map_that_int8_harms_most(exported: Path, tmp_path: Path) -> None:
    source = read_source(exported / "model.onnx", list(feeds(exported, alone()[:20])))
    wanted = {linear.name for linear in source.linears if not linear.narrows}

    def probe(path: Path) -> np.ndarray:
        return probs(path, exported, alone())

    found = sensitivities(source, probe, tmp_path / "model.onnx")
    assert set(found) == wanted
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert next(iter(found.values())) > 0


def test_the_last_linear_map_stays_as_it_is(exported: Path) -> None:
    model = onnx.load(exported / "model.onnx")
    assert all(linear.n_outputs != len(LABELS) for linear in find_linears(model))
