"""`encoder.model` may name a Python file that builds the encoder: built once, and named by its content."""

from pathlib import Path

import pytest

from hybrid.encoders.built_encoder import built_encoder
from hybrid.errors import ConfigError
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe

BUILD = """
def build(fetch, folder):
    (folder / "config.json").write_text("{}")
    (folder / "source").write_text(str(fetch("all-MiniLM-L6-v2")))
"""


def fetch(name: str) -> Path:
    return Path("/artefacts", name)


def test_it_is_built_once_and_may_fetch_pinned_artefacts(tmp_path: Path) -> None:
    script = tmp_path / "encoder.py"
    script.write_text(BUILD)
    folder = built_encoder(script, "encoder.py", tmp_path / "run" / "encoder-1", fetch)
    assert (folder / "source").read_text() == "/artefacts/all-MiniLM-L6-v2"
    (folder / "source").write_text("as it was")
    assert built_encoder(script, "encoder.py", folder, fetch) == folder
    assert (folder / "source").read_text() == "as it was"
    assert [path.name for path in folder.parent.iterdir()] == ["encoder-1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("def bild(fetch, folder): ...", r"no usable build\(fetch, folder\) in it", id="no build"),
        pytest.param("def build(fetch, folder) ...", r"no usable build\(fetch, folder\) in it", id="no Python"),
        pytest.param("def build(fetch, folder): ...", r"wrote no config\.json", id="no encoder"),
    ],
)
def test_a_file_that_builds_none_is_refused(content: str, message: str, tmp_path: Path) -> None:
    script = tmp_path / "encoder.py"
    script.write_text(content)
    with pytest.raises(ConfigError, match=message):
        built_encoder(script, "encoder.py", tmp_path / "run" / "encoder-1", fetch)
    assert not (tmp_path / "run" / "encoder-1").exists()


def test_another_content_of_the_file_is_another_encoder(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "x"\n[data]\ntrain = "x.csv"\n[encoder]\nmodel = "encoder.py"\n')
    recipe = read_recipe(tmp_path / "recipe.toml")
    context = RunContext(recipe, tmp_path, Run(tmp_path / "run", Screen()), tmp_path / "traces.sqlite")
    with pytest.raises(ConfigError, match=r"encoder\.py: the recipe names this file"):
        context.encoder_identity()
    (tmp_path / "encoder.py").write_text(BUILD)
    before = context.encoder_identity()
    assert context.encoder_identity() == before
    (tmp_path / "encoder.py").write_text(BUILD + "\n")
    assert context.encoder_identity() != before
