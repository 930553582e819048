"""What a student learns from: every row and every trace has a status, and only reasons for the decided label train."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config import StudentConfig
from hybrid.errors import DataError
from hybrid.student.training_data import TrainingData, training_data
from hybrid.types import Decision, Example, Vote, VoteStatus

LABELS = ("bad", "good")
CONFIG = StudentConfig(per_row=2, most_words=8)


def row(name: str, label: str) -> tuple[Example, Decision]:
    example = Example(id=name, text=f"text of {name}", label=label)
    return example, Decision(id=name, action="keep", given=label, label=label, weight=1.0, probs=(), reason="")


def vote(row_id: str, label: str | None, rationale: str, sample: int = 0, teacher: str = "t") -> Vote:
    status: VoteStatus = "ok" if label else "unreadable"
    return Vote(id=row_id, status=status, label=label, rationale=rationale, teacher=teacher, sample=sample)


def chosen(votes: list[Vote], config: StudentConfig = CONFIG, **weights: float) -> TrainingData:
    """Rows a and b are bad, c and d good."""
    pairs = [row(name, label) for name, label in (("a", "bad"), ("b", "bad"), ("c", "good"), ("d", "good"))]
    decisions = [
        Decision(
            id=d.id, action="keep", given=d.label, label=d.label, weight=weights.get(d.id, 1.0), probs=(), reason=""
        )
        for _, d in pairs
    ]
    return training_data([example for example, _ in pairs], decisions, votes, LABELS, config, seed=0)


GOOD_C = vote("c", "good", '"lovely" is praise')


def statuses(data: TrainingData) -> dict[str, str]:
    return {row.id: row.status for row in data.rows}


def test_only_reasons_for_the_decided_label_train() -> None:
    data = chosen([vote("a", "bad", '"awful" is a complaint'), vote("b", "good", "it is nice"), GOOD_C])
    assert statuses(data) == {"a": "with_reason", "b": "never_right", "c": "with_reason", "d": "label_only"}
    assert [trace.status for trace in data.traces] == ["trains", "rejected", "trains"]
    assert data.report["rejected_share"] == {"bad": 0.5, "good": 0.0}
    assert data.report["never_right"] == {"bad": 1, "good": 0}


def test_without_rejection_a_reason_trains_with_its_own_label() -> None:
    data = chosen([vote("b", "good", "it is nice"), GOOD_C], StudentConfig(rejection=False))
    assert {row.id: row.labels for row in data.rows if row.reasons} == {"b": ("good",), "c": ("good",)}


def test_a_verbose_reason_is_refused_and_not_cut() -> None:
    data = chosen([vote("a", "bad", "word " * 3000), GOOD_C])
    assert data.traces[0].status == "verbose"
    assert statuses(data)["a"] == "no_usable_reason"


def test_near_copies_and_what_is_over_the_limit_do_not_train() -> None:
    texts = ("it was cold soup", "it was cold soup!", "greasy and stale bread", "nobody ever smiled")
    data = chosen([vote("a", "bad", text, sample) for sample, text in enumerate(texts)] + [GOOD_C])
    assert [trace.status for trace in data.traces[:4]] == ["trains", "near_copy", "trains", "over_limit"]
    assert data.rows[0].reasons == (texts[0], texts[2])


def test_a_source_trains_no_more_than_its_share() -> None:
    votes = [vote(name, "bad" if name in "ab" else "good", f"reason of {name}", teacher="other") for name in "abcd"]
    votes += [vote("a", "bad", "cold and greasy"), GOOD_C]
    data = chosen(votes, StudentConfig(source_shares={"other": 0.5}))
    counts = Counter((trace.source.split("#")[0], trace.status) for trace in data.traces)
    assert counts == {("other", "trains"): 2, ("other", "over_share"): 2, ("t", "trains"): 2}


def test_a_label_outside_the_set_and_a_dropped_row_have_their_status() -> None:
    data = chosen([vote("a", None, "unclear"), vote("b", "bad", "cold"), GOOD_C, vote("d", "good", "")], b=0.0)
    assert [trace.status for trace in data.traces] == ["no_label", "of_dropped_row", "trains", "empty"]
    assert statuses(data) == {"a": "label_only", "b": "dropped", "c": "with_reason", "d": "label_only"}


def test_reasons_become_one_line() -> None:
    data = chosen([vote("a", "bad", "cold\n  and\tgreasy "), GOOD_C])
    assert data.rows[0].reasons == ("cold and greasy",)


@pytest.mark.parametrize(
    ("votes", "weights", "sentence"),
    [
        ([], {}, r"student: no trace is left that gives a reason \(no traces\).*student\.traces"),
        ([GOOD_C], {"a": 0.0, "b": 0.0}, r"student: rows of 1 labels are left.*expected two labels or more"),
    ],
)
def test_nothing_to_learn_from_is_one_sentence(votes: list[Vote], weights: dict[str, float], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        chosen(votes, **weights)


def test_labels_alone_train_without_any_trace() -> None:
    assert set(statuses(chosen([], StudentConfig(layout="direct"))).values()) == {"label_only"}


votes = st.lists(
    st.builds(
        vote,
        st.sampled_from("abcd"),
        st.sampled_from(["bad", "good", None]),
        st.sampled_from(["", "cold", "greasy and stale", "word " * 20, "lovely place"]),
        st.integers(0, 3),
        st.sampled_from(["t", "other"]),
    ),
    max_size=20,
)
settings: Any = st.builds(
    StudentConfig,
    layout=st.just("direct"),
    rejection=st.booleans(),
    per_row=st.integers(1, 3),
    most_words=st.integers(1, 30),
    source_shares=st.sampled_from([{}, {"t": 0.3}]),
)


@given(votes, settings)
def test_counts_add_up_to_what_was_given(given_votes: list[Vote], config: StudentConfig) -> None:
    try:
        data = chosen(given_votes, config)
    except DataError:  # nothing is left to learn from
        return
    counts = data.report["traces"]
    assert counts["all"] == len(given_votes) == sum(n for name, n in counts.items() if name != "all")
    rows = data.report["rows"]
    assert rows["all"] == 4 == sum(n for name, n in rows.items() if name != "all")
    assert counts["trains"] == sum(len(row.reasons) for row in data.rows)
    assert all(len(row.reasons) <= config.per_row for row in data.rows)
    assert all((row.status == "with_reason") == bool(row.reasons) for row in data.rows)
    if config.rejection:
        assert all(set(row.labels) <= {row.label} for row in data.rows)
