"""The table of backends: which one opens a section of a recipe, and what is known of it beforehand."""

from pathlib import Path

import pytest

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError, LLMError
from hybrid.llm import BACKENDS, Backend, Reply, Request, backend_of, open_llm
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.recipe_files.read import read_recipe

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("config", "name", "traits"),
    [
        (LLMConfig(), "none", {"is_absent"}),
        (LLMConfig(model="recorded", traces="t.jsonl"), "recorded", {"is_recorded"}),
        (LLMConfig(model="local"), "local", {"is_local", "is_live"}),
        (LLMConfig(model="models/m.gguf"), "gguf", {"is_local", "is_live", "model_is_path"}),
        (LLMConfig(model="hf:owner/repo/m.gguf"), "hub_gguf", {"is_local", "is_live"}),
        (LLMConfig(model="m.gguf", base_url=URL), "server", {"is_paid", "is_live"}),
        (LLMConfig(model="claude-x", base_url=URL), "server", {"is_paid", "is_live"}),
        (LLMConfig(model="claude-x"), "claude", {"is_paid", "is_live"}),
    ],
    ids=lambda value: value.model if isinstance(value, LLMConfig) else None,
)
def test_each_model_has_one_backend_with_its_traits(config: LLMConfig, name: str, traits: set[str]) -> None:
    backend = backend_of(config)
    assert backend.name == name
    known = ("is_absent", "is_recorded", "is_local", "is_live", "is_paid", "model_is_path")
    assert {trait for trait in known if getattr(backend, trait)} == traits


def test_an_unknown_model_is_refused_with_every_backend_of_the_table() -> None:
    with pytest.raises(ConfigError, match=r"second\.model = 'gpt': unknown") as refused:
        backend_of(LLMConfig(model="gpt"), "second")
    assert all(backend.model in str(refused.value) for backend in BACKENDS)


def test_a_recipe_is_refused_where_it_names_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.toml: teacher\.model = 'gpt': unknown"):
        read_recipe(recipe(tmp_path, "gpt"))


class Echo:
    """A model that answers with the row's text."""

    name = "echo"

    def ask(self, request: Request) -> Reply:
        return Reply(status="ok", text=request.text, model=self.name, cost_usd=0.0)


def test_a_backend_is_added_by_one_entry_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = Backend(
        name="echo",
        model="'echo'",
        matches=lambda config: config.model == "echo",
        open=lambda config, surroundings: Echo(),
        is_local=True,
    )
    monkeypatch.setattr("hybrid.llm.backends.BACKENDS", (*BACKENDS, echo))
    teacher = read_recipe(recipe(tmp_path, "echo")).teacher
    assert backend_of(teacher) is echo
    llm = open_llm(teacher, role="teacher")
    assert llm is not None
    assert llm.ask(Request(system="", user="", schema={}, max_tokens=1, text="hello")).text == "hello"
    with pytest.raises(ConfigError, match="or 'echo'"):
        backend_of(LLMConfig(model="gpt"))


def recipe(folder: Path, model: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(f'name = "r"\nlabels = ["a", "b"]\n[data]\ntrain = "d.csv"\n[teacher]\nmodel = "{model}"\n')
    return path


def test_the_local_backend_fetches_its_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    fetched: list[str] = []

    def fetch(name: str, *, on_start: object) -> Path:
        fetched.append(name)
        (tmp_path / "m.gguf").write_bytes(b"not a model")
        return tmp_path

    monkeypatch.setattr("hybrid.artifacts.fetch", fetch)
    with pytest.raises(LLMError, match=r"m\.gguf: llama\.cpp cannot load it"):
        open_llm(LLMConfig(model="local"), role="decoder")
    assert fetched == ["smollm2-135m-instruct"]


def test_a_path_counts_from_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match=f"{tmp_path}/m.gguf: no such file"):
        open_llm(LLMConfig(model="m.gguf"), role="teacher", folder=tmp_path)


def test_a_server_is_opened_with_the_retries_that_the_caller_names() -> None:
    llm = open_llm(LLMConfig(model="m", base_url=URL), role="decoder", retry=Retry(tries=2))
    assert isinstance(llm, Messages)
    assert llm.retry.tries == 2
