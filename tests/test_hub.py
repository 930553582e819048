"""References to the hub: what a run pins, against a hub on this machine that speaks the hub's own routes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.errors import ConfigError
from hybrid.hub import HubReference, parse_hub
from tests.hub_server import Hub, hub_server

pytest.importorskip("huggingface_hub")
CODE = """
import sys
from pathlib import Path
from hybrid.artifacts import model_folder
from hybrid.config import DataConfig, EncoderConfig, Recipe
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
run = Path(sys.argv[1])
run.mkdir(parents=True, exist_ok=True)
recipe = Recipe(name="x", data=DataConfig(train="data.csv"), encoder=EncoderConfig(model=sys.argv[2]))
context = RunContext(recipe, run, Run(run, Screen()), run / "traces.sqlite")
print("identity", context.encoder_identity())
print("config", (model_folder(context.pinned(recipe.encoder.model)) / "config.json").read_text())
"""


@pytest.mark.parametrize(
    ("reference", "parsed"),
    [
        ("hf:owner/name", HubReference(repo="owner/name")),
        ("hf:owner/name@v1.0", HubReference(repo="owner/name", revision="v1.0")),
        ("hf:owner/name:test", HubReference(repo="owner/name", rest=":test")),
        ("hf:owner/name@abc:test", HubReference(repo="owner/name", revision="abc", rest=":test")),
        ("hf:owner/name/model.gguf", HubReference(repo="owner/name", rest="/model.gguf")),
        ("hf:owner/name@abc/sub/model.gguf", HubReference(repo="owner/name", revision="abc", rest="/sub/model.gguf")),
    ],
)
def test_a_reference_is_taken_apart_and_put_together_again(reference: str, parsed: HubReference) -> None:
    assert parse_hub(reference) == parsed
    if parsed.revision:
        assert parsed.at(parsed.revision) == reference


@pytest.mark.parametrize("reference", ["hf:", "hf:name", "hf:owner/", "hf:/name", "hf:owner/name@", "hf:owner/@abc"])
def test_a_reference_without_owner_name_or_revision_is_refused(reference: str) -> None:
    with pytest.raises(ConfigError, match="expected hf:owner/name"):
        parse_hub(reference)


def look(hub: Hub, home: Path, run: Path, reference: str, **env: str) -> dict[str, str]:
    """What a run sees of a model, in a fresh interpreter: the hub's client reads its settings at import."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(run), reference],
        env=os.environ | settings | env,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("identity", "config")))


@pytest.mark.slow
def test_a_run_stays_at_the_commit_that_it_saw_first_and_a_new_run_takes_the_new_one(tmp_path: Path) -> None:
    with hub_server() as hub:
        first = hub.push({"config.json": b'{"v": 1}', "model.safetensors": b"one"})
        seen = look(hub, tmp_path / "home", tmp_path / "run", "hf:owner/tiny")
        assert seen == {"identity": f"hf:owner/tiny@{first}", "config": '{"v": 1}'}
        second = hub.push({"config.json": b'{"v": 2}', "model.safetensors": b"two"})
        assert look(hub, tmp_path / "home", tmp_path / "run", "hf:owner/tiny") == seen
        new = look(hub, tmp_path / "home", tmp_path / "new run", "hf:owner/tiny")
        assert new == {"identity": f"hf:owner/tiny@{second}", "config": '{"v": 2}'}
        by_hand = look(hub, tmp_path / "home", tmp_path / "third", f"hf:owner/tiny@{first}")
        assert by_hand == seen
        offline = look(hub, tmp_path / "home", tmp_path / "fourth", "hf:owner/tiny", HF_ENDPOINT="http://127.0.0.1:9")
        assert offline == new  # what the cache knows as main


@pytest.mark.slow
def test_a_pinned_run_asks_the_hub_for_no_revision_again(tmp_path: Path) -> None:
    with hub_server() as hub:
        hub.push({"config.json": b"{}", "model.safetensors": b"one"})
        look(hub, tmp_path / "home", tmp_path / "run", "hf:owner/tiny")
        assert (tmp_path / "run" / "revisions.json").is_file()
        hub.asked.clear()
        look(hub, tmp_path / "home", tmp_path / "run", "hf:owner/tiny")
        assert not [path for path in hub.asked if path.endswith("/revision/main")]
