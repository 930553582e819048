"""The first line that the service prints."""

from msgspec.structs import replace

from hybrid.runtime.calibration import NOTHING_KEPT
from serving.__main__ import _headline
from tests.serving.escalation_fixtures import BUNDLE


def test_the_first_line_names_the_threshold_or_says_that_everything_escalates() -> None:
    assert _headline(BUNDLE).endswith("escalates below 0.8)")
    everything = replace(BUNDLE, threshold=replace(BUNDLE.threshold, value=NOTHING_KEPT, met=False))
    assert _headline(everything).endswith("every text escalates)")
