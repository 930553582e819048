"""Encoder and decoder together: what calibration rows say of the decoder, and what an escalated text gets of it."""

import msgspec
import numpy as np
import pytest

from hybrid.calibration.reliability import MIN_VOTES, combined_probs, measure_reliability
from hybrid.config import EvaluateConfig
from hybrid.evaluation.bundle_scores import Answers, Evaluated, evaluate
from hybrid.runtime.combination import Reliability, Weights, combine, combine_vote
from hybrid.runtime.decision import with_vote
from hybrid.types import Example, Prediction, Vote

LABELS = ("bad", "good", "plain")
KNOWN = Reliability(
    model="judge",
    likelihood=((0.9, 0.05, 0.05), (0.1, 0.8, 0.1), (0.3, 0.3, 0.4)),
    plain=Weights(encoder=1.0, decoder=1.0),
    stated=Weights(encoder=1.0, decoder=1.0, rise=4.0),
    typical=0.7,
    accuracy=0.7,
    n_rows=300,
)


class Drawn(msgspec.Struct, frozen=True):
    probs: np.ndarray
    gold: np.ndarray
    votes: list[Vote]

    def part(self, which: slice) -> "Drawn":
        return Drawn(self.probs[which], self.gold[which], self.votes[which])


def draw(n: int, *, right: float, seed: int = 0) -> Drawn:
    """Return an encoder's probabilities, gold, and the votes of a decoder that is right that often, more when sure."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(3, size=n)
    scores = rng.normal(size=(n, 3))
    scores[np.arange(n), gold] += 1.3
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    sure = rng.random(n) < 0.5
    is_right = rng.random(n) < np.clip(right + np.where(sure, 0.15, -0.15) * (right > 0.4), 0, 1)
    said = np.where(is_right, gold, (gold + rng.integers(1, 3, size=n)) % 3)
    votes = [
        Vote(id=str(i), status="ok", label=LABELS[said[i]], confidence=0.9 if sure[i] else 0.5, teacher="judge")
        for i in range(n)
    ]
    return Drawn(probs, gold, votes)


def accuracy_together(learnt: Drawn, asked: Drawn) -> tuple[float, float, float]:
    """Return the accuracy of the encoder, of the decoder, and of both, on rows that were not learnt from."""
    found = measure_reliability(learnt.probs, learnt.gold, learnt.votes, LABELS, folds=5, seed=0).reliability
    assert found is not None
    said = np.array([LABELS.index(vote.label or "") for vote in asked.votes])
    sure = np.array([vote.confidence or 0.0 for vote in asked.votes])
    both = combined_probs(found, asked.probs, said, sure).argmax(axis=1)
    return tuple(float((x == asked.gold).mean()) for x in (asked.probs.argmax(axis=1), said, both))  # type: ignore[return-value]


def test_the_two_together_know_more_than_either() -> None:
    rows = draw(3400, right=0.75)
    encoder, decoder, both = accuracy_together(rows.part(slice(0, 400)), rows.part(slice(400, None)))
    assert both > max(encoder, decoder) + 0.03


def test_a_decoder_that_guesses_moves_nothing() -> None:
    rows = draw(3400, right=1 / 3)
    encoder, decoder, both = accuracy_together(rows.part(slice(0, 400)), rows.part(slice(400, None)))
    assert decoder < 0.4
    assert both > encoder - 0.01


def test_a_vote_counts_by_its_confidence_where_that_told_something_and_not_else() -> None:
    telling = draw(600, right=0.75)
    found = measure_reliability(telling.probs, telling.gold, telling.votes, LABELS, folds=5, seed=0)
    assert found.reliability is not None
    assert found.reliability.stated is not None
    assert found.report["confidence_counts"] is True
    shuffled = np.random.default_rng(1).permutation([vote.confidence for vote in telling.votes])
    votes = [msgspec.structs.replace(v, confidence=float(c)) for v, c in zip(telling.votes, shuffled, strict=True)]
    mute = measure_reliability(telling.probs, telling.gold, votes, LABELS, folds=5, seed=0)
    assert mute.reliability is not None
    assert mute.reliability.stated is None


def test_the_report_says_how_often_the_decoder_was_right_about_each_label() -> None:
    rows = draw(300, right=0.75)
    votes = [*rows.votes[:290], *(Vote(id=str(i), status="failed", teacher="judge") for i in range(10))]
    report = measure_reliability(rows.probs, rows.gold, votes, LABELS, folds=5, seed=0).report
    assert (report["asked"], report["answered"]) == (300, 290)
    right = report["right"]
    assert isinstance(right, dict)
    for i, label in enumerate(LABELS):
        about = [vote.label == label for vote, gold in zip(votes[:290], rows.gold, strict=False) if gold == i]
        assert right[label] == {"rows": len(about), "right": pytest.approx(np.mean(about), abs=1e-6)}


def test_too_few_answers_weigh_nothing() -> None:
    rows = draw(MIN_VOTES - 1, right=0.75)
    found = measure_reliability(rows.probs, rows.gold, rows.votes, LABELS, folds=5, seed=0)
    assert found.reliability is None
    assert "that needs 30 answers" in str(found.report["sentences"])


def test_one_row_and_many_rows_are_combined_alike() -> None:
    rows = draw(50, right=0.75)
    said = np.array([LABELS.index(vote.label or "") for vote in rows.votes])
    sure = np.array([np.nan if i % 5 == 0 else vote.confidence for i, vote in enumerate(rows.votes)])
    together = combined_probs(KNOWN, rows.probs, said, sure)
    for i in range(50):
        one = combine(KNOWN, rows.probs[i].tolist(), int(said[i]), None if np.isnan(sure[i]) else float(sure[i]))
        assert one == pytest.approx(together[i].tolist(), abs=1e-12)


def test_a_sure_vote_moves_the_answer_further_than_an_unsure_one() -> None:
    moved = [combine(KNOWN, [0.2, 0.7, 0.1], 0, sure)[0] for sure in (0.3, 0.7, 0.95)]
    assert moved[0] < moved[1] < moved[2]


def test_a_certain_encoder_and_a_large_rise_stay_finite() -> None:
    steep = msgspec.structs.replace(KNOWN, stated=Weights(encoder=4.0, decoder=4.0, rise=8.0))
    found = combine(steep, [0.0, 1.0, 0.0], 0, 1.0)
    assert sum(found) == pytest.approx(1)


PREDICTED = Prediction(label="good", confidence=0.6, probs={"bad": 0.3, "good": 0.6, "plain": 0.1}, escalate=True)
SAID = Vote(id="0", status="ok", label="bad", rationale="It complains.", confidence=0.95, teacher="judge")


def test_an_escalated_text_gets_what_both_know() -> None:
    after = with_vote(PREDICTED, SAID, KNOWN)
    assert (after.source, after.escalation, after.rationale) == ("both", "answered", "It complains.")
    assert after.label == max(after.probs, key=after.probs.__getitem__) == "bad"
    assert after.confidence == after.probs["bad"] > PREDICTED.probs["bad"]
    doubtful = with_vote(PREDICTED, msgspec.structs.replace(SAID, confidence=0.1), KNOWN)
    assert (doubtful.source, doubtful.label) == ("both", "good")


@pytest.mark.parametrize("reliability", [None, msgspec.structs.replace(KNOWN, model="another")])
def test_the_vote_of_a_decoder_that_was_not_measured_is_taken_as_it_came(reliability: Reliability | None) -> None:
    assert combine_vote(reliability, PREDICTED.probs, SAID) is None
    after = with_vote(PREDICTED, SAID, reliability)
    assert (after.source, after.label, after.probs, after.confidence) == ("decoder", "bad", PREDICTED.probs, 0.3)


def test_evaluate_judges_what_the_bundle_answers() -> None:
    rows = draw(2400, right=0.75)
    learnt, asked = rows.part(slice(0, 400)), rows.part(slice(400, None))
    known = measure_reliability(learnt.probs, learnt.gold, learnt.votes, LABELS, folds=5, seed=0).reliability
    examples = [
        Example(id=vote.id, text="x", label=LABELS[gold], part="test")
        for vote, gold in zip(asked.votes, asked.gold, strict=True)
    ]

    def judged(reliability: Reliability | None) -> Evaluated:
        return evaluate(
            examples,
            Answers(logits=np.log(asked.probs), probs=asked.probs),
            LABELS,
            EvaluateConfig(bootstrap=10),
            threshold=0.6,
            leaked_ids=frozenset(),
            ask=lambda _: asked.votes,
            ask_everything=True,
            seed=0,
            reliability=reliability,
        )

    together, alone = judged(known), judged(None)
    said = dict(zip(LABELS, asked.probs[0].tolist(), strict=True))
    weighed = combine_vote(known, said, asked.votes[0])
    assert weighed is not None
    assert together.judged[0].together == max(weighed, key=weighed.__getitem__)
    assert alone.judged[0].together == alone.judged[0].decoder == asked.votes[0].label
    at_all = [found.report["cascade"][-1]["accuracy"] for found in (together, alone)]  # type: ignore[index]
    assert at_all[0] > at_all[1] + 0.03
    assert together.report["encoder"] == alone.report["encoder"]
