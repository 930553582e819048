"""The control groups of this process: where Linux keeps the limits of a container."""

from pathlib import Path

CGROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def group_folders(controller: str, *, cgroups: Path | None = None, mount: Path | None = None) -> list[Path]:
    """The folders of a controller such as `cpu` or `memory`, from the own group up to the mount; none without cgroups.

    In a container the group is often named as the host sees it while only the mount's root is there, so a folder
    need not exist. Formats: the kernel's pages on cgroup-v2 and cgroup-v1.
    """
    mount = mount or MOUNT
    try:
        lines = (cgroups or CGROUPS).read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for top in (mount, mount / "unified") if not controllers else (mount / controller, mount / controllers):
            own = top / group.strip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def words(path: Path) -> list[str]:
    """The words of a file of the kernel; none where it cannot be read."""
    try:
        return path.read_text().split()
    except OSError:
        return []
