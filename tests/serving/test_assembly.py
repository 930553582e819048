"""All parts together, as `python -m serving` starts them: encoder, decoder, review store, watch and page."""

import json
import sqlite3
import urllib.request
from pathlib import Path

import pytest

from tests.messages_server import MessagesServer, label
from tests.serving.bundles import copied
from tests.serving.service_process import started

pytestmark = pytest.mark.slow


def fetched(url: str, body: dict[str, object] | None = None) -> tuple[str, str]:
    """Return the body of a reply and its request id."""
    request = urllib.request.Request(
        url, json.dumps(body).encode() if body else None, {"content-type": "application/json", "x-request-id": "mine"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read().decode(), reply.headers["x-request-id"]


def test_what_the_encoder_is_not_sure_of_goes_to_the_decoder_and_into_the_review_store(
    bundle_dir: Path, tmp_path: Path
) -> None:
    folder = copied(bundle_dir, tmp_path / "bundle")
    with MessagesServer(label("plain")) as decoder:
        words = ("--set", "decoder.model=judge", "--set", f"decoder.base_url={decoder.url}")
        with started(folder, *words, ANTHROPIC_API_KEY="none") as url:
            asked = {"inputs": ["The soup was awful."], "threshold": 1.0}
            output, request_id = fetched(f"{url}/v1/classify", asked)
            [answer] = json.loads(output)["answers"]
            assert (answer["status"], answer["escalation"]) == ("escalated", "answered")
            assert answer["source"] in ("decoder", "both")
            assert answer["rationale"] == "It says so."
            assert request_id == "mine"
            sure = json.loads(fetched(f"{url}/v1/classify", asked | {"threshold": 0.0})[0])["answers"]
            assert sure[0]["source"] == "encoder"
            metrics, _ = fetched(f"{url}/metrics")
            assert "hybrid_" in metrics
            assert json.loads(fetched(f"{url}/v1/watch")[0])["engine"] == "ready"
            assert "<html" in fetched(f"{url}/")[0]
        assert len(decoder.bodies) == 1
    [store] = tmp_path.glob("*.sqlite")
    with sqlite3.connect(store) as reviews:
        assert "The soup was awful." in "\n".join(reviews.iterdump())


def test_without_a_decoder_no_database_is_opened_and_the_answer_says_what_escalates(
    bundle_dir: Path, tmp_path: Path
) -> None:
    folder = copied(bundle_dir, tmp_path / "bundle")
    with started(folder) as url:
        output, _ = fetched(f"{url}/v1/classify", {"inputs": ["The soup was awful."], "threshold": 1.0})
        [answer] = json.loads(output)["answers"]
        assert (answer["status"], answer["source"], answer["escalation"]) == ("escalated", "encoder", "none")
    assert not list(tmp_path.glob("*.sqlite"))
