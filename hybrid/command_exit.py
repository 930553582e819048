"""How every command ends: an exit status, one sentence where something went wrong, and never a traceback.

`STATUSES` has what each status means. With `--debug` the traceback is printed too.
"""

import codecs
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from hybrid.errors import CrashError, HybridError
from hybrid.urls import hide_user_info

STATUSES = {
    0: "done",
    1: "a fault of the program or of a library; the sentence names the file with its traceback",
    2: "something that you can mend; the sentence says what",
    130: "stopped with Ctrl-C; the same command goes on from there",
}
"""What each exit status means."""
DEBUG = "--debug"
EPILOG = "With --debug, an error shows its traceback."
STOPPED = "stopped; the same command goes on from here\n"


def take_debug(words: list[str]) -> bool:
    """Whether `--debug` is among the words of a command line; it is taken out of them."""
    debug = DEBUG in words
    while DEBUG in words:
        words.remove(DEBUG)
    return debug


def exit_status(command: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command and return its exit status; whatever goes wrong is one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        take_any_text(stream)
    try:
        command()
    except HybridError as error:
        _say(error, debug)
        return 2
    except CrashError as error:
        _say(error, debug)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(STOPPED)
        return 130
    except BrokenPipeError:
        # Whoever read the output has had enough; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        crash = CrashError(sentence(error, _kept_traceback(error)))
        crash.__cause__ = error
        _say(crash, debug)
        return 1
    return 0


def take_any_text(stream: TextIO) -> None:
    """Let a stream take texts of any script, whatever the locale says: as UTF-8 into a file or pipe, because other programs
    read that; on a terminal, what its encoding lacks is spelled out."""
    if not isinstance(stream, io.TextIOWrapper) or codecs.lookup(stream.encoding).name == "utf-8":
        return
    if stream.isatty():
        stream.reconfigure(errors="backslashreplace")
    else:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _kept_traceback(error: Exception) -> Path | None:
    """Write the traceback to a new file; None where nothing can be written, as in a container with a read-only file system."""
    try:
        return write_traceback(error, Path(tempfile.mkdtemp(prefix="hybrid-")) / "traceback.txt")
    except OSError:
        return None


def write_traceback(error: Exception, path: Path) -> Path | None:
    """Write the full traceback to a file and return its path; None where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            hide_user_info("".join(traceback.format_exception(error))), encoding="utf-8", errors="backslashreplace"
        )
    except OSError:
        return None
    return path


def sentence(error: Exception, file: Path | None) -> str:
    """What happened in one sentence: the kind of error, its first line, and where the traceback is."""
    first_line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    what = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    where = f"the full traceback is in {file}" if file else "run it again with --debug to see the traceback"
    return f"{what}; this is a fault of the program or of a library, and {where}"


def _say(error: Exception, debug: bool) -> None:
    if debug:
        sys.stderr.write(hide_user_info("".join(traceback.format_exception(error.__cause__ or error))))
    sys.stderr.write(hide_user_info(f"error: {error}\n"))
