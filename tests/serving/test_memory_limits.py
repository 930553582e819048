"""Everywhere a text is kept or sent on, bytes are counted, not texts."""

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import pytest

from hybrid.review.escalations import open_store, read_escalations
from serving.decoder import review_log
from serving.decoder.kept_text import MARK, cut_text
from serving.decoder.question import MAX_RATIONALE_CHARS, DecoderQuestion, cache_key
from serving.decoder.review_log import ReviewLog
from serving.errors import OverloadedError, UnanswerableError
from serving.http.body import HeldBodies
from serving.settings import Limits, Settings
from serving.telemetry import observer as telemetry
from serving.types import Answer, Deadline, Timings
from tests.messages_server import MessagesServer, answer
from tests.serving.escalation_fixtures import BUNDLE, LABELS, UNSURE, escalated, opened
from tests.serving.http_requests import client, post, receive, send, statuses
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served
from tests.test_escalated_rows import of

PATH = "/v1/classify"
MIB = 1 << 20


@pytest.mark.parametrize("loses", ["right", "left", "both"])
@pytest.mark.parametrize("text", ["soup " * 1000, "茶" * 2000, "a😀" * 1500, "é" * 3000, "\ud800x" * 2000])
@pytest.mark.parametrize("max_bytes", [256, 257, 258, 259, 1000])
def test_a_text_is_cut_to_so_many_bytes_at_whole_characters(
    text: str, loses: Literal["right", "left", "both"], max_bytes: int
) -> None:
    kept = cut_text(text, max_bytes, loses)
    assert max_bytes - 8 <= len(kept.encode()) <= max_bytes
    readable = text.replace("\ud800", "?")
    if loses == "both":
        begin, _, end = kept.partition(MARK)
        assert readable.startswith(begin)
        assert readable.endswith(end)
    else:
        assert readable.startswith(kept) if loses == "right" else readable.endswith(kept)


def test_a_text_that_fits_is_left_as_it_is() -> None:
    for text in ("", "soup", "茶" * 85, "a" * 256):
        assert cut_text(text, 256, "right") is text


def test_the_decoder_and_the_review_store_get_no_more_of_a_text_than_the_setting_allows(tmp_path: Path) -> None:
    text = "The soup was cold. " * 50_000

    async def run(url: str) -> Answer:
        handler = opened(tmp_path, url, text_bytes=1000)
        final = await escalated(handler, text)
        assert not (await escalated(handler, "short")).truncated
        await handler.close()
        return final

    reply = json.dumps({"rationale": "Because. " * 10_000, "label": "bad", "confidence": 0.9})
    with MessagesServer(answer(reply)) as server:
        final = asyncio.run(run(server.url))
        sent = json.dumps(server.bodies[0])
    assert final.truncated
    assert len(final.rationale) == MAX_RATIONALE_CHARS
    assert text[:900] in sent
    assert len(sent) < 10_000
    row = read_escalations(open_store(str(tmp_path / "escalations.sqlite")))[0]
    assert row.text == text[:1000]
    assert len(row.rationale) == MAX_RATIONALE_CHARS


def test_a_callers_own_question_has_the_same_limit(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        handler = opened(tmp_path, url, text_bytes=1000)
        with pytest.raises(UnanswerableError, match="instructions and labels have 1012 bytes; expected at most 1000"):
            await handler.decide("soup", LABELS, "a" * 1000, Deadline.after(10))
        assert (await handler.decide("soup " * 1000, LABELS, "How was it?", Deadline.after(10))).truncated
        await handler.close()

    with MessagesServer(answer('{"rationale": "", "label": "bad"}')) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 1


def test_cached_answers_keep_no_text() -> None:
    long = DecoderQuestion(text="soup" * MIB, labels=LABELS, policy="", scope="")
    assert len(cache_key(long)) == 32
    others = [
        msgspec.structs.replace(long, **{name: value})
        for name, value in {"text": "\ud800", "labels": ("a",), "policy": "p", "scope": "s"}.items()
    ]
    assert len({cache_key(question) for question in (long, *others)}) == 5


def test_rows_that_wait_for_a_store_are_counted_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_log, "MOST_WAITING_BYTES", 10 * MIB)
    blocked = threading.Event()
    written: list[int] = []

    def write(engine: Any, rows: list[Any]) -> None:
        blocked.wait(60)
        written.append(len(rows))

    monkeypatch.setattr(review_log, "write_escalations", write)
    log = ReviewLog(open_store(str(tmp_path / "store.sqlite")))
    for number in range(100):
        log.note(of(f"{number}" + "茶" * MIB))
    n_kept = 10 * MIB // sys.getsizeof("0" + "茶" * MIB)
    assert log.dropped == 100 - n_kept
    blocked.set()
    log.close(60)
    log.note(of("after"))
    assert sum(written) == n_kept == log.written


def test_bodies_in_the_service_are_counted_together() -> None:
    held = HeldBodies(1000)
    with held.of_request() as first:
        first.add(1500)  # alone it is let in, whatever the limit
        with held.of_request() as second, pytest.raises(OverloadedError, match="bodies of 1500 bytes"):
            second.add(1)
        assert held.n_bytes == 1500
    assert held.n_bytes == 0


@pytest.fixture
def url(bundle_dir: Path) -> Iterator[str]:
    settings = Settings(limits=Limits(queued_bytes=2 * MIB))
    with served(Scripted(bundle_dir, at_once), settings) as url:
        yield url


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=60)


def test_a_body_is_held_from_its_first_byte_to_its_reply(url: str) -> None:
    unfinished = post(PATH, b" " * (MIB - 10))[:-1]
    wires = [connected(url) for _ in range(2)]
    for wire in wires:
        wire.sendall(unfinished)
    full = b'{"inputs": "' + b"a" * 100_000 + b'"}'
    while statuses(send(url, post(PATH, full, "Connection: close"))) != [429]:
        pass  # until the other two have arrived
    assert client().get(f"{url}/livez").status_code == 200
    for wire in wires:
        wire.sendall(b"}")
        assert statuses(receive(wire)) == [400]
        wire.close()
    assert statuses(send(url, post(PATH, full, "Connection: close"))) == [200]


def test_a_log_line_has_a_few_texts_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(telemetry, "event", lambda level, name, **fields: logged.append(fields))
    watcher = telemetry.Telemetry(Settings(log_texts=True))
    watcher.set_bundle(BUNDLE, "0")
    watcher.answered("/v1/classify", [UNSURE] * 200, Timings(), 0.1, ["soup " * 1000] * 200)
    assert len(logged[-1]["texts"]) == telemetry.LOGGED_TEXTS
    assert sum(map(len, logged[-1]["texts"])) <= telemetry.LOGGED_TEXTS * telemetry.LOGGED_CHARACTERS
