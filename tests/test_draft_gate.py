"""The gate of synthesis, and what drafts are like."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from hybrid.data.training_rows import TrainingRow
from hybrid.teacher.drafts.diversity import diversity, tell_apart
from hybrid.teacher.drafts.frozen import Batch, joined, recall_at_own_count
from hybrid.teacher.drafts.gate import FitPredict, Training, encoder_gate, repeated, screen
from hybrid.teacher.drafts.parents import Parents, halves, parent_places, written_without
from hybrid.teacher.drafts.verdict import NOT_JUDGED, Gate, _sign_test, judge
from hybrid.types import Draft
from tests.corpus import LABELS as DISHES
from tests.corpus import texts_and_gold

LABELS = ("common", "rare")


def blobs(seed: int, n_common: int, n_rare: int, gap: float = 1.6) -> Batch:
    """Return two clouds of vectors that overlap, the rare one `gap` away from the other."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1], [n_common, n_rare])
    vectors = rng.normal(size=(len(targets), 4)) + np.outer(targets, [gap, 0, 0, 0])
    return Batch(vectors=vectors, targets=targets, weights=np.ones(len(targets)))


def only_rare(batch: Batch) -> Batch:
    rare = batch.targets == 1
    return Batch(vectors=batch.vectors[rare], targets=batch.targets[rare], weights=batch.weights[rare])


def on_embeddings(drafts: Batch) -> Gate:
    real = blobs(0, 300, 30)
    orphans = [frozenset[int]()] * len(drafts.targets)
    return screen(real, drafts, real.targets, LABELS, ["rare"], parents=orphans, balanced=False, seed=0)


def test_drafts_that_are_like_the_rare_class_pass_on_embeddings() -> None:
    judged = on_embeddings(only_rare(blobs(1, 1, 60)))
    (verdict,) = judged.classes
    assert judged.passed == ["rare"], verdict.reason
    assert verdict.recall["drafts"] > verdict.recall["nothing"]
    assert judged.macro_f1["drafts"] >= judged.macro_f1["nothing"]
    assert verdict.recall_gain_p <= 0.05
    assert (verdict.rows, judged.judging_rows) == (30, 330)


def test_drafts_that_are_like_the_common_class_are_refused_and_the_reason_has_figures() -> None:
    judged = on_embeddings(only_rare(blobs(1, 1, 300, gap=-0.5)))
    assert judged.passed == []
    assert "F1" in judged.refused["rare"]
    assert judged.drafts == 300


def test_the_same_seed_judges_the_same() -> None:
    drafts = only_rare(blobs(1, 1, 40))
    assert msgspec.to_builtins(on_embeddings(drafts)) == msgspec.to_builtins(on_embeddings(drafts))


def verdicts(judging: Sequence[int], minority: Sequence[str] = ("rare",), **predicted: Sequence[int]) -> Gate:
    """Judge predictions of one seed by remedy; `class_weights` stands for "class weights"."""
    tables = {name.replace("_", " "): np.array([answers]) for name, answers in predicted.items()}
    return judge(np.array(judging), tables, LABELS, minority, n_drafts=1, folds=2)


COMMON, RARE = [0] * 20, [1] * 10


def test_drafts_must_beat_every_remedy_that_costs_nothing() -> None:
    nothing, drafts = [0] * 30, [*COMMON, *[1] * 7, *[0] * 3]
    assert verdicts([*COMMON, *RARE], nothing=nothing, drafts=drafts).passed == ["rare"]
    better = [*COMMON, *[1] * 8, *[0] * 2]
    for remedy in ("oversampling", "class_weights"):
        judged = verdicts([*COMMON, *RARE], nothing=nothing, drafts=drafts, **{remedy: better})
        assert judged.passed == []
        assert f"with {remedy.replace('_', ' ')}" in judged.refused["rare"]
    assert 'train.class_weights = "balanced"' in judged.refused["rare"]


def test_recall_that_is_bought_with_too_much_precision_is_refused() -> None:
    nothing = [*COMMON, *[1] * 5, *[0] * 5]
    drafts = [*[1] * 20, *[1] * 10]
    assert verdicts([*COMMON, *RARE], nothing=nothing, drafts=drafts).passed == []


def test_no_rise_of_recall_is_no_reason_to_train_on_drafts() -> None:
    same = [*COMMON, *[1] * 5, *[0] * 5]
    assert "so they add nothing" in verdicts([*COMMON, *RARE], nothing=same, drafts=same).refused["rare"]


def test_a_rise_that_few_rows_cannot_prove_is_taken_and_its_p_value_told() -> None:
    nothing, drafts = [0] * 30, [*COMMON, *[1] * 2, *[0] * 8]
    judged = verdicts([*COMMON, *RARE], nothing=nothing, drafts=drafts)
    assert judged.passed == ["rare"]
    assert judged.classes[0].recall_gain_p == 0.25


def test_the_screen_refuses_harm_alone() -> None:
    def screened(drafts: Sequence[int]) -> Gate:
        nothing = [*COMMON, *[1] * 5, *[0] * 5]
        tables = {"nothing": np.array([nothing]), "drafts": np.array([drafts])}
        return judge(np.array([*COMMON, *RARE]), tables, LABELS, ["rare"], n_drafts=1, folds=5, screen=True)

    assert screened([*COMMON, *[1] * 5, *[0] * 5]).passed == ["rare"]
    assert "macro-F1" in screened([*COMMON, *[1] * 4, *[0] * 6]).refused["rare"]
    assert "macro-F1" in screened([*[1] * 8, *[0] * 12, *[1] * 6, *[0] * 4]).refused["rare"]


def test_rows_without_a_judging_label_count_for_nothing() -> None:
    judging = [*COMMON, *RARE, *[NOT_JUDGED] * 10]
    with_all = verdicts(judging, nothing=[0] * 40, drafts=[*COMMON, *RARE, *[0] * 10])
    assert with_all == verdicts(judging, nothing=[0] * 40, drafts=[*COMMON, *RARE, *[1] * 10])
    assert with_all.judging_rows == 30


def test_each_class_has_a_verdict_of_its_own() -> None:
    labels = ("a", "b", "c")
    judging = np.array([0] * 20 + [1] * 10 + [2] * 10)
    nothing, drafts = [0] * 20 + [0] * 20, [0] * 20 + [1] * 10 + [0] * 10
    judged = judge(
        judging, {"nothing": np.array([nothing]), "drafts": np.array([drafts])}, labels, ["b", "c"], n_drafts=2, folds=2
    )
    assert judged.passed == ["b"]
    assert list(judged.refused) == ["c"]


@pytest.mark.parametrize("rows", [0, 3, 4])
def test_a_class_of_too_few_rows_trains_on_drafts_that_cost_the_others_nothing_and_says_that_nobody_judged(
    rows: int,
) -> None:
    judging = [*COMMON, *[1] * rows]
    (verdict,) = verdicts(judging, nothing=[0] * len(judging), drafts=[0] * len(judging)).classes
    assert verdict.passed
    assert verdict.reason.startswith(f"{rows} real rows of rare are too few to judge its drafts")
    (verdict,) = verdicts(judging, nothing=[0] * len(judging), drafts=[1] * len(judging)).classes
    assert not verdict.passed
    assert "macro-F1 of the other classes falls" in verdict.reason


def test_the_p_value_is_of_the_exact_sign_test() -> None:
    assert _sign_test(3, 0) == pytest.approx(1 / 8)
    assert _sign_test(5, 0) == pytest.approx(1 / 32)
    assert _sign_test(0, 0) == 1


def test_good_drafts_raise_the_recall_at_the_count_of_the_class_and_bad_ones_do_not() -> None:
    real = blobs(0, 300, 12, gap=2.5)
    nothing = Batch(vectors=np.zeros((0, 4)), targets=np.zeros(0, dtype=int), weights=np.zeros(0))
    recalls = [
        recall_at_own_count(real, drafts, real.targets, 1, 2, parents=[frozenset()] * len(drafts.targets), seed=0)
        for drafts in (nothing, only_rare(blobs(1, 1, 80, gap=2.5)), only_rare(blobs(1, 1, 80, gap=-2.5)))
    ]
    assert recalls[1] >= recalls[0] > recalls[2]


def test_copies_have_fewer_different_words_and_more_similarity() -> None:
    vectors = np.eye(3)
    varied = diversity(["red fox runs", "blue whale sings", "green tree grows"], vectors)
    copied = diversity(["red fox runs"] * 3, np.repeat(vectors[:1], 3, axis=0))
    assert (varied["distinct_1"], varied["distinct_2"], varied["mean_similarity"]) == (1, 1, 0)
    assert (copied["distinct_1"], copied["distinct_2"]) == pytest.approx((3 / 9, 2 / 6), abs=1e-4)
    assert copied["mean_similarity"] == pytest.approx(1)


def test_drafts_of_words_of_their_own_are_told_apart_by_them() -> None:
    real = [f"the soup of day {i} was warm" for i in range(20)]
    drafts = [f"the soup of day {i} was delightfully warm" for i in range(20)]
    told = tell_apart(drafts, real)
    assert told["auroc"] == 1.0
    assert told["words"][0] == "delightfully"  # type: ignore[index]
    texts, _ = texts_and_gold(200)
    assert 0.3 < float(tell_apart(texts[::2], texts[1::2])["auroc"]) < 0.7  # type: ignore[arg-type]
    assert tell_apart(drafts[:3], real) == {}


def student(training: Training, texts: Sequence[str]) -> np.ndarray:
    """A cheap encoder that overlooks what is rare: logistic regression on words, held back."""
    rows = training.rows
    words = CountVectorizer().fit([row.text for row in rows])
    model = LogisticRegression(C=0.02, max_iter=1000, class_weight="balanced" if training.balanced else None).fit(
        words.transform([r.text for r in rows]), [r.label for r in rows]
    )
    return np.asarray(model.predict(words.transform(texts)))


def taught(texts: Sequence[str], gold: Sequence[str], *, synthetic: bool = False) -> list[TrainingRow]:
    place = [DISHES.index(label) for label in gold]
    return [
        TrainingRow(text=text, label=label, target=np.eye(3)[label].tolist(), weight=1, synthetic=synthetic)
        for text, label in zip(texts, place, strict=True)
    ]


def tried(
    drafts: list[TrainingRow],
    fit_predict: FitPredict = student,
    *,
    balanced: bool = False,
    n_rare: int = 16,
    parents: Parents | None = None,
) -> Gate:
    real = taught(*reviews(n_rare))
    judging = np.array([row.label for row in real])
    return encoder_gate(
        real,
        drafts,
        judging,
        DISHES,
        ["plain"],
        parents=parents or [frozenset()] * len(drafts),
        half=halves([row.text for row in real], [DISHES[row.label] for row in real]),
        balanced=balanced,
        fit_predict=fit_predict,
    )


def reviews(n_rare: int) -> tuple[list[str], list[str]]:
    """200 texts of the common classes and a few of the rare one."""
    pairs = list(zip(*texts_and_gold(900), strict=True))
    chosen = [one for one in pairs if one[1] != "plain"][:200] + [one for one in pairs if one[1] == "plain"][:n_rare]
    return [text for text, _ in chosen], [label for _, label in chosen]


def drafts_of(label: str) -> list[TrainingRow]:
    """Texts of a class, all of them said to be of the rare one."""
    texts, gold = texts_and_gold(900, seed=1)
    own = [text for text, one in zip(texts, gold, strict=True) if one == label]
    return taught(own, ["plain"] * len(own), synthetic=True)


def test_the_encoder_is_tried_on_two_halves_with_each_remedy() -> None:
    seen: dict[str, tuple[int, int, int, bool]] = {}

    def watched(training: Training, texts: Sequence[str]) -> np.ndarray:
        assert not {row.text for row in training.rows} & set(texts)
        n_synthetic = sum(row.synthetic for row in training.rows)
        seen[training.name] = (len(training.rows), n_synthetic, len(texts), training.balanced)
        return student(training, texts)

    drafts = drafts_of("plain")
    judged = tried(drafts, watched)
    n = len(drafts)
    for fold in (0, 1):
        assert seen[f"nothing-{fold}"] == (108, 0, 108, False)
        assert seen[f"oversampling-{fold}"] == (108 + n, n, 108, False)
        assert seen[f"drafts-{fold}"] == (108 + n, n, 108, False)
        assert seen[f"class-weights-{fold}"] == (108, 0, 108, True)
    assert (judged.drafts, judged.seeds, judged.folds) == (n, 1, 2)
    assert set(judged.macro_f1) == {"nothing", "oversampling", "drafts", "class weights"}


def test_where_training_weights_the_classes_the_weights_are_no_remedy_of_their_own() -> None:
    balanced: list[bool] = []

    def watched(training: Training, texts: Sequence[str]) -> np.ndarray:
        balanced.append(training.balanced)
        return student(training, texts)

    assert set(tried(drafts_of("plain"), watched, balanced=True).macro_f1) == {"nothing", "oversampling", "drafts"}
    assert set(balanced) == {True}


def test_oversampling_repeats_real_rows_in_turn_as_many_as_there_are_drafts() -> None:
    real = taught(["x", "y", "z"], ["plain", "plain", "bad"])
    copies = repeated(real, drafts_of("plain")[:5])
    assert [row.text for row in copies] == ["x", "y", "x", "y", "x"]
    assert all(row.synthetic for row in copies)
    assert repeated(real[2:], drafts_of("plain")[:5]) == []


def test_drafts_that_mislead_the_encoder_are_refused() -> None:
    judged = tried(drafts_of("bad"))
    assert judged.passed == []
    assert "on held-out real rows is" in judged.refused["plain"]


def test_where_one_class_alone_is_known_nothing_is_trained() -> None:
    trained: list[str] = []

    def watched(training: Training, texts: Sequence[str]) -> np.ndarray:
        trained.append(training.name)
        return student(training, texts)

    real = taught([f"text {number}" for number in range(9)], ["bad"] * 9)
    judged = encoder_gate(
        real,
        drafts_of("plain"),
        np.array([row.label for row in real]),
        DISHES,
        ["plain"],
        parents=[frozenset()] * len(drafts_of("plain")),
        half=np.arange(9) % 2,
        balanced=False,
        fit_predict=watched,
    )
    assert trained == ["drafts-0", "drafts-1"]
    assert judged.classes[0].recall["nothing"] == 0


def test_halves_depend_on_ids_alone_and_split_every_class_evenly() -> None:
    ids, labels = [f"r{i}" for i in range(41)], ["rare" if i % 4 == 0 else "common" for i in range(41)]
    half = halves(ids, labels)
    for label in ("rare", "common"):
        own = [place for place, name in zip(half, labels, strict=True) if name == label]
        assert abs(own.count(0) - own.count(1)) <= 1
    order = np.random.default_rng(0).permutation(41)
    assert halves([ids[i] for i in order], [labels[i] for i in order]).tolist() == half[order].tolist()


def test_a_draft_is_not_trained_on_where_one_of_its_parents_judges() -> None:
    seen: dict[str, set[str]] = {}

    def watched(training: Training, texts: Sequence[str]) -> np.ndarray:
        seen[training.name] = {row.text for row in training.rows if row.synthetic}
        return student(training, texts)

    drafts, real = drafts_of("plain")[:6], taught(*reviews(16))
    half = halves([row.text for row in real], [DISHES[row.label] for row in real])
    first, second = (np.flatnonzero(half == number).tolist() for number in (0, 1))
    parents = [
        frozenset(first[:2]), frozenset(first[2:4]), frozenset(second[:1]), frozenset({first[0], second[0]}), frozenset(), frozenset(),
    ]  # fmt: skip
    tried(drafts, watched, parents=parents)
    texts = [draft.text for draft in drafts]
    assert seen["drafts-0"] == {texts[i] for i in (2, 4, 5)}
    assert seen["drafts-1"] == {texts[i] for i in (0, 1, 4, 5)}


def test_a_screen_of_drafts_that_copy_their_parents_gains_nothing_by_them() -> None:
    real = blobs(0, 300, 30)
    rare = np.flatnonzero(real.targets == 1)
    noise = np.random.default_rng(1).normal(size=(30, 60)) * 4
    wide = Batch(
        vectors=np.hstack(
            [real.vectors * 0.2, np.vstack([np.random.default_rng(2).normal(size=(300, 60)) * 4, noise])]
        ),
        targets=real.targets,
        weights=real.weights,
    )
    copies = Batch(vectors=wide.vectors[rare], targets=wide.targets[rare], weights=np.full(30, 5.0))
    own = [frozenset({int(place)}) for place in rare]
    gains = []
    for parents in ([frozenset[int]()] * 30, own):
        judged = screen(wide, copies, wide.targets, LABELS, ["rare"], parents=parents, balanced=False, seed=0)
        gains.append(judged.classes[0].recall["drafts"] - judged.classes[0].recall["nothing"])
    assert gains[0] > 0.5, "with parents unknown the copies give the answers away"
    assert gains[1] < 0.3


def test_parents_that_judge_nothing_keep_no_draft_out() -> None:
    drafts = [Draft(id="d", text="x", label="rare", parents=("a", "gone")), Draft(id="e", text="y", label="rare")]
    parents = parent_places(drafts, ["b", "a"])
    assert parents == [{1}, set()]
    assert written_without(parents, np.array([1])).tolist() == [False, True]
    assert written_without(parents, np.array([0])).tolist() == [True, True]
    nothing = Batch(vectors=np.zeros((0, 0)), targets=np.zeros(0, dtype=int), weights=np.zeros(0))
    assert joined(blobs(0, 3, 2), nothing).vectors.shape == (5, 4)
