"""How many processes score on a machine: by its processors and memory, which are given here."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid.scoring import work
from hybrid.scoring.work import MEMORY_A_BYTE, PARTS_A_WORKER, OnThisMachine

GIB = 1 << 30
LEAST_GRAPH = 1 << 26


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Processes and threads of each engine that is begun; none is where the work stays in this process."""
    begun: list[tuple[int, int]] = []

    class Places:
        def __init__(self, *_: Any) -> None:
            pass

        def answer(self, *_: Any) -> Iterator[Any]:
            return iter(())

    monkeypatch.setattr(work, "LocalEngine", lambda workers, threads: begun.append((workers, threads)))
    monkeypatch.setattr(work, "OnEngine", Places)
    monkeypatch.setattr(work, "Here", Places)
    return begun


@pytest.mark.parametrize(
    ("processors", "available", "parts", "begun"),
    [
        (1, 64 * GIB, 1000, []),
        (2, 64 * GIB, 2 * PARTS_A_WORKER - 1, []),
        (2, 64 * GIB, 2 * PARTS_A_WORKER, [(2, 1)]),
        (64, 64 * GIB, 4 * PARTS_A_WORKER, [(4, 16)]),
        (8, 64 * GIB, 1000, [(8, 1)]),
        (8, 6 * MEMORY_A_BYTE * LEAST_GRAPH, 1000, [(3, 2)]),
        (8, MEMORY_A_BYTE * LEAST_GRAPH, 1000, []),
        (4, None, 1000, [(4, 1)]),
    ],
)
def test_processes_are_as_many_as_pay_and_fit(
    processors: int,
    available: int | None,
    parts: int,
    begun: list[tuple[int, int]],
    engines: list[tuple[int, int]],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "usable_threads", lambda: processors)
    monkeypatch.setattr(work, "memory", lambda: SimpleNamespace(available=available))
    classifier: Any = SimpleNamespace(bundle=SimpleNamespace(files={"model.onnx": "digest"}))
    (tmp_path / "model.onnx").write_bytes(b"small")
    place = OnThisMachine(classifier, tmp_path, "onnxruntime", workers=None, threads=None)
    output: Any = None
    assert list(place.answer(output, list(range(parts)))) == []
    assert engines == begun


def test_what_is_asked_for_is_taken(
    engines: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(work, "usable_threads", lambda: 4)
    classifier: Any = SimpleNamespace(bundle=SimpleNamespace(files={}))
    output: Any = None
    for workers, threads in ((3, None), (2, 5), (None, 2), (1, None)):
        list(OnThisMachine(classifier, tmp_path, "onnxruntime", workers=workers, threads=threads).answer(output, [0]))
    assert engines == [(3, 1), (2, 5), (1, 2)]
