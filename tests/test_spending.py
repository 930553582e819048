"""Where a teacher's calls go: doubtful rows first, conflicting rows again, and the books of it."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import ConfigError, LLMError
from hybrid.files.table import write_rows
from hybrid.llm.client.messages import Messages
from hybrid.llm.traces.recorded import Recorded, Trace, text_digest
from hybrid.recipe_files.read import read_recipe
from hybrid.teacher.ask import AskedVotes
from hybrid.teacher.row_selection import (
    TrustedRows,
    belief_of,
    by_disagreement,
    by_uncertainty,
    trusted_first,
    votes_of_rows,
)
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Example, Vote
from tests.messages_server import Act, MessagesServer, label

LABELS = ("bad", "good")
ROWS = [
    Example(id=f"r{i}", text=f"text number {i}.", label=name) for i, name in enumerate(["bad", "good", "bad", "good"])
]
# The classifier agrees with the given label of rows 0 and 3, is of another mind on row 2, and surely so on row 1.
BELIEFS = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.3, 0.7]])


def vote(row_id: str, name: str | None, confidence: float | None = None) -> Vote:
    status = "ok" if name else "failed"
    return Vote(id=row_id, status=status, label=name, confidence=confidence, teacher="t")  # type: ignore[arg-type]


def teacher(server: MessagesServer, name: str = "m") -> Teacher:
    return Teacher(
        llm=Messages(name, base_url=server.url), config=LLMConfig(model=name, base_url=server.url, workers=1)
    )


def buy(
    config: VerifyConfig, first: Teacher, second: Teacher | None = None, trusted: TrustedRows | None = None
) -> AskedVotes:
    return collect_votes(
        ROWS,
        LABELS,
        config,
        teacher=first,
        second=second,
        beliefs=lambda: BELIEFS,
        on_done=lambda done, total: None,
        trusted=trusted,
    )


def asked_texts(server: MessagesServer) -> list[str]:
    """Return the row that each request of a server was about, by its number."""
    return [str(body["messages"][0]["content"]).split("text number ")[1].split(".")[0] for body in server.bodies]


def reads_text(name_of: dict[str, str]) -> Act:
    """Return the act that labels a text by the number in it."""

    def act(handler: object, body: dict[str, object]) -> None:
        number = str(body["messages"]).split("text number ")[1].split(".")[0]
        label(name_of[number])(handler, body)  # type: ignore[arg-type]

    return act


def test_the_first_calls_go_where_the_classifier_denies_the_given_label_most() -> None:
    given = np.array([LABELS.index(row.label) for row in ROWS])
    assert by_uncertainty(given, BELIEFS).tolist() == [1, 2, 3, 0]


def test_a_reasoned_vote_is_a_source_of_its_own_in_todays_tables_and_in_old_ones() -> None:
    old = msgspec.json.decode(b'{"id":"r1","status":"ok","label":"bad","teacher":"m, reasoned"}', type=Vote)
    assert (old.teacher, old.reasoned, old.source) == ("m", True, "m, reasoned#0")
    assert msgspec.json.decode(msgspec.json.encode(old), type=Vote) == old
    assert vote("r1", "bad").source == "t#0"


def test_rows_of_equal_doubt_stay_in_their_order() -> None:
    assert by_uncertainty(np.zeros(3, dtype=int), np.full((3, 2), 0.5)).tolist() == [0, 1, 2]


def test_rows_on_which_all_agree_are_never_asked_again_and_the_most_divided_comes_first() -> None:
    given = np.array([0, 0, 0, 1])
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    votes = [[vote("0", "bad")], [vote("1", "good", 0.9)], [vote("2", "good", 0.9)], [vote("3", "good", 0.6)]]
    assert by_disagreement(given, probs, votes, LABELS) == [2, 1]


def test_a_silent_teacher_leaves_two_sources_that_can_differ() -> None:
    probs = np.array([[0.2, 0.8], [0.8, 0.2]])
    assert by_disagreement(np.array([0, 0]), probs, [[vote("0", None)], []], LABELS) == [0]


def test_a_confidence_that_nobody_stated_is_not_invented() -> None:
    assert belief_of([vote("0", "good")], LABELS).tolist() == [0, 1]
    assert belief_of([vote("0", "good", 0.75), vote("0", "bad", 0.75)], LABELS).tolist() == [0.5, 0.5]
    assert belief_of([vote("0", None)], LABELS).tolist() == [0, 0]


def test_fewer_calls_than_rows_buy_the_most_doubtful_rows_alone() -> None:
    with MessagesServer(label("bad")) as server:
        found = buy(VerifyConfig(max_calls=2), teacher(server))
        assert sorted(asked_texts(server)) == ["1", "2"]
    assert [one.id for one in found.votes] == ["r1", "r2"]
    assert (found.report["asked"], found.report["not_asked"]) == (2, 2)


def test_trusted_rows_take_up_to_half_of_the_calls_and_the_others_keep_their_order() -> None:
    order, trusted = np.array([3, 1, 4, 0, 2]), np.array([True, False, True, True, False])
    assert trusted_first(order, trusted, 2).tolist() == [0, 3, 1, 4, 2]
    assert trusted_first(order, trusted, 5).tolist() == [0, 2, 3, 1, 4]
    assert trusted_first(order, trusted, 99).tolist() == [0, 2, 3, 1, 4]
    assert trusted_first(np.arange(6), np.array([True] * 6), 4).tolist()[:2] == [0, 3]  # spread: a file may be sorted
    assert trusted_first(order, np.zeros(5, dtype=bool), 4).tolist() == order.tolist()


def test_trusted_rows_are_asked_about_first_and_repair_says_what_else_is_doubtful() -> None:
    repaired = np.array([[1.0, 0.0], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1]])  # denies the given label of row 3 alone
    with MessagesServer(label("bad")) as server:
        found = buy(
            VerifyConfig(max_calls=2), teacher(server), trusted=TrustedRows(frozenset({"r0"}), lambda: repaired)
        )
        assert sorted(asked_texts(server)) == ["0", "3"]
    assert [one.id for one in found.votes] == ["r0", "r3"]


def test_further_votes_go_to_conflicting_rows_until_the_calls_are_used_and_the_report_says_what_changed() -> None:
    with MessagesServer(reads_text({"0": "bad", "1": "good", "2": "bad", "3": "good"})) as server:
        found = buy(VerifyConfig(more_calls=3), teacher(server))
        assert asked_texts(server)[:4] == ["0", "1", "2", "3"]
        assert asked_texts(server)[4:] == ["1", "1", "2"]
    first, more = found.report["steps"]
    assert (first["calls"], more["calls"], more["rows"], more["conflicting"]) == (4, 3, 2, 2)
    assert (more["changed"], more["confirmed"]) == (0, 2)
    assert [(one.id, one.sample) for one in found.votes] == [
        ("r0", 0), ("r1", 0), ("r1", 1), ("r1", 2), ("r2", 0), ("r2", 1), ("r3", 0),
    ]  # fmt: skip


def test_a_second_teacher_is_asked_about_conflicting_rows_alone_and_counts_as_another_source() -> None:
    with (
        MessagesServer(reads_text({"0": "bad", "1": "good", "2": "bad", "3": "good"})) as server,
        MessagesServer(label("good", 1.0)) as other,
    ):
        found = buy(VerifyConfig(more="second", more_calls=9), teacher(server), teacher(other, "second"))
        assert asked_texts(other) == ["1", "2"]
    assert [one.teacher for one in found.votes if one.id == "r2"] == ["m", "second"]
    assert found.report["steps"][1]["changed"] == 1


def test_reasoning_is_asked_for_where_direct_answers_conflict() -> None:
    with MessagesServer(reads_text({"0": "bad", "1": "good", "2": "bad", "3": "good"})) as server:
        found = buy(VerifyConfig(answer="direct", more="reasoned", more_calls=1), teacher(server))
        schemas = [body["output_config"]["format"]["schema"]["properties"] for body in server.bodies]
    assert ["rationale" in schema for schema in schemas] == [False] * 4 + [True]
    assert [(one.id, one.voter) for one in found.votes][1:3] == [("r1", "m"), ("r1", "m, reasoned")]


def test_a_recorded_teacher_is_asked_nothing_more(tmp_path: Path) -> None:
    traces = [
        Trace(id=row.id, text_sha256=text_digest(row.text), rationale="r", label="bad", confidence=0.9) for row in ROWS
    ]
    write_rows(tmp_path / "traces.jsonl", traces)
    recorded = Teacher(llm=Recorded(tmp_path / "traces.jsonl"), config=LLMConfig(model="recorded"))
    found = buy(VerifyConfig(more_calls=10), recorded)
    assert len(found.votes) == len(ROWS)
    assert found.report["steps"][1]["calls"] == 0
    assert "one answer a row" in found.report["steps"][1]["reason"]


def test_without_a_limit_no_classifier_is_fitted() -> None:
    with MessagesServer(label("bad")) as server:
        found = collect_votes(
            ROWS,
            LABELS,
            VerifyConfig(),
            teacher=teacher(server),
            second=None,
            beliefs=_never,
            on_done=lambda d, t: None,
        )
    assert len(found.votes) == 4


def test_a_second_teacher_that_fails_on_every_row_stops_the_run(tmp_path: Path) -> None:
    write_rows(tmp_path / "traces.jsonl", [])
    silent = Teacher(llm=Recorded(tmp_path / "traces.jsonl"), config=LLMConfig(model="recorded"))
    with MessagesServer(label("bad")) as server, pytest.raises(LLMError, match="all 3 requests to recorded failed"):
        buy(VerifyConfig(more="second", more_calls=9), teacher(server), silent)


@pytest.mark.parametrize(
    ("verify", "said"),
    [
        ('more = "second"\nmore_calls = 5', r"expected a section \[second\]"),
        ('more = "reasoned"\nmore_calls = 5', "the first answer has its reasoning"),
        ("votes = 3\nmax_calls = 2", "at least the 3 votes of one row"),
    ],
)
def test_calls_that_nobody_could_answer_are_an_error_of_the_recipe(tmp_path: Path, verify: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "x"\n[data]\ntrain = "t.csv"\n[verify]\n{verify}\n')
    with pytest.raises(ConfigError, match=said):
        read_recipe(path)


def test_votes_are_dealt_to_their_rows() -> None:
    assert votes_of_rows(["b", "a"], [vote("a", "bad"), vote("b", "good")]) == [[vote("b", "good")], [vote("a", "bad")]]


def _never() -> np.ndarray:
    raise AssertionError("a classifier was asked for")
