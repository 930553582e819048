"""The client against a real service: answers in order, lists split, deadlines, and an error type a reason."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

import hybrid
import serving.types
from hybrid.client import (
    Answer,
    AsyncClient,
    BadRequestError,
    Client,
    ClientError,
    Failed,
    TooLargeError,
    UnanswerableError,
    UnauthorizedError,
    UnreachableError,
)
from hybrid.client.exchange import BODY_BYTES, ClientConfig, parts_of
from hybrid.errors import ConfigError
from tests.corpus import texts_and_gold
from tests.serving.service_process import started

TEXTS = texts_and_gold(40, seed=5)[0]
KEY = "only-for-tests"
FEW = ClientConfig(max_items=7, timeout_s=60.0)


@pytest.fixture(scope="module")
def url(bundle_dir: Path) -> Iterator[str]:
    """A service that wants a key and takes lists of ten texts of 200 characters."""
    words = ("--set", "limits.items=10", "--set", "limits.characters=200")
    with started(bundle_dir, *words, HYBRID_API_KEYS=KEY) as result:
        yield result


def asked(kind: str, url: str, texts: Sequence[str], config: ClientConfig = FEW) -> list[Answer | Failed]:
    if kind == "sync":
        with Client(url, api_key=KEY, config=config) as client:
            return client.classify(texts)

    async def ask() -> list[Answer | Failed]:
        async with AsyncClient(url, api_key=KEY, config=config) as client:
            return await client.classify(texts)

    return asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("max_items", [7, 256])
def test_a_long_list_is_answered_in_order_in_requests_that_the_service_takes(
    url: str, bundle_dir: Path, kind: str, max_items: int
) -> None:
    # 256 is more than this service takes at once: the client halves the list until it does.
    answers = asked(kind, url, TEXTS, ClientConfig(max_items=max_items, timeout_s=60.0))
    wanted = hybrid.load(bundle_dir).classify(TEXTS)
    assert [item.label for item in answers if isinstance(item, Answer)] == [expected.label for expected in wanted]
    sure = [answer.encoder_confidence for answer in answers if isinstance(answer, Answer)]
    assert sure == pytest.approx([entry.confidence for entry in wanted], abs=1e-4)
    assert len(set(sure)) > 20  # so an answer in another's place would be seen


@pytest.mark.slow
def test_one_text_gives_one_answer_with_the_options_that_were_asked_for(url: str) -> None:
    with Client(url, api_key=KEY, config=FEW) as client:
        answer = client.classify("superb fresh soup", top_k=2, threshold=1.0)
        assert (len(answer.probs), answer.threshold, answer.status) == (2, 1.0, "escalated")
        assert list(answer.probs.values()) == sorted(answer.probs.values(), reverse=True)
        assert client.classify("superb fresh soup", threshold=0.0).status == "accepted"
        assert client.classify([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_error_has_a_type_and_the_place_of_the_text_in_the_whole_list(url: str, kind: str) -> None:
    with pytest.raises(UnanswerableError, match="empty") as empty:
        asked(kind, url, [*TEXTS[:20], "", *TEXTS[20:]])
    assert (empty.value.item, empty.value.status, empty.value.kind) == (20, 422, "unanswerable")
    with pytest.raises(TooLargeError) as long:
        asked(kind, url, [*TEXTS[:9], "soup " * 50])
    assert long.value.status == 413
    with pytest.raises(UnanswerableError, match="lone surrogate"):
        asked(kind, url, ["soup", "\ud800"])
    with pytest.raises(UnanswerableError, match="text 1 is 7; expected a string"):
        asked(kind, url, ["soup", 7])  # type: ignore[list-item]


@pytest.mark.slow
def test_a_key_that_is_not_known_an_unknown_option_and_no_service_are_said(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(url) as client, pytest.raises(UnauthorizedError):
        client.classify("soup")
    with Client(url, api_key=KEY) as client, pytest.raises(BadRequestError):
        client.classify("soup", truncate="middle")  # type: ignore[arg-type]
    monkeypatch.setenv("HYBRID_API_KEY", KEY)
    with Client(url, config=FEW) as client:
        assert client.classify("soup").label
    with (
        Client("http://127.0.0.1:9", config=ClientConfig(retries=0)) as client,
        pytest.raises(UnreachableError, match="there"),
    ):
        client.classify("soup")
    with pytest.raises(ConfigError, match="not the URL of a service"):
        Client("127.0.0.1:8000")


def test_an_answer_of_the_client_is_the_answer_of_the_service() -> None:
    ours, theirs = ({field.name for field in msgspec.structs.fields(item)} for item in (Answer, serving.types.Answer))
    assert ours == theirs


def test_parts_keep_to_both_limits_and_lose_nothing() -> None:
    texts = [*["é" * 300_000] * 5, *["a"] * 600]
    parts = list(parts_of(texts, 256))
    assert [text for _, part in parts for text in part] == texts
    assert [first for first, _ in parts] == [0, 1, 2, 3, 4, 260, 516]
    assert all(sum(len(msgspec.json.encode(text)) + 1 for text in part) <= BODY_BYTES for _, part in parts)
    assert list(parts_of([], 256)) == []
    assert list(parts_of(["a" * 2 * BODY_BYTES, "b"], 256)) == [(0, ["a" * 2 * BODY_BYTES]), (1, ["b"])]


def test_the_client_imports_neither_numpy_nor_onnxruntime() -> None:
    heavy = ("numpy", "onnxruntime", "tokenizers", "torch", "starlette")
    code = f"import sys, hybrid.client; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    without = "import sys; sys.modules['httpx'] = None; import hybrid.client"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert "run `pip install 'hybrid-cascade[client]'`" in done.stderr


def test_every_error_of_the_client_is_one_type() -> None:
    assert issubclass(UnreachableError, ClientError)
    assert UnreachableError.may_pass
    assert not UnauthorizedError.may_pass
