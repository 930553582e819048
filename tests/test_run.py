"""A run's stamps: what holds is skipped, what was killed or changed is done again."""

import json
from pathlib import Path

import pytest

from hybrid.errors import StorageError
from hybrid.files.table import write_bytes
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.types import Report


class Counted:
    """A stage that writes one file and counts how often it worked."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder, Screen())
        self.times = 0

    def __call__(self, *, key: str = "key", complete: bool = True) -> None:
        def work() -> Report:
            self.times += 1
            write_bytes(self.run.path("stage", "table"), b"rows")
            return {"complete": complete}

        self.run.do("stage", key=key, outputs=["stage/table"], work=work, summary_line=lambda _: "done")


@pytest.fixture
def stage(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def test_a_stage_whose_stamp_holds_is_skipped(stage: Counted) -> None:
    stage()
    stage()
    assert stage.times == 1


@pytest.mark.parametrize("change", ["output", "no stamp", "half a stamp"])
def test_a_changed_output_or_a_broken_stamp_makes_it_work_again(stage: Counted, change: str) -> None:
    stage()
    if change == "output":
        stage.run.path("stage", "table").write_text("changed by hand")
    elif change == "no stamp":
        stage.run.path("stage", "stamp.json").unlink()
    else:
        stage.run.path("stage", "stamp.json").write_text('{"key": ')
    stage()
    assert stage.times == 2


def test_another_key_makes_it_work_again(stage: Counted) -> None:
    stage()
    stage(key="another")
    assert stage.times == 2


def test_a_stage_that_is_not_complete_is_done_again(stage: Counted) -> None:
    stage(complete=False)
    stage()
    assert stage.times == 2
    assert json.loads(stage.run.path("stage", "report.json").read_text())["complete"] is True


def test_a_disk_that_fills_up_in_a_library_is_one_sentence(tmp_path: Path) -> None:
    def fill() -> Report:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        return {}

    run = Run(tmp_path, Screen())
    with pytest.raises(StorageError, match=r"train: the disk of .* is full; free some space"):
        run.do("train", key="key", outputs=[], work=fill, summary_line=lambda _: "")
    assert not run.path("train", "stamp.json").exists()
