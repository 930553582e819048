"""Who is let in, by what the batches before cost."""

import random

import pytest

from serving.errors import OverloadedError, TooLargeError
from serving.scheduler.admission import (
    KEPT_BATCHES,
    MIN_BATCHES,
    Backlog,
    BatchCost,
    LatencyCorrection,
    WaitEstimate,
    check,
)
from serving.settings import Limits
from serving.types import Deadline

LIMITS = Limits(wait_ms=500, queued_tokens=10_000, queued_bytes=1000)


def ahead(*, wait_s: float, tokens: float = 100, own_s: float = 0.01) -> WaitEstimate:
    return WaitEstimate(tokens=tokens, wait_s=wait_s, own_s=own_s)


def test_the_cost_of_a_batch_is_found_from_the_batches_that_ran() -> None:
    rng, cost = random.Random(0), BatchCost()
    for _ in range(200):
        n = rng.randint(8, 256)
        cost.add(n, n, 2e-3 + 9e-5 * n + rng.gauss(0, 2e-4))
    assert cost.batch_s(200) == pytest.approx(2e-3 + 9e-5 * 200, rel=0.05)
    assert cost.wait_s(25_600, 256) == pytest.approx(100 * (2e-3 + 9e-5 * 256), rel=0.05)


def test_the_cost_follows_a_machine_that_slows_down() -> None:
    cost = BatchCost()
    for seconds in [0.01] * KEPT_BATCHES + [0.05] * KEPT_BATCHES:
        cost.add(100, 128, seconds)
    assert cost.batch_s(128) == pytest.approx(0.05)
    assert cost.wait_s(100 * 20, 256) == pytest.approx(20 * 0.05)  # padded as those before


@pytest.mark.parametrize("ran", [[(8, 0.5), (256, 0.01)], [(64, 0.02)], [(10, 0.0), (20, 0.1)]])
def test_noise_makes_no_cost_negative(ran: list[tuple[int, float]]) -> None:
    cost = BatchCost()
    for padded, seconds in ran * MIN_BATCHES:
        cost.add(padded, padded, seconds)
    assert all(cost.batch_s(n) >= 0 for n in (1, 8, 256, 5000))


def test_after_many_short_batches_the_cost_of_a_full_one_is_still_known() -> None:
    cost = BatchCost()
    for padded in (250, 255, *[8] * 5000):
        cost.add(padded, padded, 2e-3 + 9e-5 * padded)
    assert cost.batch_s(256) == pytest.approx(2e-3 + 9e-5 * 256, rel=0.05)


def test_nothing_is_expected_before_some_batches_ran() -> None:
    cost = BatchCost()
    for n in range(MIN_BATCHES):
        assert not cost.known
        assert cost.batch_s(256) == cost.wait_s(10_000, 256) == 0.0
        cost.add(8, 8, 0.5 / (n + 1))  # the first one is slow
    assert cost.known
    assert cost.batch_s(8) > 0


def test_a_wait_over_the_limit_is_refused_and_told_when_to_come_again() -> None:
    check(ahead(wait_s=0.5), 10, Deadline.after(10), LIMITS)
    with pytest.raises(OverloadedError, match="expected wait is 800 ms, over 500 ms") as refused:
        check(ahead(wait_s=0.8), 10, Deadline.after(10), LIMITS)
    assert refused.value.retry_after_s == pytest.approx(0.3)


def test_a_wait_past_the_deadline_is_refused() -> None:
    check(ahead(wait_s=0.1, own_s=0.1), 10, Deadline.after(0.5), LIMITS)
    with pytest.raises(OverloadedError, match="the answer is expected in 600 ms"):
        check(ahead(wait_s=0.1, own_s=0.3), 10, Deadline.after(0.3), LIMITS)


def test_an_idle_engine_refuses_nothing_however_slow_it_was() -> None:
    check(ahead(wait_s=0.0, tokens=0, own_s=60.0), 10, Deadline.after(0.3), LIMITS)


def test_too_many_queued_tokens_are_refused_and_a_request_that_never_fits_is_called_too_large() -> None:
    check(ahead(wait_s=0.1, tokens=9_000), 1000, Deadline.after(10), LIMITS)
    with pytest.raises(OverloadedError, match="9001 tokens wait, of at most 10000"):
        check(ahead(wait_s=0.1, tokens=9_001), 1000, Deadline.after(10), LIMITS)
    with pytest.raises(TooLargeError, match="has 10001 tokens"):
        check(ahead(wait_s=0.0, tokens=0), 10_001, Deadline.after(10), LIMITS)


def test_too_many_bytes_are_refused_until_others_have_left() -> None:
    held = Backlog(LIMITS)
    with held.holding(600):
        with pytest.raises(OverloadedError, match="600 bytes wait, of at most 1000"), held.holding(401):
            pass
        with held.holding(400):
            pass
    with held.holding(5000):  # alone: whether it is too large is another limit's question
        pass
    assert held.n_bytes == 0


def test_what_waits_for_the_tokenizer_counts() -> None:
    held = Backlog(LIMITS)
    for _ in range(300):
        held.learn(400, 100, 0.001)
    with held.reading(4000):
        assert held.unread_tokens == pytest.approx(1000, rel=0.05)
        assert held.unread_s == pytest.approx(0.01, rel=0.05)
    assert held.unread_tokens == held.unread_s == 0


def test_where_answers_came_late_later_ones_are_expected() -> None:
    lateness, asked = LatencyCorrection(), ahead(wait_s=0.3)
    assert lateness.corrected(asked) == asked
    for _ in range(2000):
        lateness.learn(0.3, 0.45)
    assert lateness.corrected(asked).wait_s == pytest.approx(0.45, rel=0.01)
    check(asked, 10, Deadline.after(0.5), LIMITS)
    with pytest.raises(OverloadedError):
        check(lateness.corrected(asked), 10, Deadline.after(0.5), LIMITS)


def test_early_answers_and_idle_times_raise_no_hopes() -> None:
    lateness, asked = LatencyCorrection(), ahead(wait_s=0.3)
    for _ in range(2000):
        lateness.learn(0.3, 0.1)
    for _ in range(2000):
        lateness.learn(0.001, 1.0)
    assert lateness.corrected(asked) == asked
