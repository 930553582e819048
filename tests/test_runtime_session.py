"""The session: whole answers or errors, in a forked child too."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from hybrid.errors import BundleError
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits, set_up
from tests.tiny import unigram_tokenizer

LIMIT_S = 60

FORKS = """
import multiprocessing, os, sys, time
import numpy as np
import hybrid

classifier = hybrid.load(sys.argv[1], threads=2)
texts = ["The soup was awful and stale.", "superb bread"] * 20
wanted = classifier.probs(texts)


def answer():
    assert np.abs(classifier.probs(texts) - wanted).max() < 1e-5
    assert classifier.classify(["superb bread"])[0].label


child = os.fork()
if child == 0:
    answer()
    grandchild = os.fork()
    if grandchild == 0:
        answer()
        sys.exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

idle = os.fork()  # never asks the classifier, and must end all the same
if idle == 0:
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(idle, 0)[1]) == 0

worker = multiprocessing.get_context("fork").Process(target=answer)
worker.start()
worker.join()
assert worker.exitcode == 0
answer()
print("all answered")
"""

REPLACED = """
import os, shutil, sys
import hybrid
from hybrid.errors import BundleError

classifier = hybrid.load(sys.argv[1])
model = sys.argv[1] + "/model.onnx"
shutil.copy(model, model + ".new")
os.replace(model + ".new", model)
classifier.classify(["superb bread"])
child = os.fork()
if child == 0:
    try:
        classifier.classify(["superb bread"])
    except BundleError as error:
        sys.exit(7 if "replaced since it was loaded" in str(error) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(code: str, bundle: Path) -> str:
    """Return what the code prints in an interpreter of its own; one that hangs fails."""
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_forked_children_answer_and_end_whether_or_not_they_asked(finished: Path) -> None:
    assert run(FORKS, finished / "bundle") == "all answered"


@pytest.mark.slow
def test_a_child_does_not_open_a_graph_that_took_the_place_of_the_checked_one(finished: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for path in (finished / "bundle").iterdir():
        (bundle / path.name).write_bytes(path.read_bytes())
    assert run(REPLACED, bundle) == "7"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer whose readings cut at 8 tokens."""
    tokenizer = Tokenizer.from_str(unigram_tokenizer(["warm soup and bread"] * 9, 40).backend_tokenizer.to_str())
    set_up(tokenizer, TextLimits(max_length=8)).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write_graph(path: Path, *, scale: float, inputs: tuple[str, ...] = ("input_ids",)) -> None:
    """Write a graph with two logits: the sum of the token ids, times `scale`, and minus that."""
    shape = ["batch", "sequence"]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ids", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "factors"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("factors", TensorProto.FLOAT, [2], [scale, -scale]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, str(path))


def test_any_graph_of_the_folder_can_be_opened(folder: Path) -> None:
    write_graph(folder / "other.onnx", scale=0.5)
    encoder = Encoder(folder, n_labels=2, model="other.onnx")
    ids = encoder.encode(["warm soup"])[0].windows[0]
    assert encoder.logits(["warm soup"]).tolist() == [[sum(ids) / 2, -sum(ids) / 2]]


def test_what_is_no_number_is_an_error(folder: Path) -> None:
    write_graph(folder / "model.onnx", scale=float("nan"))
    with pytest.raises(BundleError, match="a logit is not a number"):
        Encoder(folder, n_labels=2).logits(["warm soup"])


def test_an_input_that_the_runtime_does_not_make_is_refused(folder: Path) -> None:
    write_graph(folder / "model.onnx", scale=1, inputs=("input_ids", "position_ids"))
    with pytest.raises(BundleError, match=r"inputs \['position_ids'\]; expected some of input_ids"):
        Encoder(folder, n_labels=2)


@pytest.mark.parametrize(("windows", "pooled"), [("mean", np.mean), ("max", np.max)])
def test_windows_of_a_text_are_answered_and_pooled(folder: Path, windows: str, pooled: np.ufunc) -> None:
    write_graph(folder / "model.onnx", scale=1)
    reading = TextLimits(max_length=8, windows=windows, overlap=2)  # type: ignore[arg-type]
    encoder = Encoder(folder, n_labels=2, reading=reading)
    texts = ["warm soup and bread and warm bread", "soup"]
    feeds = encoder.feeds(texts)
    assert [feed["input_ids"].shape[0] for feed in feeds] == [1] * len(feeds)
    sums = [float(feed["input_ids"].sum()) for feed in feeds]
    assert len(sums) > 3
    wanted = [[pooled(sums[:-1]), pooled(np.negative(sums[:-1]))], [sums[-1], -sums[-1]]]
    # Padding has id 0 here, so that it does not change the sum.
    assert np.allclose(encoder.logits(texts), wanted)


def test_feeds_hold_each_text_alone_without_padding(folder: Path) -> None:
    write_graph(folder / "model.onnx", scale=1, inputs=("input_ids", "attention_mask", "token_type_ids"))
    encoder = Encoder(folder, n_labels=2)
    for feed, one in zip(
        encoder.feeds(["warm soup and bread", "soup"]), encoder.encode(["warm soup and bread", "soup"]), strict=True
    ):
        assert feed["input_ids"].tolist() == [one.windows[0]]
        assert feed["attention_mask"].tolist() == [[1] * len(one)]
        assert feed["token_type_ids"].tolist() == [[0] * len(one)]
