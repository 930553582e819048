"""What the machine is: memory of the system or the container, the processor, and a training that cannot fit."""

from pathlib import Path

import pytest

from hybrid.config import TrainConfig
from hybrid.encoders import memory as training_memory
from hybrid.encoders.checkpoint import load_classifier
from hybrid.encoders.memory import check_memory, memory_need
from hybrid.encoders.training import train
from hybrid.errors import ConfigError
from hybrid.machine.memory import Memory, memory
from hybrid.machine.processor import processor
from hybrid.runtime.text_encoder import TextLimits
from tests.corpus import LABELS
from tests.test_train import ROWS

GB = 10**9
MEMINFO = (
    "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total:       0\n"
)
V2 = "0::/service\n"
V1 = "4:memory:/docker/abc\n3:cpuset:/docker/abc\n"


def memory_of(tmp_path: Path, cgroup: str, files: dict[str, str]) -> Memory:
    """The memory for a /proc/self/cgroup and the files below /sys/fs/cgroup."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "cgroup").write_text(cgroup)
    for name, content in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return memory(meminfo=tmp_path / "meminfo", cgroups=tmp_path / "cgroup", mount=tmp_path / "mount")


@pytest.mark.parametrize(
    ("cgroup", "files", "total", "available"),
    [
        pytest.param(V2, {}, 16_384_000_000, 8_192_000_000, id="no limit"),
        pytest.param(V2, {"service/memory.max": "max"}, 16_384_000_000, 8_192_000_000, id="a limit of max"),
        pytest.param(
            V2, {"service/memory.max": f"{4 * GB}", "service/memory.current": f"{GB}"}, 4 * GB, 3 * GB, id="a container"
        ),
        pytest.param(
            V2,
            {
                "service/memory.max": f"{4 * GB}",
                "service/memory.current": f"{3 * GB}",
                "service/memory.stat": f"anon {GB}\ninactive_file {2 * GB}",
            },
            4 * GB,
            3 * GB,
            id="caches of files count as free",
        ),
        pytest.param(V2, {"memory.max": f"{2 * GB}"}, 2 * GB, 2 * GB, id="a limit above the own group"),
        pytest.param(
            V1,
            {"memory/docker/abc/memory.limit_in_bytes": f"{GB}", "memory/docker/abc/memory.usage_in_bytes": "1000"},
            GB,
            GB - 1000,
            id="v1",
        ),
        pytest.param(
            V1,
            {"memory/docker/abc/memory.limit_in_bytes": "9223372036854771712"},
            16_384_000_000,
            8_192_000_000,
            id="v1 without limit",
        ),
    ],
)
def test_the_memory_of_a_container_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], total: int, available: int
) -> None:
    assert memory_of(tmp_path, cgroup, files) == Memory(total=total, available=available)


def test_a_system_without_meminfo_is_asked_for_its_memory(tmp_path: Path) -> None:
    total = memory(meminfo=tmp_path / "none").total
    assert total is None or total > GB / 4


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "name", "features", "exact"),
    [
        (
            "x86_64",
            "model name\t: Haswell\nflags\t\t: fpu sse2 avx2\n\nmodel name\t: Haswell\nflags\t\t: fpu sse2 avx2\n",
            "Haswell",
            ("AVX2",),
            False,
        ),
        (
            "x86_64",
            "model name\t: Xeon\nflags\t\t: avx2 avx512f avx512_vnni amx_bf16 amx_int8\n",
            "Xeon",
            ("AVX2", "AVX512", "VNNI", "AMX-INT8", "AMX-BF16"),
            True,
        ),
        ("aarch64", "processor\t: 0\nFeatures\t: fp asimd asimddp\n", "aarch64", ("dot product",), True),
    ],
    ids=["AVX2 alone", "VNNI and AMX", "Arm"],
)
def test_a_processor_is_read(
    tmp_path: Path, architecture: str, cpuinfo: str, name: str, features: tuple[str, ...], exact: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    machine = processor(cpuinfo=tmp_path / "cpuinfo", architecture=architecture)
    assert (machine.name, machine.features, machine.has_exact_int8) == (name, features, exact)


def test_a_system_that_lists_no_features_says_that_they_are_not_known(tmp_path: Path) -> None:
    machine = processor(cpuinfo=tmp_path / "none", architecture="AMD64")
    assert machine.features is None
    assert machine.has_exact_int8 is None


def test_training_that_cannot_fit_is_refused_before_it_starts(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_memory, "available_bytes", lambda device: 100_000)
    config = TrainConfig(batch_size=8, precision="fp32")
    with pytest.raises(
        ConfigError, match=r"needs at least .* more memory .* are available .*gradient_checkpointing = true"
    ):
        train(ROWS, LABELS, config, encoder=bert, reading=TextLimits(max_length=64), workdir=tmp_path, seed=0)
    assert not list(tmp_path.iterdir())


def test_memory_that_the_system_does_not_tell_stops_nobody(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_memory, "available_bytes", lambda device: None)
    check_memory(load_classifier(bert, LABELS), TrainConfig(), tokens=10**9)


def test_what_saves_memory_lowers_the_need(bert: Path) -> None:
    model = load_classifier(bert, LABELS)
    plain, parts, again = (
        memory_need(model, TrainConfig(batch_size=8, **settings), tokens=64, bf16=False)
        for settings in ({}, {"accumulation_steps": 4}, {"gradient_checkpointing": True})
    )
    assert parts.activations * 4 == plain.activations
    assert again.activations < plain.activations
    assert plain.state == 12 * plain.parameters
