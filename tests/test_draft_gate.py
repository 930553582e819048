"""The gate of synthesis, and how diverse drafts are."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from hybrid.data.training_rows import TrainingRow
from hybrid.teacher.drafts.diversity import diversity
from hybrid.teacher.drafts.gate import Batch, FitPredict, Gate, _reason, _sign_test, encoder_gate, gate
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


def judge(drafts: Batch, *, balanced: bool = False) -> Gate:
    return gate(blobs(0, 300, 30), drafts, LABELS, ["rare"], balanced=balanced, seed=0)


def test_drafts_that_are_like_the_rare_class_pass() -> None:
    found = judge(only_rare(blobs(1, 1, 60)))
    assert found.passed, found.reason
    assert found.recall["rare"][1] > found.recall["rare"][0]
    assert found.macro_f1[1] >= found.macro_f1[0]
    assert found.recall_gain_p <= 0.05


def test_drafts_that_are_like_the_common_class_are_refused_and_the_reason_has_figures() -> None:
    drafts = only_rare(blobs(1, 1, 300, gap=-0.5))
    found = judge(drafts)
    assert not found.passed
    assert found.reason.startswith(("macro-F1 on held-out real rows falls", "recall on minority rows changes by"))
    assert found.drafts == 300


def test_no_rise_is_no_clear_rise() -> None:
    assert "not clearly a rise" in _reason([0.7, 0.7], gain=0.0, p=1.0)
    assert _reason([0.7, 0.7], gain=0.02, p=0.01) == ""


def test_three_rows_found_and_none_lost_may_be_luck_and_five_are_not() -> None:
    assert _sign_test(3, 0) == pytest.approx(1 / 8)
    assert _sign_test(5, 0) == pytest.approx(1 / 32)
    assert _sign_test(0, 0) == 1


def test_the_same_seed_judges_the_same() -> None:
    drafts = only_rare(blobs(1, 1, 40))
    assert msgspec.to_builtins(judge(drafts)) == msgspec.to_builtins(judge(drafts))


def test_copies_have_fewer_different_words_and_more_similarity() -> None:
    vectors = np.eye(3)
    varied = diversity(["red fox runs", "blue whale sings", "green tree grows"], vectors)
    copied = diversity(["red fox runs"] * 3, np.repeat(vectors[:1], 3, axis=0))
    assert (varied["distinct_1"], varied["distinct_2"], varied["mean_similarity"]) == (1, 1, 0)
    assert (copied["distinct_1"], copied["distinct_2"]) == pytest.approx((3 / 9, 2 / 6), abs=1e-4)
    assert copied["mean_similarity"] == pytest.approx(1)


def student(_: str, rows: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
    """A cheap encoder that overlooks what is rare: logistic regression on words, held back."""
    words = CountVectorizer().fit([row.text for row in rows])
    model = LogisticRegression(C=0.02, max_iter=1000).fit(
        words.transform([r.text for r in rows]), [r.label for r in rows]
    )
    return np.asarray(model.predict(words.transform(texts)))


def taught(texts: Sequence[str], gold: Sequence[str], *, synthetic: bool = False) -> list[TrainingRow]:
    place = [DISHES.index(label) for label in gold]
    return [
        TrainingRow(text=text, label=label, target=np.eye(3)[label].tolist(), weight=1, synthetic=synthetic)
        for text, label in zip(texts, place, strict=True)
    ]


def tried(drafts: list[TrainingRow], fit_predict: FitPredict = student) -> Gate:
    return encoder_gate(taught(*reviews()), drafts, DISHES, ["plain"], fit_predict=fit_predict, seed=0)


def reviews() -> tuple[list[str], list[str]]:
    """200 texts of the common classes and 40 of the rare one."""
    pairs = list(zip(*texts_and_gold(900), strict=True))
    chosen = [one for one in pairs if one[1] != "plain"][:200] + [one for one in pairs if one[1] == "plain"][:40]
    return [text for text, _ in chosen], [label for _, label in chosen]


def drafts_of(label: str) -> list[TrainingRow]:
    """Texts of a class, all of them said to be of the rare one."""
    texts, gold = texts_and_gold(900, seed=1)
    own = [text for text, one in zip(texts, gold, strict=True) if one == label]
    return taught(own, ["plain"] * len(own), synthetic=True)


def test_the_encoder_is_tried_on_a_fifth_of_the_rows_without_and_with_the_drafts() -> None:
    seen: dict[str, tuple[int, int, int]] = {}

    def watched(name: str, rows: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
        assert not {row.text for row in rows} & set(texts)
        seen[name] = (len(rows), sum(row.synthetic for row in rows), len(texts))
        return student(name, rows, texts)

    drafts = drafts_of("plain")
    found = tried(drafts, watched)
    n = len(drafts)
    assert seen == {"without": (192, 0, 48), "with": (192 + n, n, 48)}
    assert (found.passed, found.drafts, found.seeds, found.folds) == (True, n, 1, 5), found.reason
    assert found.recall["plain"][1] > found.recall["plain"][0]


def test_drafts_that_mislead_the_encoder_are_refused() -> None:
    found = tried(drafts_of("bad"))
    assert not found.passed
    assert found.reason.startswith("macro-F1 on held-out real rows falls")


def test_where_one_class_alone_is_known_nothing_is_trained() -> None:
    trained: list[str] = []

    def watched(name: str, rows: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
        trained.append(name)
        return student(name, rows, texts)

    for seed in range(8):  # the fold held out has the only row of its class, or has not
        trained.clear()
        real = taught([f"text {number}" for number in range(9)], ["bad"] * 8 + ["plain"])
        with pytest.warns(UserWarning, match="least populated class"):
            found = encoder_gate(real, drafts_of("plain"), DISHES, ["plain"], fit_predict=watched, seed=seed)
        assert trained in (["with"], ["without", "with"])
        if trained == ["with"]:
            assert found.recall["plain"][0] == 0
            return
    raise AssertionError("no seed held the only row out")
