"""Drafts from attributes: one call for the attributes, then plans that differ."""

import json
from collections.abc import Sequence

import msgspec
import pytest

from hybrid.config import LLMConfig, SynthesizeConfig
from hybrid.errors import DataError
from hybrid.llm import Reply, Usage
from hybrid.llm.client.messages import Messages
from hybrid.llm.tasks.drafts import GENERIC, Attribute, attributes_request, read_attributes
from hybrid.teacher.drafts.parents import halves
from hybrid.teacher.drafts.writing import DraftWriter, cost_between
from hybrid.teacher.vote_collection import Teacher
from hybrid.types import Draft, Example
from tests.messages_server import MessagesServer, answer

LABELS = ("bad", "good")
ROWS = [Example(id=f"r{i}", text=f"text number {i}", label=LABELS[i % 2]) for i in range(12)]
ATTRIBUTES = {
    "attributes": [{"name": "topic", "values": ["boats", "soup", "soup", " "]}, {"name": "empty", "values": []}]
}
CONFIG = SynthesizeConfig()
TEXT = json.dumps({"plan": "A plan.", "text": "A new text."})


def draft(
    *replies: str, config: SynthesizeConfig = CONFIG, waves: Sequence[int]
) -> tuple[list[Draft], list[dict[str, object]]]:
    with MessagesServer(*[answer(reply) for reply in replies]) as server:
        teacher = Teacher(llm=Messages("m", base_url=server.url), config=LLMConfig(model="m", workers=1))
        writer = DraftWriter(ROWS, LABELS, config, teacher=teacher, seed=0, on_done=lambda done, total: None)
        found = [draft for n in waves for draft in writer.write({"bad": n})]
    return found, server.bodies


def test_the_attributes_come_in_one_call_and_every_draft_keeps_to_a_value_of_each() -> None:
    found, bodies = draft(json.dumps(ATTRIBUTES), TEXT, waves=(4,))
    assert len(bodies) == 5
    users = [str(body["messages"]) for body in bodies[1:]]
    assert all("- topic: boats" in user or "- topic: soup" in user for user in users)
    assert len({user.split("- topic: ")[1][:5] for user in users}) == 2
    assert all("[topic: " in one.plan for one in found)
    assert all(ROWS[int(parent[1:])].label == "bad" for one in found for parent in one.parents)


def test_the_parents_of_a_draft_are_of_one_half_and_drafts_take_the_halves_in_turn() -> None:
    half = dict(zip([row.id for row in ROWS], halves([r.id for r in ROWS], [r.label for r in ROWS]), strict=True))
    found, _ = draft(json.dumps(ATTRIBUTES), TEXT, waves=(3, 3))
    assert [{int(half[parent]) for parent in one.parents} for one in found] == [{0}, {1}, {0}, {1}, {0}, {1}]


def test_temperatures_are_taken_in_turn() -> None:
    _, bodies = draft(json.dumps(ATTRIBUTES), TEXT, config=SynthesizeConfig(temperatures=(0.5, 1.0)), waves=(3,))
    assert [body.get("temperature") for body in bodies] == [None, 0.5, 1.0, 0.5]


def test_a_second_wave_goes_on_counting_and_asks_what_one_wave_would_have_asked() -> None:
    at_once, one_wave = draft(json.dumps(ATTRIBUTES), TEXT, waves=(4,))
    in_two, two_waves = draft(json.dumps(ATTRIBUTES), TEXT, waves=(3, 1))
    assert [row.id for row in in_two] == ["draft/bad/0", "draft/bad/1", "draft/bad/2", "draft/bad/3"]
    assert [row.id for row in at_once] == [row.id for row in in_two]
    assert [body["messages"] for body in one_wave] == [body["messages"] for body in two_waves]


def test_nothing_wanted_asks_nothing() -> None:
    assert draft(json.dumps(ATTRIBUTES), waves=(0,)) == ([], [])


@pytest.mark.parametrize(
    "said", ["no JSON", '{"attributes": []}', '{"attributes": [{"name": "x", "values": ["one"]}]}']
)
def test_a_teacher_that_names_no_attributes_leaves_the_generic_ones(said: str) -> None:
    assert read_attributes(Reply(status="ok", text=said, model="m")) == GENERIC
    assert read_attributes(Reply(status="failed", text="", model="m")) == GENERIC


def test_attributes_are_stripped_and_say_each_value_once() -> None:
    reply = Reply(status="ok", text=json.dumps(ATTRIBUTES), model="m")
    assert read_attributes(reply) == (Attribute("topic", ("boats", "soup")),)


def test_no_row_that_judges_inspires_the_attributes() -> None:
    row = msgspec.structs.replace(ROWS[0], part="test")
    with pytest.raises(DataError, match="test row"):
        attributes_request(LABELS, [row], LLMConfig())


def test_the_cost_of_a_stage_is_what_the_books_grew_by() -> None:
    before, after = Usage(calls=2, cost_usd=0.5), Usage(calls=5, output_tokens=40, cost_usd=0.75)
    assert cost_between(before, after) == {
        "calls": 3, "hits": 0, "input_tokens": 0, "output_tokens": 40, "cost_usd": 0.25,
    }  # fmt: skip
    assert cost_between(None, None)["cost_usd"] == 0
    assert cost_between(before, Usage(cost_usd=None))["cost_usd"] is None
