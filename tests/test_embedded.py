"""The embedded model: a real GGUF in the process."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid.artifacts import fetch
from hybrid.config import LLMConfig
from hybrid.errors import ArtifactError, LLMError
from hybrid.llm import LLM, CachedLLM, FailureKind, ask_all, open_llm
from hybrid.llm.local.embedded import Embedded, bounded
from hybrid.llm.tasks.label import label_request, label_schema, read_vote

LABELS = ("negative", "positive")
CONFIG = LLMConfig(model="local", max_tokens=80, workers=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    pytest.importorskip("xllamacpp")
    try:
        fetch("smollm2-135m-instruct")
    except ArtifactError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("store")
    llm = open_llm(CONFIG, folder=folder, store=folder / "s.sqlite", role="decoder")
    assert isinstance(llm, CachedLLM)
    yield llm


@pytest.mark.slow
def test_a_real_model_answers_inside_the_schema_and_in_time(model: LLM) -> None:
    requests = [label_request("decide", text, LABELS, CONFIG) for text in ("I love it", "Awful. I hate it")]
    replies = ask_all(requests, model, CONFIG.workers)
    assert [reply.status for reply in replies] == ["ok", "ok"], [reply.reason for reply in replies]
    for reply in replies:
        assert list(json.loads(reply.text)) == ["rationale", "label", "confidence"]
        assert read_vote("1", reply, LABELS, teacher=model.name).status == "ok"
        assert reply.output_tokens <= 80
        assert reply.input_tokens > 50
        assert reply.cost_usd == 0.0
    assert ask_all(requests, model, 1) == replies
    assert isinstance(model, CachedLLM)
    assert (model.usage().calls, model.usage().hits) == (2, 2)


@pytest.mark.slow
def test_a_text_longer_than_the_context_fails_alone(model: LLM) -> None:
    reply = model.ask(label_request("decide", "word " * 6000, LABELS, CONFIG))
    assert (reply.status, reply.failure) == ("failed", FailureKind.LOCAL_ERROR)


@pytest.mark.slow
def test_a_file_that_is_no_model_is_one_clear_sentence(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "m.gguf").write_bytes(b"not a model")
    with pytest.raises(LLMError, match=r"m\.gguf: llama\.cpp cannot load it"):
        open_model(tmp_path)


def test_a_missing_model_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match=r"m\.gguf: no such file"):
        open_model(tmp_path)


class FakeParams:
    """The part of xllamacpp's parameters that is set here."""

    def __init__(self) -> None:
        self.model, self.cpuparams, self.cpuparams_batch = SimpleNamespace(), SimpleNamespace(), SimpleNamespace()


def test_a_local_model_computes_with_no_more_threads_than_the_quota_of_the_container_pays_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[FakeParams] = []
    monkeypatch.setitem(sys.modules, "xllamacpp", SimpleNamespace(CommonParams=FakeParams, Server=served.append))
    monkeypatch.setattr("hybrid.machine.cgroups.CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr("hybrid.machine.cgroups.MOUNT", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for quota in ("max 100000", "300000 100000"):
        (tmp_path / "cpu.max").write_text(quota)
        Embedded(tmp_path / "m.gguf")
    assert [(params.cpuparams.n_threads, params.cpuparams_batch.n_threads) for params in served] == [(8, 8), (3, 3)]


def open_model(folder: Path) -> LLM | None:
    return open_llm(LLMConfig(model="m.gguf"), folder=folder, store=None, role="decoder")


def test_only_free_strings_are_bounded() -> None:
    limited: dict[str, Any] = bounded(label_schema(LABELS), 100)
    assert limited["properties"]["rationale"]["maxLength"] == 120
    assert "maxLength" not in limited["properties"]["label"]
    assert "maxLength" not in label_schema(LABELS)["properties"]["rationale"]  # type: ignore[index]
    assert list(limited["properties"]) == ["rationale", "label", "confidence"]


@pytest.mark.slow
def test_labels_of_any_spelling_come_back_whole(model: LLM) -> None:
    labels = ('say "no"', "back\\slash", "Grüße, ß", "two\nlines")
    reply = model.ask(label_request("decide", "Grüße aus Köln", labels, CONFIG))
    assert read_vote("1", reply, labels, teacher=model.name).status == "ok", reply.text
    assert "\n" not in reply.text


@pytest.mark.slow
def test_a_second_row_reads_only_itself_anew(model: LLM) -> None:
    assert isinstance(model, CachedLLM)
    server = model._llm._server  # type: ignore[attr-defined]
    requests = [label_request("decide", f"It was row {n}.", LABELS, CONFIG) for n in range(2)]
    asked = [
        {"messages": [{"role": "system", "content": one.system}, {"role": "user", "content": one.user}]}
        for one in requests
    ]
    timings = [
        server.handle_chat_completions(one | {"max_tokens": 1, "cache_prompt": True})["timings"] for one in asked
    ]
    assert timings[1]["cache_n"] > 2 * timings[1]["prompt_n"]
