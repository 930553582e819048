"""How fast a bundle answers here, on its own golden texts, by each engine and in each precision that there is."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import hybrid
from hybrid.doctor.check import Check
from hybrid.errors import BundleError, HybridError
from hybrid.runtime.bundle import FALLBACK, Bundle, read_bundle
from hybrid.runtime.cascade import Classifier
from hybrid.runtime.engines import DEFAULT_ENGINE, ENGINES
from hybrid.runtime.made_with import other_versions

BATCH = 32
ROUNDS = 9
LEAST_GAIN = 1.1
"""How many times as fast another engine must be before it is recommended: less is within the noise of such short timings."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run a bundle."""

    name: str
    """Its engine and what that computes in."""
    classifier: Classifier
    setting: str
    """What chooses it; empty for what runs where nothing is said."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one way; medians on the clock."""

    alone_ms: float
    """For one text that comes alone."""
    many_ms: float
    """For each of `BATCH` texts that come together."""


def bundle_checks(folder: Path) -> list[Check]:
    """Whether the bundle's golden texts hold here, what differs from where it was made, and the speed of each way to run it.

    Raises:
        BundleError: there is no bundle, or a file of it was changed.
    """
    bundle = read_bundle(folder)
    try:
        classifier = hybrid.load(folder)
    except BundleError as error:
        return [
            Check(
                name="bundle", fact=f"{bundle.name}, {bundle.precision}", verdict="fails", because=str(error),
            )
        ]  # fmt: skip
    ways = [Way(name=f"{DEFAULT_ENGINE}, {classifier.precision}", classifier=classifier, setting="")]
    others, lacking = _other_ways(folder, bundle, classifier)
    ways += others
    timings = timed(ways)
    speeds = [speed_check(way, timing) for way, timing in zip(ways, timings, strict=True)]
    return [loaded_check(classifier.bundle, bundle), *speeds, *lacking, choice_check(ways, timings)]


def loaded_check(answers: Bundle, made: Bundle) -> Check:
    """Which graph answers here: that of the bundle as it was `made`, or of a portable one the fp32 graph."""
    others = other_versions(answers.versions)
    fact = f"{answers.name}, {answers.precision}: its {len(answers.golden)} golden texts hold" + (
        f"; made with {others}" if others else ""
    )
    if answers == made:
        return Check(name="bundle", fact=fact)
    return Check(
        name="bundle",
        fact=fact,
        verdict="slow",
        because=f"the {made.precision} graph computes something else here, so the {answers.precision} graph answers",
        remedy="make the bundle on this machine",
    )


def _other_ways(folder: Path, bundle: Bundle, default: Classifier) -> tuple[list[Way], list[Check]]:
    """The ways beside the default one that work here, and a line for each that does not."""
    ways, lacking = [], []
    if bundle.fallback and default.bundle == bundle:
        second = hybrid.load(folder / FALLBACK)
        name = f"{DEFAULT_ENGINE}, {second.precision}"
        ways.append(Way(name=name, classifier=second, setting=f"the bundle {folder / FALLBACK}"))
    for engine in ENGINES:
        if engine == DEFAULT_ENGINE:
            continue
        try:
            classifier = hybrid.load(folder, engine=engine)
        except HybridError as error:
            lacking.append(
                Check(name=engine, fact="cannot run this bundle here", verdict="unknown", because=str(error))
            )
        else:
            name = f"{engine}, {classifier.precision}"
            ways.append(Way(name=name, classifier=classifier, setting=f"the engine {engine}"))
    return ways, lacking


def timed(ways: Sequence[Way]) -> list[Timing]:
    """Time each way in turn, several rounds, so that what else the machine does slows all of them alike."""
    alone: list[list[float]] = [[] for _ in ways]
    many: list[list[float]] = [[] for _ in ways]
    for round_number in range(ROUNDS + 1):
        for number, way in enumerate(ways):
            texts = [golden.text for golden in way.classifier.bundle.golden]
            together = (texts * BATCH)[:BATCH]
            single = statistics.median(_ms(lambda w=way, t=text: w.classifier.classify([t])) for text in texts)  # type: ignore[misc]
            batch = _ms(lambda w=way, t=together: w.classifier.classify(t)) / BATCH  # type: ignore[misc]
            if round_number:  # the first warms up
                alone[number].append(single)
                many[number].append(batch)
    return [
        Timing(alone_ms=statistics.median(of_single), many_ms=statistics.median(of_batch))
        for of_single, of_batch in zip(alone, many, strict=True)
    ]


def speed_check(way: Way, timing: Timing) -> Check:
    """The line of one way."""
    fact = f"{timing.alone_ms:.1f} ms for one text, {timing.many_ms:.2f} ms a text where {BATCH} come together"
    return Check(name=way.name, fact=fact)


def choice_check(ways: Sequence[Way], timings: Sequence[Timing]) -> Check:
    """Which way to take: the first, unless another is clearly faster."""
    alone = fastest([timing.alone_ms for timing in timings])
    many = fastest([timing.many_ms for timing in timings])
    if alone == many:
        return Check(name="take", fact=_take(ways[many]))
    fact = f"{_take(ways[alone])} for texts that come alone; {_take(ways[many])} where many come together"
    return Check(name="take", fact=fact)


def fastest(milliseconds: Sequence[float]) -> int:
    """The place of the fastest; the first where no other is clearly faster."""
    best = min(range(len(milliseconds)), key=milliseconds.__getitem__)
    return best if milliseconds[0] >= LEAST_GAIN * milliseconds[best] else 0


def _take(way: Way) -> str:
    return f"{way.name} ({way.setting})" if way.setting else f"{way.name} (nothing need be set)"


def _ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)
