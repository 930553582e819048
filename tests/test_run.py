"""A run's stamps: what holds is skipped, what was killed or changed is done again."""

import json
from pathlib import Path

import pytest

from hybrid.errors import StorageError
from hybrid.files.table import write_bytes
from hybrid.pipeline.run import Run, settings_of
from hybrid.progress import Screen
from hybrid.types import Report


class Counted:
    """A stage that writes one file and counts how often it worked."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder, Screen())
        self.times = 0

    def __call__(self, *, version: int = 1, setting: int = 0, complete: bool = True) -> None:
        def work(_: str) -> Report:
            self.times += 1
            write_bytes(self.run.path("stage", "table"), b"rows")
            return {"complete": complete}

        source = self.run.path("input")
        self.run.stage(
            "stage",
            version=version,
            settings=settings_of(setting),
            inputs=[source],
            outputs=["stage/table"],
            work=work,
            says=lambda _: "done",
        )


@pytest.fixture
def stage(tmp_path: Path) -> Counted:
    (tmp_path / "input").write_text("a")
    return Counted(tmp_path)


def test_a_stage_whose_stamp_holds_is_skipped(stage: Counted) -> None:
    stage()
    stage()
    assert stage.times == 1


@pytest.mark.parametrize("change", ["input", "output", "no stamp", "half a stamp"])
def test_a_changed_file_or_a_broken_stamp_makes_it_work_again(stage: Counted, change: str) -> None:
    stage()
    if change == "input":
        stage.run.path("input").write_text("b")
    elif change == "output":
        stage.run.path("stage", "table").write_text("changed by hand")
    elif change == "no stamp":
        stage.run.path("stage", "stamp.json").unlink()
    else:
        stage.run.path("stage", "stamp.json").write_text('{"key": ')
    stage()
    assert stage.times == 2


def test_another_setting_or_version_makes_it_work_again(stage: Counted) -> None:
    stage()
    stage(setting=1)
    stage(setting=1, version=2)
    assert stage.times == 3


def test_a_stage_that_is_not_complete_is_done_again(stage: Counted) -> None:
    stage(complete=False)
    stage()
    assert stage.times == 2
    assert json.loads(stage.run.path("stage", "report.json").read_text())["complete"] is True


def test_a_disk_that_fills_up_in_a_library_is_one_sentence(tmp_path: Path) -> None:
    def fill(_: str) -> Report:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        return {}

    run = Run(tmp_path, Screen())
    with pytest.raises(StorageError, match=r"train: the disk of .* is full; free some space"):
        run.stage("train", version=1, settings={}, inputs=[], outputs=[], work=fill, says=lambda _: "")
    assert not run.path("train", "stamp.json").exists()
