"""Which files of this project have a function that is called, in any thread of a process."""

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

TOP = Path(__file__).parent.parent
PACKAGES = tuple(str(TOP / name) + "/" for name in ("hybrid", "serving"))


class CalledFiles:
    """Collects them from `start` to `stop`, in this thread and in those that begin meanwhile."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def start(self) -> None:
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def stop(self) -> None:
        threading.setprofile(None)
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _arg: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGES) and frame.f_code.co_name != "<module>":
            self.files.add(name[len(str(TOP)) + 1 :])
