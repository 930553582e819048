"""Milliseconds of the decoders that run in this process: the packaged one, and the student of this recipe's runs.

Only what is there is timed: nothing is fetched and nothing is trained for it. What is not there is said.
"""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.advise.measurements import DecoderPrice, NotTimed
from hybrid.artifacts import cached
from hybrid.config import LLMConfig
from hybrid.errors import HybridError
from hybrid.llm import open_llm
from hybrid.llm.backends import PACKAGED_MODEL
from hybrid.llm.request import LLM
from hybrid.llm.tasks.label import label_request
from hybrid.machine.threads import usable_threads
from hybrid.types import Example

TEXTS = 3
"""The texts that are timed in each way of asking: an answer with its reasons takes about a second on two cores."""
PACKAGED = "local"
STUDENT_FILES = "*/student/student.gguf"
"""Where the runs of a recipe keep their students (`hybrid.stages.student.STUDENT_FILE`)."""


class LocalDecoders(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed, and what was not."""

    timed: list[DecoderPrice]
    untimed: list[NotTimed]


def local_decoders(
    rows: Sequence[Example],
    labels: Sequence[str],
    *,
    runs: Path,
    teacher: LLMConfig,
    policy: str,
    core_usd_hour: float,
) -> LocalDecoders:
    """Time the decoders that run in this process; `runs` is the folder of the recipe's runs.

    The teacher is left out, because the pilot times it.
    """
    decoders: dict[str, LLMConfig] = {}
    untimed: list[NotTimed] = []
    if importlib.util.find_spec("xllamacpp") is None:
        why, remedy = "xllamacpp is not installed", "pip install 'hybrid-cascade[local]'"
        return LocalDecoders(timed=[], untimed=[NotTimed(what="decoders in this process", why=why, remedy=remedy)])
    if teacher.model != PACKAGED:
        if cached(PACKAGED_MODEL):
            decoders["SmolLM2-135M"] = LLMConfig(model=PACKAGED)
        else:
            remedy = "hybrid advise ... --teacher local, which fetches it"
            untimed.append(NotTimed(what="the packaged decoder", why="it has not been fetched", remedy=remedy))
    students = sorted(runs.glob(STUDENT_FILES), key=lambda path: path.stat().st_mtime)
    if students:
        decoders["the student"] = LLMConfig(model=str(students[-1].absolute()))
    else:
        why, remedy = f"no run in {runs} has trained one", "hybrid student RECIPE"
        untimed.append(NotTimed(what="the student", why=why, remedy=remedy))
    timed: list[DecoderPrice] = []
    for name, config in decoders.items():
        try:
            timed += _timed(name, config, rows[: TEXTS + 1], labels, policy=policy, core_usd_hour=core_usd_hour)
        except HybridError as error:
            untimed.append(NotTimed(what=name, why=str(error), remedy="mend that, and run this again"))
    return LocalDecoders(timed=timed, untimed=untimed)


def _timed(
    name: str, config: LLMConfig, rows: Sequence[Example], labels: Sequence[str], *, policy: str, core_usd_hour: float
) -> list[DecoderPrice]:
    model = open_llm(config, role="decoder")
    assert model is not None, "a model in this process"
    prices = []
    for answer in ("direct", "reasoned"):
        ms = _median_ms(model, rows, labels, config, answer, policy)
        usd = ms / 1000 / 3600 * 1e6 * core_usd_hour * usable_threads()
        prices.append(DecoderPrice(model=f"{name}, on this machine", answer=answer, usd_per_million=(usd, usd), ms=ms))
    return prices


def _median_ms(
    model: LLM, rows: Sequence[Example], labels: Sequence[str], config: LLMConfig, answer: str, policy: str
) -> float:
    """The median time of an answer, one text after the other; the first, which reads the prompt's fixed part, warms up."""
    times = []
    for row in rows:
        request = label_request("direct" if answer == "direct" else "decide", row.text, labels, config, policy=policy)
        start = time.perf_counter()
        model.ask(request)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:] or times))
