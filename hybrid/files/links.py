"""Large files in two places without two copies on the disk."""

import os
import shutil
from pathlib import Path


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make `target` the same file as `source` by a hard link, or a copy of it where the disk has no links.

    A file that stands at `target` is replaced in one step: a reader sees the old file or the new one.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    # Linux renames nothing where both names are links to one file already, and leaves the part.
    part.replace(target)
    part.unlink(missing_ok=True)
