"""What several processes and several folders share on the disk: locks, links, hashes."""

import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.errors import StorageError
from hybrid.files import links
from hybrid.files.links import link_or_copy
from hybrid.files.locks import file_lock

HOLDS = """
import os, sys
from pathlib import Path
from hybrid.files.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
    os._exit(1)  # no clean end
"""
WITHOUT_FCNTL = """
import os, sys
for name in ("fcntl", "resource", "pwd", "termios"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork"):
    if hasattr(os, name):
        delattr(os, name)
from pathlib import Path
from types import SimpleNamespace
import hybrid.__main__
from hybrid.scoring.score import Job, score
from hybrid.types import Prediction
try:
    hybrid.__main__.main(["--help"])
except SystemExit as end:
    assert not end.code
plain = Prediction(label="plain", confidence=0.75, probs={"good": 0.25, "plain": 0.75}, escalate=False)
classifier = SimpleNamespace(
    bundle=SimpleNamespace(labels=("good", "plain")), engine="onnxruntime", classify_alike=lambda texts, threshold: [plain for _ in texts]
)
progress = SimpleNamespace(say=lambda line: None, advance=lambda done, total: None)
score(classifier, Path("bundle"), Job(source=Path("in.jsonl"), target=Path("out.jsonl")), progress)
"""


def test_a_lock_is_refused_while_another_process_holds_it_and_free_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="taken; wait"), file_lock(path, refusal="taken; wait"):
            pass
        process.stdin.write("die\n")
        process.stdin.flush()
        process.wait()
    with file_lock(path, refusal="taken; wait"):
        pass


def test_a_lock_that_cannot_be_made_is_an_error_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), file_lock(tmp_path / "file" / "lock", refusal="taken"):
        pass


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_linked_where_the_disk_has_links_and_copied_elsewhere(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError("no links here")

    source, target = tmp_path / "model.onnx", tmp_path / "bundle.onnx"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    if not has_links:
        monkeypatch.setattr(links.os, "link", no_links)
    link_or_copy(source, target)
    link_or_copy(source, target)
    assert target.read_bytes() == b"new"
    assert source.samefile(target) == has_links
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.onnx", "model.onnx"]


def test_a_system_without_fcntl_runs_the_command_line_and_scores_a_file(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    (tmp_path / "in.jsonl").write_text('{"text": "soup"}\n')
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FCNTL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout
    assert '"hybrid_label":"plain"' in (tmp_path / "out.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle",
        "in.jsonl",
        "out.jsonl",
        "out.jsonl.stamp.json",
    ]
