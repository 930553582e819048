"""`python -m serving` that gets a signal when it comes to a function: `signalled_start.py SIGNAL MODULE:NAME WORDS...`."""

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def signalling(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The function, which sends the signal first."""

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        os.kill(os.getpid(), number)
        return function(*values, **named)

    return call


if __name__ == "__main__":
    number, place = signal.Signals[sys.argv[1]], sys.argv[2]
    from serving.__main__ import end_at_signals, main

    end_at_signals()
    module, _, path = place.partition(":")
    holder: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    found = vars(holder)[name]
    is_static = isinstance(found, staticmethod)
    changed = signalling(found.__func__ if is_static else found, number)
    setattr(holder, name, staticmethod(changed) if is_static else changed)
    sys.exit(main(sys.argv[3:]))
