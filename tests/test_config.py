"""Recipes: an unknown key is an error, and every message says where, what came and what was wanted."""

from pathlib import Path

import pytest

from hybrid.errors import ConfigError
from hybrid.recipe_files.read import read_recipe

GOOD = 'name = "x"\nlabels = ["a", "b"]\n[data]\ntrain = "x.csv"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "[train]\nepoch = 3\n")
    with pytest.raises(ConfigError, match=r"train\.epoch: unknown key; did you mean 'epochs'\?"):
        read_recipe(path)


def test_an_unknown_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trian: unknown key; did you mean 'train'"):
        read_recipe(write(tmp_path, GOOD + "[trian]\nepochs = 3\n"))


def test_labels_that_look_alike_are_refused_unless_they_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace('["a", "b"]', '["a", "b", "B"]'))
    with pytest.raises(ConfigError, match=r"labels: labels that a reader cannot tell apart: 'b' and 'B'; keep one"):
        read_recipe(path)
    assert read_recipe(path, overrides={"data": {"alike_labels": "keep"}}).labels == ("a", "b", "B")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[train]\nepochs = 0\n", r"train\.epochs = 0: expected `int` >= 1"),
        ("[verify]\nvotes = 2\n", r"verify\.votes = 2: expected an odd number"),
        ("[train]\nloss = 'hinge'\n", r"train\.loss = 'hinge': expected 'cross_entropy' or 'focal'"),
        ("[teacher]\nmodel = 'recorded'\n", r"teacher\.model = 'recorded': expected 'traces' beside it"),
        ("[[[", "not TOML"),
    ],
)
def test_a_wrong_value_says_where_and_what_was_wanted(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_recipe(write(tmp_path, GOOD + text))


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels = \['a'\]: expected two labels or more, got one"):
        read_recipe(write(tmp_path, GOOD.replace('["a", "b"]', '["a"]')))


def test_a_profile_is_merged_under_the_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "[profiles.big.train]\nepochs = 7\nbatch_size = 8\n")
    recipe = read_recipe(path, profile="big", overrides={"train": {"epochs": 9}})
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.profile) == (9, 8, "big")


def test_a_profile_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "[profiles.big.train]\nepochs = 7\n")
    with pytest.raises(ConfigError, match=r"profile 'small' is not in the recipe \(it has: big\)"):
        read_recipe(path, profile="small")


def test_a_recipe_that_is_not_there_or_not_utf8_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 at byte 8"):
        read_recipe(tmp_path / "latin.toml")
