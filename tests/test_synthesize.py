"""synthesize: a draft has to be of a rare class, new, of known parents, and agreed."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args
from zlib import crc32

import msgspec
import numpy as np
import pytest

from hybrid.config import DataConfig, Recipe, SynthesizeConfig
from hybrid.stages import synthesize as synthesize_stage
from hybrid.stages.synthesize import (
    Synthesized,
    judging_labels,
    minority_classes,
    planned_drafts,
    synthesize,
    written_in_waves,
)
from hybrid.teacher.drafts.verdict import ClassVerdict, Gate
from hybrid.types import REFUSALS, Decision, Draft, DraftStatus, Example, Report, Trusted, Vote

LABELS = ("a", "b")
ROWS = [
    *(
        Example(id=f"t{i}", text=f"apple banana cherry number {word}", label="a")
        for i, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    ),
    Example(id="t9", text="zebra yak xerus in the wild park", label="b"),
    Example(id="c0", text="violet umbrella under the trembling stars", label="b", part="calibration"),
]


def decided(row: Example) -> Decision:
    return Decision(id=row.id, action="keep", given=row.label, label=row.label, weight=1, probs=(0.5, 0.5), reason="")


DECISIONS = [decided(row) for row in ROWS if row.part == "train"]
EMBEDDINGS = np.array([[1.0, 0.0, 0.0]] * 9 + [[0.0, 1.0, 0.0]])
NEW = "an old walrus waits beside the frozen pier"


def embed(texts: list[str]) -> np.ndarray:
    places = {"walrus": 1, "zebra": 1, "violet": 2, "purple": 2}
    return np.array([np.eye(3)[next((place for word, place in places.items() if word in text), 0)] for text in texts])


def check(*drafts: Draft, votes: tuple[Vote, ...] = (), use: bool | Literal["auto"] = True) -> list[Draft]:
    return run(*drafts, votes=votes, use=use).drafts


def run(*drafts: Draft, votes: tuple[Vote, ...] = (), use: bool | Literal["auto"] = True) -> Synthesized:
    config = SynthesizeConfig(use=use)
    found = synthesize(drafts, ROWS, DECISIONS, EMBEDDINGS, LABELS, config, embed=embed, relabel=lambda _: votes)
    assert found.report["drafts"] == len(drafts)
    return found


def draft(text: str, label: str = "b", draft_id: str = "d0", parents: tuple[str, ...] = ()) -> Draft:
    return Draft(id=draft_id, text=text, label=label, parents=parents)


def test_a_class_far_below_an_even_share_is_a_minority() -> None:
    assert minority_classes(DECISIONS, LABELS, SynthesizeConfig()) == ["b"]


def test_a_new_text_of_a_rare_class_that_the_classifier_believes_is_accepted() -> None:
    assert check(draft(NEW, parents=("t9",)))[0].status == "accepted"


def test_a_draft_of_a_common_class_is_refused() -> None:
    found = check(draft("a new and different thing", label="a"))[0]
    assert (found.status, found.reason) == ("not_rare", "a is no minority class here")


def test_a_near_copy_of_a_calibration_row_is_refused_and_says_of_which() -> None:
    found = check(draft("Violet umbrella under the trembling stars!"))[0]
    assert found.status == "near_row"
    assert "near-copy of calibration row c0" in found.reason


def test_a_parent_outside_train_refuses_the_draft() -> None:
    found = check(draft(NEW, parents=("t9", "c0")))[0]
    assert (found.status, found.reason) == ("foreign_parent", "its parent c0 is not a training row")


def test_the_second_of_two_copies_is_refused() -> None:
    found = check(draft(NEW), draft(NEW + "!", draft_id="d1"))
    assert [one.status for one in found] == ["accepted", "duplicate"]
    assert found[1].reason == "near-copy of draft d0"


def test_a_label_that_neither_teacher_nor_classifier_agrees_with_is_refused() -> None:
    found = check(draft("fruit salad with mint and honey"))[0]
    assert found.status == "not_agreed"
    assert found.reason.startswith("label not agreed")


def test_the_teachers_blind_vote_can_agree_where_the_classifier_does_not() -> None:
    vote = Vote(id="d0", status="ok", label="b", teacher="t")
    assert check(draft("fruit salad with mint and honey"), votes=(vote,))[0].status == "accepted"


def test_a_draft_that_means_what_a_calibration_row_means_is_refused_though_its_words_differ() -> None:
    found = check(draft("purple parasols below shivering suns"))[0]
    assert found.status == "near_test"
    assert found.reason == "means what calibration row c0 means (cosine 1.00)"


def test_a_classifier_that_is_certain_of_another_label_overrules_the_vote() -> None:
    vote = Vote(id="d0", status="ok", label="b", teacher="t")
    config = SynthesizeConfig(use=True, classifier_veto=0.5)
    found = synthesize(
        [draft("fruit salad with mint and honey")],
        ROWS,
        DECISIONS,
        EMBEDDINGS,
        LABELS,
        config,
        embed=embed,
        relabel=lambda _: [vote],
    )
    assert found.drafts[0].status == "off_label"
    assert found.drafts[0].reason.startswith("the classifier is certain of another label: a 0.")
    assert found.report["refused"] == {"another label for certain": 1}


@pytest.mark.parametrize(("use", "status"), [("auto", "batch_refused"), (True, "accepted")])
def test_drafts_that_do_not_pass_the_gate_are_refused_where_it_decides(
    use: bool | Literal["auto"], status: DraftStatus
) -> None:
    rows, vectors = helpful(330, 0)
    more, _ = helpful(330, 1000)
    drafts = [draft(row.text, draft_id=row.id) for row in more if row.label == "b"]
    found = synthesize(
        drafts,
        rows,
        [decided(row) for row in rows],
        vectors,
        LABELS,
        SynthesizeConfig(use=use, near_duplicate=1, near_meaning=1, classifier_floor=0, classifier_veto=1),
        embed=lambda texts: np.zeros((len(texts), 3)) - [1.6, 0, 0],
        relabel=lambda _: [],
    )
    assert found.report["gate"]["classes"][0]["passed"] is False  # type: ignore[index]
    assert {draft.status for draft in found.drafts} == {status}
    if use == "auto":
        assert found.drafts[0].reason.startswith("the drafts of b are refused: ")
        assert found.report["refused"] == {"the batch did not pass the gate": len(drafts)}


def test_a_row_judges_by_a_label_that_the_author_of_the_drafts_did_not_choose() -> None:
    decisions = [
        msgspec.structs.replace(decided(ROWS[0]), id="confirmed"),
        msgspec.structs.replace(decided(ROWS[0]), id="changed", label="b"),
        msgspec.structs.replace(decided(ROWS[0]), id="dropped", weight=0),
        msgspec.structs.replace(decided(ROWS[0]), id="vouched", label="b"),
    ]
    trusted = [Trusted(id="vouched", label="b", source="audit")]
    assert judging_labels(decisions, trusted) == {"confirmed": "a", "vouched": "b"}


@pytest.mark.parametrize(
    ("rare", "enough", "planned"),
    [
        (99, 100, 2),  # one and a half for the row that is missing
        (30, 100, 105),
        (3, 100, 120),  # never more than per_class
        (100, 100, 0),  # enough rows: the class is none of the minority
        (100, 0, 120),  # the share alone decides
        (0, 100, 120),
    ],
)
def test_a_class_gets_one_and_a_half_drafts_for_each_row_that_it_lacks(rare: int, enough: int, planned: int) -> None:
    decisions = [msgspec.structs.replace(DECISIONS[0], id=f"a{i}") for i in range(900)]
    decisions += [msgspec.structs.replace(DECISIONS[0], id=f"b{i}", label="b") for i in range(rare)]
    config = SynthesizeConfig(enough=enough)
    assert planned_drafts(decisions, LABELS, config) == ({"b": planned} if planned else {})


def helpful(count: int, start: int) -> tuple[list[Example], np.ndarray]:
    """Rows of two clouds that overlap, one in eleven of the rare class."""
    rng = np.random.default_rng(start)
    labels = ["b" if i % 11 == 0 else "a" for i in range(count)]
    texts = [" ".join(rng.choice(list("abcdefghijklmnop"), 12)) for _ in labels]
    rows = [
        Example(id=f"r{start + i}", text=t, label=one) for i, (t, one) in enumerate(zip(texts, labels, strict=True))
    ]
    vectors = rng.normal(size=(count, 3)) + np.array([[1.6, 0, 0] if one == "b" else [0, 0, 0] for one in labels])
    return rows, vectors


def judged(passed: bool) -> Gate:
    verdict = ClassVerdict(
        label="b",
        passed=passed,
        reason="" if passed else "recall of b changes by +0.0000",
        rows=30,
        recall={"nothing": 0.5, "drafts": 0.5},
        precision={"nothing": 0.5, "drafts": 0.5},
        recall_gain_p=0.5,
    )
    return Gate(
        drafts=1, macro_f1={"nothing": 0.7, "drafts": 0.71}, classes=[verdict], seeds=1, folds=2, judging_rows=330
    )


@pytest.mark.parametrize("passes", [True, False])
def test_a_batch_that_helps_on_frozen_embeddings_is_tried_with_the_encoder_which_has_the_last_word(
    passes: bool,
) -> None:
    rows, vectors = helpful(330, 0)
    more, places = helpful(660, 1000)
    drafts = [draft(row.text, draft_id=row.id) for row in more if row.label == "b"]
    known = {row.text: vector for row, vector in zip([*rows, *more], [*vectors, *places], strict=True)}
    tried: list[tuple[int, list[str]]] = []

    def trial(accepted: Sequence[Draft], minority: Sequence[str]) -> Gate:
        tried.append((len(accepted), list(minority)))
        return judged(passes)

    found = synthesize(
        drafts,
        rows,
        [decided(row) for row in rows],
        vectors,
        LABELS,
        SynthesizeConfig(use="auto", near_duplicate=1, near_meaning=1, classifier_floor=0, classifier_veto=1),
        embed=lambda texts: np.array([known[text] for text in texts]),
        relabel=lambda _: [],
        trial=trial,
    )
    assert found.report["gate"]["classes"][0]["passed"] is True, found.report["gate"]  # type: ignore[index]
    assert tried == [(len(drafts), ["b"])]
    assert found.report["encoder_gate"]["classes"][0]["passed"] is passes  # type: ignore[index]
    assert {one.status for one in found.drafts} == {"accepted" if passes else "batch_refused"}


def letters_of(number: int) -> str:
    """A word of its own for a number: texts that differ in digits alone would be near-copies."""
    return "".join(np.random.default_rng(number).choice(list("abcdefghijklmnop"), 16))


class Writer:
    """Writes drafts whose vectors are those given, and keeps what was wanted of it."""

    def __init__(self, places: Sequence[float]) -> None:
        self.places = list(places)
        self.wanted: list[dict[str, int]] = []

    def write(self, wanted: dict[str, int]) -> list[Draft]:
        self.wanted.append(wanted)
        place = self.places.pop(0)
        first = 1000 * len(self.wanted)
        numbers = range(first, first + wanted["b"])
        return [draft(f"place {place} {letters_of(number)}", draft_id=f"d{number}") for number in numbers]


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([1.0, -1.0, -1.0], [20, 20]),  # a wave that moves nothing is the last
        ([-3.0, 1.0, 1.0], [20]),  # the first is held against no drafts at all
    ],
)
def test_a_live_teacher_writes_until_a_wave_moves_nothing(
    places: list[float], wanted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of sixty coordinates one tells the classes apart: more than ten rows of a class can show.
    labels = ["b"] * 10 + ["a"] * 200
    rows = [
        Example(id=f"r{i}", text=f"place {int(label == 'b')} row {i}", label=label) for i, label in enumerate(labels)
    ]

    def embed_places(texts: Sequence[str]) -> np.ndarray:
        vectors = np.array([np.random.default_rng(crc32(text.encode())).normal(size=60) for text in texts])
        vectors[:, 0] += [2.5 * float(text.split()[1]) for text in texts]
        return vectors

    np.save(tmp_path / "embeddings.npy", embed_places([row.text for row in rows]))
    config = SynthesizeConfig(wave=20, near_duplicate=1, near_meaning=1, classifier_floor=0, classifier_veto=1)
    recipe = Recipe(name="x", data=DataConfig(), synthesize=config)
    io = SimpleNamespace(
        recipe=recipe,
        labels=LABELS,
        rows=lambda: rows,
        read=lambda _table: [],
        embed=embed_places,
        input=lambda _path: tmp_path / "embeddings.npy",
    )
    writer = Writer(places)
    monkeypatch.setattr(synthesize_stage, "draft_writer", lambda *_: writer)
    waves: list[Report] = []
    drafts = written_in_waves(io, [decided(row) for row in rows], waves)  # type: ignore[arg-type]
    assert [wave["b"] for wave in writer.wanted] == wanted
    assert len(drafts) == sum(wanted)
    assert [(wave["label"], wave["drafts"]) for wave in waves] == [("b", n) for n in wanted]
    assert all(0 <= wave["recall"] <= 1 for wave in waves)


def test_diversity_is_reported_beside_real_texts_of_the_class() -> None:
    found = run(draft(NEW), draft("the walrus sleeps", draft_id="d1"), use="auto").report["diversity"]
    assert found["b"]["drafts"]["texts"] == 2  # type: ignore[index]
    assert found["b"]["real"]["texts"] == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("the batch is refused: macro-F1 on held-out real rows falls from 0.7000 to 0.6000", "batch_refused"),
        ("the teacher's answer failed: timeout", "no_answer"),
        ("plain is no minority class here", "not_rare"),
        ("its parent c0 is not a training row", "foreign_parent"),
        ("near-copy of test row c0 (similarity 0.93)", "near_row"),
        ("near-copy of draft draft/1", "duplicate"),
        ("means what test row c0 means (cosine 0.97)", "near_test"),
        ("the classifier is certain of another label: a 0.99", "off_label"),
        ("label not agreed: the classifier gives b 0.01", "not_agreed"),
        ("a sentence that no version wrote", "refused"),
    ],
)
def test_a_refusal_of_an_old_table_is_read_with_the_status_of_its_sentence(reason: str, status: str) -> None:
    line = msgspec.json.encode({"id": "d", "text": "t", "label": "b", "status": "refused", "reason": reason})
    found = msgspec.json.decode(line, type=Draft)
    assert (found.status, found.reason) == (status, reason)
    assert status in REFUSALS


def test_every_status_that_refuses_has_a_name_in_the_reports() -> None:
    assert {*REFUSALS, "accepted"} == set(get_args(DraftStatus))
