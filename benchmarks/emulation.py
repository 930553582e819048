"""Processors that this machine does not have, through QEMU's user mode: what to run Python with on each.

Haswell (AVX2, no AVX512, no VNNI) runs the Python of this environment. Arm gets a Python and its libraries from Debian's
arm64 packages and wheels for aarch64, unpacked into the user's cache; nothing is installed, and no root is needed.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
from peers import PROJECT, pinned

DEBIAN = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "zlib1g")
WHEELS = ("filelock", "msgspec", "numpy", "onnxruntime", "packaging", "tokenizers")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
PYTHON = "3.11"
DONE = "done"
CORE = (
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\n"
)
"""A core of a Neoverse N1 as /proc/cpuinfo shows it. QEMU 7 shows that of the host, and onnxruntime crashes on it."""


class Emulated(msgspec.Struct, frozen=True, kw_only=True):
    """A processor, and the command that runs Python on it; the project is on its path."""

    name: str
    python: tuple[str, ...]


def emulated_machines() -> list[Emulated]:
    """The processors that can be emulated here; what cannot is said on the screen."""
    return [machine for machine in (haswell(), arm()) if machine is not None]


def haswell() -> Emulated | None:
    """AVX2 without AVX512 and VNNI, as AMD's Zen 1 to 3 and many cloud machines have it."""
    emulator = _emulator("qemu-x86_64")
    if emulator is None:
        return None
    return Emulated(name="haswell", python=(emulator, "-cpu", "Haswell", "-E", f"PYTHONPATH={PROJECT}", sys.executable))


def arm() -> Emulated | None:
    """64-bit Arm with the dot product."""
    emulator = _emulator("qemu-aarch64")
    if emulator is None:
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid-bench" / "aarch64"
    if not (folder / DONE).is_file():
        print(f"setting up {folder} for the emulated Arm (once, a minute or two) ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _debian(folder)
            _wheels(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            output = getattr(error, "stderr", b"") or b""
            print(f"skipped: Arm cannot be set up ({output.decode(errors='replace').strip()[-200:] or error})")
            return None
        (folder / DONE).touch()
    settings = {"PYTHONHOME": "/usr", "PYTHONPATH": f"{folder / 'site'}:{PROJECT}", "OPENBLAS_NUM_THREADS": "1"}
    words = [word for name, value in settings.items() for word in ("-E", f"{name}={value}")]
    python = folder / "root/usr/bin/python3.11"
    return Emulated(name="arm", python=(emulator, "-cpu", "max", "-L", str(folder / "root"), *words, str(python)))


def _emulator(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        print(f"skipped: no {name}; on Debian, `apt-get install qemu-user`")
    return path


def _debian(folder: Path) -> None:
    """Download the arm64 packages with all that they need, into folders of our own, and unpack them."""
    for name in ("state/lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "state/status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "0",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-q", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    _run([*apt, "update"])
    _run([*apt, "-y", "--download-only", "install", *DEBIAN])
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")])
    # QEMU looks for the files of the kernel here first.
    cores = folder / "root/sys/devices/system/cpu"
    cores.mkdir(parents=True)
    (folder / "root/proc").mkdir(exist_ok=True)
    (folder / "root/proc/cpuinfo").write_text("".join(f"processor\t: {i}\n{CORE}" for i in range(2)))
    for name in ("possible", "present"):
        (cores / name).write_text("0-1\n")
    shutil.rmtree(folder / "cache")


def _wheels(folder: Path) -> None:
    """Download the runtime's wheels for aarch64 in the versions of the constraints, and unpack them."""
    words = [word for name in PLATFORMS for word in ("--platform", name)]
    words += [word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    settings = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    _run([*pip, *settings, *words, "--dest", str(folder / "wheels"), *pinned(WHEELS)])
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    shutil.rmtree(folder / "wheels")


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True)
