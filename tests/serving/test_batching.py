"""Which rows run together, and what waits no longer."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.runtime.text_encoder import Encoded
from serving.errors import EngineDownError
from serving.scheduler.queue import CALL_TOKENS, LOOKAHEAD, Job, RequestQueue, Row, batch_of
from serving.types import Timings


def padded(batch: dict[int, int]) -> int:
    return max(batch) * sum(batch.values())


def test_the_oldest_runs_first_and_the_nearest_lengths_with_it() -> None:
    waiting = {8: 5, 20: 2, 21: 1, 24: 3, 90: 4}
    assert batch_of(waiting, 20, 96) == {20: 2, 21: 1, 24: 1}
    assert batch_of(waiting, 90, 256) == {90: 2}
    assert batch_of(waiting, 8, 256) == {8: 5}  # 20 would pad each of the five


def test_no_batch_is_over_the_cap_but_a_row_that_alone_is() -> None:
    rng = random.Random(0)
    for _ in range(300):
        waiting = Counter(rng.choices(range(1, 130), k=rng.randint(1, 60)))
        oldest = rng.choice(list(waiting))
        batch = batch_of(waiting, oldest, 256)
        assert batch[oldest] >= 1
        assert padded(batch) <= 256
        assert all(n <= waiting[length] for length, n in batch.items())
    assert batch_of({512: 3, 4: 9}, 512, 256) == {512: 1}


def test_padding_that_costs_more_than_a_call_keeps_a_row_out() -> None:
    assert batch_of({100: 1, 100 - CALL_TOKENS: 1}, 100, 256) == {100: 1, 100 - CALL_TOKENS: 1}
    assert batch_of({100: 1, 100 - CALL_TOKENS - 1: 1}, 100, 256) == {100: 1}


def lengths(rows: list[Row]) -> list[int]:
    return [len(row.ids) for row in rows]


def job(*n_tokens: int) -> Job:
    return Job([Encoded(windows=([1] * n,), truncated=False) for n in n_tokens], Timings())


def test_every_row_runs_once_and_none_is_overtaken_for_ever() -> None:
    async def scenario() -> None:
        rng, queue = random.Random(1), RequestQueue()
        first = job(64)
        queue.put(first)
        others = [job(*rng.choices(range(3, 60), k=4)) for _ in range(50)]
        for other in others:
            queue.put(other)
        taken = [queue.take(256)]
        assert first.rows[0] in taken[0]
        while queue.rows:
            taken.append(queue.take(256))
        rows = [row for batch in taken for row in batch]
        assert len(rows) == len({row.number for row in rows}) == 201
        assert queue.tokens == 0
        oldest = [min(row.number for row in batch) for batch in taken]
        assert oldest == sorted(oldest)

    asyncio.run(scenario())


def test_a_row_of_a_rare_length_is_overtaken_by_few() -> None:
    async def scenario() -> None:
        queue = RequestQueue()
        for _ in range(LOOKAHEAD):
            queue.put(job(64))  # four of them fill a batch
        rare = job(30)
        queue.put(rare)
        for _ in range(1000):
            queue.put(job(64))
        batches = 0
        while rare.rows[0] not in queue.take(256):
            batches += 1
        assert batches <= LOOKAHEAD / 2  # one behind the 16 batches before it, and the company those were given

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_dropped_before_it_costs_anything() -> None:
    async def scenario() -> None:
        queue, left, stays = RequestQueue(), job(5, 6, 7), job(5, 30)
        queue.put(left)
        queue.put(stays)
        queue.withdraw(left)
        assert (queue.rows, queue.tokens) == (2, 35)
        assert lengths(queue.take(256)) == [5]
        assert lengths(queue.take(256)) == [30]
        assert queue.take(256) == []

    asyncio.run(scenario())


def test_a_suspect_runs_alone_and_before_all_others() -> None:
    async def scenario() -> None:
        queue, suspect, other = RequestQueue(), job(5, 5), job(5, 5)
        queue.put(suspect)
        rows = queue.take(256)
        queue.put(other)
        queue.put_isolated(rows)
        assert queue.take(256) == [rows[0]]
        assert queue.take(256) == [rows[1]]
        assert queue.take(256) == other.rows

    asyncio.run(scenario())


def test_rows_put_back_keep_their_place() -> None:
    async def scenario() -> None:
        queue, early, late = RequestQueue(), job(5, 5, 5), job(5)
        queue.put(early)
        rows = queue.take(256)
        queue.put(late)
        queue.put_back(rows)
        assert queue.take(256) == [*rows, *late.rows]

    asyncio.run(scenario())


def test_all_that_wait_are_given_up_at_once() -> None:
    async def scenario() -> None:
        queue, waits = RequestQueue(), [job(5, 6), job(7)]
        for wait in waits:
            queue.put(wait)
        queue.fail_all(EngineDownError("gone"))
        assert (queue.rows, queue.tokens) == (0, 0)
        for item in waits:
            with pytest.raises(EngineDownError, match="gone"):
                await item.done

    asyncio.run(scenario())


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60), most_tokens=st.integers(1, 600))
def test_batches_of_any_lengths_hold_every_row_once_within_the_cap(lengths: list[int], most_tokens: int) -> None:
    waiting, in_batches = Counter(lengths), Counter[int]()
    for oldest in lengths:
        if not waiting[oldest]:
            continue
        batch = batch_of(waiting, oldest, most_tokens)
        assert batch[oldest] >= 1
        assert sum(batch.values()) == 1 or sum(batch.values()) * max(batch) <= most_tokens
        assert all(0 < n <= waiting[length] for length, n in batch.items())
        waiting.subtract(batch)
        in_batches.update(batch)
    assert in_batches == Counter(lengths)
