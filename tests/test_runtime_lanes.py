"""Many rows at once: every row gets its own output, from whatever thread and in whatever batch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hybrid.runtime.session import Session
from hybrid.runtime.session_pool import FEW_TOKENS, TOKENS_A_BATCH, SessionPool, batches_of
from tests.test_runtime_session import write_graph

RNG = np.random.default_rng(0)
ROWS = [RNG.integers(1, 1000, n).tolist() for n in RNG.integers(1, 60, 400)]


def opened(folder: Path, threads: int) -> SessionPool:
    write_graph(folder / "model.onnx", scale=1.0)
    return SessionPool(Session(folder / "model.onnx", threads=threads), pad_id=0)


def check(rows: list[list[int]], outputs: np.ndarray) -> None:
    assert outputs[:, 0].tolist() == [sum(row) for row in rows]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 8))
def test_every_row_is_in_one_batch_under_the_cap_and_no_thread_idles(lengths: list[int], threads: int) -> None:
    batches = batches_of(lengths, threads)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    padded = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
    most = max(FEW_TOKENS, min(TOKENS_A_BATCH, -(-sum(lengths) // threads)))
    assert all(tokens <= most or len(batch) == 1 for tokens, batch in zip(padded, batches, strict=True))
    if len(lengths) >= threads and min(lengths) >= FEW_TOKENS:
        assert len(batches) >= threads


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_come_in_the_order_of_the_rows_and_every_row_is_counted(threads: int, tmp_path: Path) -> None:
    lanes, counted = opened(tmp_path, threads), []
    check(ROWS, lanes.run(ROWS, on_done=lambda done, of: counted.append((done, of))))
    assert counted[-1] == (len(ROWS), len(ROWS))
    assert counted == sorted(counted)
    check(ROWS[:1], lanes.run(ROWS[:1]))


def test_callers_in_many_threads_get_their_own_rows(tmp_path: Path) -> None:
    lanes = opened(tmp_path, 2)
    parts = [ROWS[start : start + 20] for start in range(0, len(ROWS), 20)]
    with ThreadPoolExecutor(8) as callers:
        for part, outputs in zip(parts, callers.map(lanes.run, parts), strict=True):
            check(part, outputs)


def test_a_row_that_the_graph_raises_on_is_an_error_and_the_next_call_is_none(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "axis"], ["logits"], keepdims=0),
    ]
    table = np.stack([np.arange(1000), -np.arange(1000)], axis=1).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, str(tmp_path / "model.onnx"))
    lanes = SessionPool(Session(tmp_path / "model.onnx", threads=2), pad_id=0)
    with pytest.raises(Exception, match="out of data bounds"):
        lanes.run([*ROWS[:20], [5000] * 9, *ROWS[20:]])
    check(ROWS, lanes.run(ROWS))


def test_a_graph_that_took_the_place_of_the_checked_one_is_not_opened_beside_it(tmp_path: Path) -> None:
    lanes = opened(tmp_path, 2)
    write_graph(tmp_path / "other.onnx", scale=-1.0)
    (tmp_path / "other.onnx").replace(tmp_path / "model.onnx")
    check(ROWS, lanes.run(ROWS))


def test_a_large_graph_is_not_in_memory_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(tmp_path / "model.onnx", scale=1.0)
    session = Session(tmp_path / "model.onnx", threads=2)
    assert session.with_one_thread().threads == 1
    monkeypatch.setattr("hybrid.runtime.session.MAX_BYTES_TWICE", 10)
    assert session.with_one_thread() is session
    check(ROWS, SessionPool(session, pad_id=0).run(ROWS))
