"""How fast a bundle answers here, on its own golden texts."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime

import hybrid
from hybrid.doctor.check import Check
from hybrid.errors import BundleError
from hybrid.runtime.bundle import read_bundle
from hybrid.runtime.cascade import Classifier

BATCH = 32
ROUNDS = 9


def bundle_checks(folder: Path) -> list[Check]:
    """Whether the bundle's golden texts hold here, what differs from where it was made, and its speed.

    Raises:
        BundleError: there is no bundle, or a file of it was changed.
    """
    bundle = read_bundle(folder)
    made_with = {"onnxruntime": onnxruntime.__version__}
    others = [
        f"onnxruntime {installed} is installed, it was made with {bundle.versions[name]}"
        for name, installed in made_with.items()
        if bundle.versions.get(name, installed) != installed
    ]
    try:
        classifier = hybrid.load(folder)
    except BundleError as error:
        return [
            Check(
                name="bundle", fact=f"{bundle.name}, {bundle.precision}", verdict="fails", because=str(error),
            )
        ]  # fmt: skip
    fact = f"{bundle.name}, {bundle.precision}: its {len(bundle.golden)} golden texts hold"
    return [Check(name="bundle", fact="; ".join([fact, *others])), speed_check(classifier)]


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
