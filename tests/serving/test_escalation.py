"""The decoder behind the service: what a text gets that escalates, and what it gets where the decoder cannot answer."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid.errors import ConfigError
from hybrid.runtime.bundle import MANIFEST, sealed
from serving.decoder.open_decoder import open_decoder
from serving.errors import DeadlineError, UnanswerableError
from serving.settings import DecoderSettings, Settings, read_settings
from serving.types import Deadline
from tests.messages_server import Act, MessagesServer, answer, label, raw, reset, status
from tests.serving.escalation_fixtures import (
    BUNDLE,
    LABELS,
    UNSURE,
    RecordingObserver,
    after,
    escalated,
    once_released,
    opened,
)

SILENT = after(1.5)
CLOSED = "http://127.0.0.1:9"
FAULTS: dict[str, Act] = {
    "5xx": status(500),
    "429": status(429, headers={"Retry-After": "30"}),
    "wrong key": status(401),
    "silent": SILENT,
    "connection reset": reset,
    "not JSON": raw("<html>", "text/html"),
    "cut off": answer('{"rationale": "It', stop_reason="max_tokens"),
    "no object": answer("good"),
    "out of the label set": label("excellent"),
    "refuses": answer("", stop_reason="refusal"),
}


def test_the_answer_is_what_encoder_and_decoder_know_together(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url)
        final = await escalated(handler)
        assert (final.label, final.source, final.escalation, final.status) == ("bad", "both", "answered", "escalated")
        assert final.probs["bad"] == final.confidence == max(final.probs.values()) > UNSURE.probs["bad"]
        assert sum(final.probs.values()) == pytest.approx(1)
        assert (final.encoder_label, final.encoder_confidence, final.rationale) == ("good", 0.6, "It says so.")
        unmeasured = await escalated(handler, "The tart.", bundle=msgspec.structs.replace(BUNDLE, decoder=None))
        assert (unmeasured.label, unmeasured.source, unmeasured.probs) == ("bad", "decoder", UNSURE.probs)
        await handler.close()

    with MessagesServer(label("bad")) as server:
        asyncio.run(run(server.url))
        assert BUNDLE.labels == LABELS
        assert "The soup." in server.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize("fault", FAULTS)
def test_where_the_decoder_cannot_answer_the_policy_holds(fault: str, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        for policy in ("local_label_flagged", "abstain", "error"):
            handler = opened(tmp_path, url, on_failure=policy, deadline_ms=400, retries=0)
            try:
                final = await escalated(handler)
            except UnanswerableError as error:
                assert policy == "error"
                assert "the decoder gave no answer" in str(error)
            else:
                undecided = fault in ("no object", "out of the label set", "refuses")
                assert final.escalation == ("undecided" if undecided else "failed")
                assert final.reason
                assert final.probs == UNSURE.probs
                expected = {"local_label_flagged": ("good", "escalated"), "abstain": (None, "abstained")}
                assert (final.label, final.status) == expected[policy]
            await handler.close()

    with MessagesServer(FAULTS[fault]) as server:
        asyncio.run(run(server.url))


@pytest.mark.parametrize("policy", ["local_label_flagged", "abstain", "error"])
def test_a_text_that_escalates_by_wish_alone_keeps_the_answer_that_is_sure_enough(policy: str, tmp_path: Path) -> None:
    async def run() -> None:
        handler = opened(tmp_path, CLOSED, retries=0, on_failure=policy)
        sure = msgspec.structs.replace(UNSURE, status="accepted")
        final = await handler.escalate(BUNDLE, "The soup.", sure, Deadline.after(20))
        assert (final.label, final.status, final.escalation) == ("good", "accepted", "failed")
        await handler.close()

    asyncio.run(run())


def test_a_decoder_that_is_not_there_costs_the_encoders_answer_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        handler = opened(tmp_path, CLOSED, retries=0)
        final = await escalated(handler)
        assert (final.label, final.escalation, final.source) == ("good", "failed", "encoder")
        await handler.close()

    asyncio.run(run())


@pytest.mark.parametrize(("retries", "escalation", "asked"), [(0, "failed", 1), (1, "answered", 2)])
def test_what_can_pass_is_tried_again_as_often_as_is_set(
    retries: int, escalation: str, asked: int, tmp_path: Path
) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, retries=retries)
        assert (await escalated(handler)).escalation == escalation
        await handler.close()

    with MessagesServer(status(500), label("bad")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == asked


def test_retries_end_with_the_time_of_the_escalation(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, retries=2, deadline_ms=100)
        await escalated(handler)
        await handler.close()

    with MessagesServer(status(500)) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 1


@pytest.mark.slow
def test_a_silent_decoder_leaves_the_caller_an_answer_within_its_deadline(tmp_path: Path) -> None:
    released = threading.Event()

    async def run(url: str) -> str:
        handler = opened(tmp_path, url, deadline_ms=60_000)
        final = await escalated(handler, timeout_s=0.6)
        released.set()
        await handler.close()
        return final.escalation

    # The server is silent until the caller has the answer.
    with MessagesServer(once_released(released)) as server:
        assert asyncio.run(run(server.url)) == "failed"
        assert asyncio.run(run(server.url)) == "answered"


def test_a_deadline_that_has_passed_is_said_to_have_passed_in_the_escalation(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url)
        with pytest.raises(DeadlineError, match="in the stage escalation"):
            await handler.escalate(BUNDLE, "The soup.", UNSURE, Deadline.after(-0.01))
        await handler.close()

    with MessagesServer(label("bad")) as server:
        asyncio.run(run(server.url))
        assert not server.bodies


@pytest.mark.parametrize(("texts", "asked"), [(1, 1), (20, 20)], ids=["equal", "different"])
def test_equal_texts_are_asked_about_once(texts: int, asked: int, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer)
        answers = await asyncio.gather(*(escalated(handler, f"Dish {i % texts}.") for i in range(20)))
        assert {each.label for each in answers} == {"bad"}
        assert observer.outcomes == ["answered"] * asked
        assert (await escalated(handler, "Dish 0.")).label == "bad"
        assert observer.outcomes[-1] == "cached"
        await handler.close()

    with MessagesServer(after(0.05)) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == asked


def test_another_bundle_and_a_failure_are_asked_about_anew(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, retries=0)
        assert (await escalated(handler)).escalation == "failed"
        assert (await escalated(handler)).escalation == "answered"
        other = msgspec.structs.replace(UNSURE, bundle_id="ba9876543210")
        await handler.escalate(BUNDLE, "The soup.", other, Deadline.after(20))
        await handler.close()

    with MessagesServer(status(500), label("bad")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 3


def test_without_room_in_the_cache_a_text_is_asked_about_again(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, cached_answers=0)
        await escalated(handler)
        await escalated(handler)
        await handler.close()

    with MessagesServer(label("bad")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 2


def test_of_several_votes_the_most_frequent_label_counts_and_their_share_is_kept(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, votes=3, workers=1)
        plain = await handler.decide("The soup.", ("hot", "cold"), "", Deadline.after(20))
        assert plain.label == "cold"
        assert plain.probs == {"hot": pytest.approx(1 / 3), "cold": pytest.approx(2 / 3)}
        await handler.close()

    with MessagesServer(label("cold"), label("hot"), label("cold")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 3


@pytest.mark.slow
def test_more_texts_than_may_wait_are_answered_by_the_policy_at_once(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, waiting=3)
        answers = await asyncio.gather(*(escalated(handler, f"Dish {i}.") for i in range(12)))
        assert [each.escalation for each in answers].count("answered") == 3
        assert {each.reason for each in answers if each.escalation == "failed"} == {"queue_full"}
        await handler.close()

    with MessagesServer(after(0.2)) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 3


def test_a_question_with_other_labels_goes_to_the_decoder_with_its_instructions(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url)
        final = await handler.decide("The soup.", ("hot", "cold"), "Steam means hot.", Deadline.after(20))
        assert (final.label, final.source, final.probs) == ("cold", "decoder", {"hot": pytest.approx(0.1), "cold": 0.9})
        with pytest.raises(UnanswerableError, match="cannot be read as one of the labels"):
            await handler.decide("The soup.", ("yes", "no"), "", Deadline.after(20))
        with pytest.raises(UnanswerableError, match="two or more different options, got 1"):
            await handler.decide("The soup.", ("yes",), "", Deadline.after(20))
        await handler.close()

    with MessagesServer(label("cold")) as server:
        asyncio.run(run(server.url))
        assert "Steam means hot." in json.dumps(server.bodies[0]["system"])


def test_settings_that_cannot_be_are_refused_and_none_needs_no_store(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(sealed(BUNDLE)))
    assert open_decoder(Settings(), bundle, RecordingObserver()) is None
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    refused: list[tuple[dict[str, Any], str]] = [
        ({"usd_per_day": 1.0}, r"decoder\.usd_per_day = 1: the price of the model \(judge\) is not known"),
        ({"usd_per_hour": 1.0}, r"decoder\.usd_per_hour = 1: the price of the model"),
        ({"budget_usd": 1.0}, r"decoder\.budget_usd = 1: the price of the model"),
        ({"batch": True}, r"decoder\.batch = true"),
        ({"policy": str(tmp_path / "none.md")}, r"decoder\.policy = .*none\.md': cannot be read"),
    ]
    for keys, message in refused:
        decoder = DecoderSettings(model="judge", base_url=CLOSED, **keys)
        with pytest.raises(ConfigError, match=message):
            open_decoder(Settings(decoder=decoder), bundle, RecordingObserver())
    several = msgspec.structs.replace(BUNDLE, task="multi_label")
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(sealed(several)))
    with pytest.raises(ConfigError, match="multi_label bundle"):
        open_decoder(Settings(decoder=DecoderSettings(model="judge", base_url=CLOSED)), bundle, RecordingObserver())


def test_the_decoders_files_count_from_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text('[decoder]\nmodel = "recorded"\ntraces = "traces.jsonl"\n')
    assert read_settings(tmp_path / "service.toml").decoder.traces == str(tmp_path / "traces.jsonl")
