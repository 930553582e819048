"""How fast a bundle answers here, on its own golden texts."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import hybrid
from hybrid.doctor.check import Check
from hybrid.errors import BundleError
from hybrid.runtime.bundle import Bundle, read_bundle
from hybrid.runtime.cascade import Classifier
from hybrid.runtime.made_with import other_versions

BATCH = 32
ROUNDS = 9


def bundle_checks(folder: Path) -> list[Check]:
    """Whether the bundle's golden texts hold here, what differs from where it was made, and its speed.

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
    return [loaded_check(classifier.bundle, bundle), speed_check(classifier)]


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


def speed_check(classifier: Classifier) -> Check:
    """Milliseconds for one text alone, and a text in batches; medians on the clock."""
    texts = [golden.text for golden in classifier.bundle.golden]
    alone = statistics.median(median_ms(lambda text=text: classifier.classify([text])) for text in texts)  # type: ignore[misc]
    many = (texts * BATCH)[:BATCH]
    together = median_ms(lambda: classifier.classify(many)) / len(many)
    return Check(
        name="speed", fact=f"{alone:.1f} ms for one text, {together:.2f} ms a text where {BATCH} come together"
    )


def median_ms(call: Callable[[], object]) -> float:
    """The median of several calls in milliseconds, after one that warms up."""
    call()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
