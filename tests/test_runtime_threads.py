"""threads: as many as the affinity mask and the quota of the container allow."""

import os
from pathlib import Path

import pytest

from hybrid.machine.threads import usable_threads

V2 = "0::/service\n"
V1 = "4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/\n"


def threads(tmp_path: Path, cgroup: str, files: dict[str, str], processors: int = 8) -> int:
    """Return the answer for a /proc/self/cgroup and the files below /sys/fs/cgroup."""
    (tmp_path / "cgroup").write_text(cgroup)
    for name, content in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return usable_threads(processors=processors, cgroups=tmp_path / "cgroup", mount=tmp_path / "mount")


@pytest.mark.parametrize(
    ("cgroup", "files", "wanted"),
    [
        pytest.param(V2, {"service/cpu.max": "max 100000"}, 8, id="no limit"),
        pytest.param(V2, {"service/cpu.max": "200000 100000"}, 2, id="two processors"),
        pytest.param(V2, {"service/cpu.max": "250000 100000"}, 2, id="part of a processor is not a thread"),
        pytest.param(V2, {"service/cpu.max": "20000 100000"}, 1, id="never less than one"),
        pytest.param(V2, {"service/cpu.max": "1600000 100000"}, 8, id="more than the processors"),
        pytest.param(V2, {"cpu.max": "300000 100000", "service/cpu.max": "max 100000"}, 3, id="a limit above"),
        pytest.param(V2, {"cpu.max": "300000 100000"}, 3, id="the root of a container"),
        pytest.param(V2, {}, 8, id="no files"),
        pytest.param(
            V1, {"cpu/docker/abc/cpu.cfs_quota_us": "400000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 4, id="v1"
        ),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "50000"},
            3,
            id="v1 seen from a container",
        ),
        pytest.param(V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, id="v1 without limit"),
        pytest.param(V1, {"cpuset/docker/abc/cpu.max": "100000 100000"}, 8, id="another controller's folder"),
    ],
)
def test_the_quota_of_the_own_group_or_one_above_it_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], wanted: int
) -> None:
    assert threads(tmp_path, cgroup, files) == wanted


def test_a_system_without_cgroups_leaves_the_affinity_mask(tmp_path: Path) -> None:
    found = usable_threads(cgroups=tmp_path / "none", mount=tmp_path)
    assert found == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
