"""The steps of `deploy/Dockerfile` in a clean environment: what they install, its size, and a service that may write nothing.

No builder is needed: `RUN` and `COPY` are done in a folder, with the Python that runs the tests in place of the base
image's. The size of the base image (python:3.12-slim) is `BASE_MB`, an allowance that nothing here measures.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_MB = 125
MOST_MB = 350
BUNDLE_MB = 25
"""What a bundle of MiniLM in int8 takes."""
NOBODY = 10001
BODY = b'{"inputs": "I love it!"}'
pytestmark = pytest.mark.skipif("DEPLOY" not in os.environ, reason="takes minutes: make deploy-check")


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, with their continuation lines joined."""
    text = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the steps were done in: `opt/hybrid` and `srv/bundle`, as in the image."""
    del tmp_path_factory  # its folders are root's alone
    root = Path("/var/tmp/hybrid-image")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o755)
    variables = {"EXTRAS": "", "BUNDLE": ""}
    place, user = root, ""
    try:
        for word, rest in steps():
            if word == "ARG":
                name, _, value = rest.partition("=")
                variables[name] = value
            elif word == "WORKDIR":
                place = root / rest.lstrip("/")
                place.mkdir(parents=True)
            elif word == "COPY" and not rest.startswith("--from"):
                _copy(_filled(rest, variables).split(), place, root)
            elif word == "RUN":
                command = _filled(rest, variables).replace("/opt/hybrid", str(root / "opt/hybrid"))
                command = re.sub(r"^python ", f"{_python()} ", command)
                subprocess.run(command, shell=True, cwd=place, check=True, env={"PATH": os.environ["PATH"]})
            elif word == "USER":
                user = rest
        assert user == f"{NOBODY}:{NOBODY}"
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _python() -> str:
    """A Python that users other than root may run."""
    folders = os.pathsep.join(["/usr/local/bin", "/usr/bin", str(Path(sys.executable).parent)])
    return str(shutil.which("python3", path=folders))


def _filled(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], text)


def _copy(names: list[str], place: Path, root: Path) -> None:
    *sources, target = names
    folder = root / target.lstrip("/") if target.startswith("/") else place / target
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() or path.is_symlink()) / 1e6


def test_the_image_is_small_and_has_no_torch(image: Path) -> None:
    packages = _megabytes(image / "opt/hybrid")
    total = packages + BASE_MB + BUNDLE_MB
    assert total <= MOST_MB, f"packages {packages:.0f} MB, with base image and bundle {total:.0f} MB"
    assert not list(image.glob("opt/hybrid/lib/*/site-packages/torch"))


def test_the_service_of_the_image_answers_as_nobody_with_nothing_writable(image: Path) -> None:
    instructions = dict(steps())
    words = [word.strip('", ') for word in instructions["ENTRYPOINT"].strip("[]").split(",")]
    port = "8765"
    words = [str(image / "srv/bundle") if word == "/srv/bundle" else port if word == "8000" else word for word in words]
    words[0] = str(image / "opt/hybrid/bin/hybrid")
    sealed = (
        "mount --make-rprivate / && mount -o remount,ro,bind / && "
        "for place in /tmp /var/tmp; do mount --bind $place $place && mount -o remount,ro,bind $place; done && "
        "! touch /tmp/written 2>/dev/null && "
        f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {shlex.join(words)}"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HYBRID_API_KEYS": "first"}
    service = subprocess.Popen(["unshare", "--mount", "sh", "-c", sealed], env=environment, cwd="/")
    try:
        check = re.findall(r'"-c", "(.+)"\]', instructions["HEALTHCHECK"])[0].replace("8000", port)
        command = [str(image / "opt/hybrid/bin/python"), "-c", check]
        for _ in range(100):
            health = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if health.returncode == 0 or service.poll() is not None:
                break
            time.sleep(0.2)
        assert health.returncode == 0, health.stderr
        ask = (
            f"import urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:{port}/v1/classify', {BODY!r}, "
            "{'Authorization': 'Bearer first', 'Content-Type': 'application/json'})).read().decode())"
        )
        answer = subprocess.run([command[0], "-c", ask], capture_output=True, text=True, check=True, env=environment)
        assert '"label":"positive"' in answer.stdout
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=40) == 0
