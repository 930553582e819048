"""Questions about a text: answered by the encoder where they are its own, else by the decoder, and by nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from jevcompat import runner

import hybrid
from serving.settings import API_KEYS
from tests.messages_server import MessagesServer
from tests.serving.decision_server import enum_in, first_option, nothing
from tests.serving.serving_process import started

TEXT = "The soup was awful and stale."


@pytest.fixture(scope="module")
def alone(plain_server: str) -> str:
    """A service without a decoder."""
    return plain_server


@pytest.fixture(scope="module")
def with_decoder(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, MessagesServer]]:
    """A service with one that chooses the first option."""
    with MessagesServer(first_option) as messages, deciding(bundle_dir, messages, tmp_path_factory.mktemp("d")) as url:
        yield url, messages


@contextmanager
def deciding(bundle_dir: Path, messages: MessagesServer, folder: Path) -> Iterator[str]:
    """Serve with a decoder, as the command starts it."""
    words = {
        "decoder.model": "any",
        "decoder.base_url": messages.url,
        "reviews": f"sqlite:///{folder}/escalations.sqlite",
        "limits.timeout_ms": "60000",
        "decoder.deadline_ms": "60000",
    }
    with started(
        bundle_dir, *(word for name, value in words.items() for word in ("--set", f"{name}={value}"))
    ) as server:
        yield server.url


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def own_choice(*labels: str) -> dict[str, Any]:
    return {"type": "choice", "instructions": "How was it?", "choices": [{"value": label} for label in labels]}


def test_the_openai_client_gets_the_encoders_probabilities_in_the_order_that_it_asked_in(
    alone: str, bundle_dir: Path
) -> None:
    wanted = hybrid.load(bundle_dir).classify([TEXT])[0]
    question = own_choice("plain", "good", "bad") | {"name": "taste"}
    with client_of(alone) as client:
        reply = client.decisions.create(model="dishes", input=TEXT, questions=[question])  # type: ignore[list-item]
    (answer,) = reply.answers
    assert answer.type == "choice"
    assert (answer.name, answer.choice) == ("taste", wanted.label)
    assert [probability.value for probability in answer.probabilities] == ["plain", "good", "bad"]
    assert {str(item.value): item.probability for item in answer.probabilities} == pytest.approx(wanted.probs, abs=1e-5)
    assert answer.confidence == pytest.approx((wanted.confidence - 1 / 3) / (2 / 3), abs=1e-5)
    assert reply.usage.total_tokens == reply.usage.input_tokens > 2


def test_levels_that_are_the_labels_are_scored_by_the_encoder(alone: str, bundle_dir: Path) -> None:
    probs = hybrid.load(bundle_dir).classify([TEXT])[0].probs
    levels = [{"label": "bad"}, {"label": "plain"}, {"label": "good"}]
    with client_of(alone) as client:
        question: Any = {"type": "score", "instructions": "How good?", "levels": levels}
        (answer,) = client.decisions.create(model="dishes", input=TEXT, questions=[question]).answers
    assert answer.type == "score"
    assert answer.score == pytest.approx(probs["plain"] + 2 * probs["good"], abs=1e-5)
    assert [probability.value for probability in answer.probabilities] == [0, 1, 2]


def test_messages_are_read_as_one_text_and_images_are_refused(alone: str, bundle_dir: Path) -> None:
    wanted = hybrid.load(bundle_dir).classify([TEXT])[0]
    part = {"type": "input_text", "text": TEXT}
    image = {"type": "input_image", "image_url": "data:,"}
    with client_of(alone) as client:

        def ask(content: Any) -> Any:
            message: Any = {"role": "user", "content": content}
            question: Any = own_choice("bad", "good", "plain")
            return client.decisions.create(model="dishes", input=[message], questions=[question]).answers[0]

        assert ask([part]).probabilities[0].probability == pytest.approx(wanted.probs["bad"], abs=1e-5)
        with pytest.raises(openai.UnprocessableEntityError, match="got an image; expected text"):
            ask([part, image])


def test_a_foreign_question_without_a_decoder_is_refused_and_says_what_may_be_asked(alone: str) -> None:
    with client_of(alone) as client, pytest.raises(openai.UnprocessableEntityError) as caught:
        question: Any = {"type": "predicate", "instructions": "Is it a complaint?"}
        client.decisions.create(model="dishes", input=TEXT, questions=[question])
    assert "not the bundle's labels (bad, good, plain), and no decoder is configured" in str(caught.value)


def test_an_unknown_model_is_not_served(alone: str) -> None:
    with (
        client_of(alone) as client,
        pytest.raises(openai.NotFoundError, match="expected 'dishes', the only model of this server"),
    ):
        question: Any = own_choice("bad", "good", "plain")
        client.decisions.create(model="gpt-6-luna", input=TEXT, questions=[question])


def test_the_model_list_suits_the_openai_client(alone: str) -> None:
    with client_of(alone) as client:
        assert [model.id for model in client.models.list()] == ["dishes"]


@pytest.mark.slow
def test_only_foreign_questions_go_to_the_decoder_and_each_answer_keeps_its_place(
    with_decoder: tuple[str, MessagesServer],
) -> None:
    url, messages = with_decoder
    before = len(messages.bodies)
    foreign: Any = {
        "type": "choice",
        "instructions": "Which team?",
        "choices": [{"value": "kitchen", "description": "cooks"}, {"value": True}, {"value": "bar"}],
    }
    predicate: Any = {"type": "predicate", "instructions": "Is it a complaint?", "name": "complaint"}
    with client_of(url) as client:
        own: Any = own_choice("good", "bad", "plain")
        answers = client.decisions.create(model="dishes", input=TEXT, questions=[predicate, own, foreign]).answers
    assert [answer.type for answer in answers] == ["predicate", "choice", "choice"]
    assert answers[0].type == "predicate"
    assert answers[0].probability == 0.75
    assert answers[2].type == "choice"
    assert answers[2].choice == "kitchen"
    assert [probability.value for probability in answers[2].probabilities] == ["kitchen", True, "bar"]
    # The bundle's own question may escalate too; its options tell it from the others.
    asked = [str(body) for body in messages.bodies[before:] if set(enum_in(body)) != {"bad", "good", "plain"}]
    assert len(asked) == 2
    assert any("Which team?" in body and "cooks" in body for body in asked)


@pytest.mark.slow
def test_where_the_decoder_gives_no_answer_one_protocol_refuses_the_question_and_the_other_the_request(
    bundle_dir: Path, tmp_path: Path
) -> None:
    with MessagesServer(nothing) as messages, deciding(bundle_dir, messages, tmp_path) as url:
        with client_of(url) as client:
            predicate: Any = {"type": "predicate", "instructions": "Is it a complaint?", "name": "complaint"}
            own: Any = own_choice("good", "bad", "plain")
            answers = client.decisions.create(model="dishes", input=TEXT, questions=[predicate, own]).answers
        assert [(answer.type, answer.name) for answer in answers] == [("refusal", "complaint"), ("choice", None)]
        noul = {"type": "noul", "instructions": "Is it a complaint?"}
        reply = httpx.post(f"{url}/v1/systemone", json={"state": TEXT, "questions": {"q": noul}}, timeout=60)
        assert reply.status_code == 422
        assert "the decoder gave no answer" in reply.json()["detail"][0]["msg"]


@pytest.mark.slow
def test_systemone_conforms(with_decoder: tuple[str, MessagesServer]) -> None:
    report = runner.run(with_decoder[0], timeout=60)
    failed = [f"{result.id}: {result.findings[0].message}" for result in report.results if result.status == "fail"]
    assert failed == []
    assert report.verdict == "conformant", (report.aborted, report.untested_musts, report.inconclusive)
    assert report.count("MUST", "skip") == 1  # the one about a server with keys


@pytest.mark.slow
def test_systemone_reads_keys_as_its_clients_send_them(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEYS, "soup-of-the-day")
    with MessagesServer(first_option) as messages, deciding(bundle_dir, messages, tmp_path) as url:
        report = runner.run(url, key="soup-of-the-day", timeout=60, only={"auth"})
    status = {result.id: result.status for result in report.results if result.id.startswith("auth.")}
    assert status == {
        "auth.bearer": "pass",
        "auth.missing": "pass",
        "auth.invalid": "pass",
        "auth.ignored-when-off": "skip",
    }


@pytest.mark.slow
def test_the_conformance_suite_finds_a_server_that_cannot_answer(alone: str) -> None:
    report = runner.run(alone, timeout=60)
    assert report.verdict != "conformant"
