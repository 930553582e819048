"""The tree: the questions in their order, the number beside each, the branch taken, and one verdict. Pure functions."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from hybrid.advise.measurements import Measured, NotMeasured, Teacher, Wishes
from hybrid.advise.thresholds import value
from hybrid.evaluation.intervals import Estimate

Verdict = Literal["llm_with_examples", "fine_tuned_encoder", "decoder_student", "cascade", "not_yet"]
VERDICTS: dict[Verdict, str] = {
    "llm_with_examples": "a language model with examples in its prompt",
    "fine_tuned_encoder": "a fine-tuned encoder",
    "decoder_student": "a decoder student with its reasons",
    "cascade": "the cascade: an encoder, and a decoder for what it is not sure of",
    "not_yet": "do not automate this yet",
}
"""What each verdict is called."""
Answer = Literal["yes", "no", "not measured"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question of the tree, with its answer and the number beside it."""

    question: str
    answer: Answer
    number: str
    leads_to: str = ""
    """The branch that this answer takes; empty: on to the next question."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The way through the tree."""

    verdict: Verdict
    because: str
    path: list[Question]
    """The questions that were asked, in their order; the last one decided."""


def decide(measured: Measured, wishes: Wishes) -> Decision:
    """Go through the tree. A question that was not measured is answered as if there were nothing to find, and says so."""
    path: list[Question] = []
    for question, verdict, because in _branches(measured, wishes):
        path.append(msgspec.structs.replace(question, leads_to=VERDICTS[verdict] if verdict else ""))
        if verdict:
            return Decision(verdict=verdict, because=because, path=path)
    raise AssertionError("the last branch of the tree decides")


def beats_encoder(measured: Measured) -> bool:
    """Whether the teacher is right more often than the encoder on the same trusted rows."""
    teacher = measured.teacher
    return isinstance(teacher, Teacher) and teacher.best.beats_encoder_p < value("level")


def needs_reasoning(measured: Measured) -> bool:
    """Whether chain of thought is right more often than direct answers; only where that was measured."""
    teacher = measured.teacher
    return isinstance(teacher, Teacher) and teacher.reasoning_p is not None and teacher.reasoning_p < value("level")


def is_noise(measured: Measured) -> bool:
    """Whether the given labels say nothing of the texts, or are wrong too often to learn from.

    Trusted rows count wrong labels. Where small models find nothing, a teacher that is right more often than the most
    frequent label has found what they miss: then the labels are no noise, and the task is hard.
    """
    noise, teacher = measured.noise, measured.teacher
    if noise.counted is not None and noise.counted.low > value("noise"):
        return True
    if isinstance(teacher, Teacher) and teacher.best.accuracy.low > measured.learned.majority:
        return False
    return noise.signal_p >= value("level") or noise.estimated > value("estimated_noise")


def in_time(measured: Measured, wishes: Wishes) -> bool | None:
    """Whether the teacher answers within the time that was asked for; None where its time is not known."""
    teacher = measured.teacher
    if wishes.p95_ms is None:
        return True
    if not isinstance(teacher, Teacher) or teacher.best.ms is None:
        return None
    return teacher.best.ms <= wishes.p95_ms


def _branches(measured: Measured, wishes: Wishes) -> Iterator[tuple[Question, Verdict | None, str]]:
    yield _enough(measured, wishes)
    yield _labels(measured)
    yield _explained(measured, wishes)
    yield _reasoning(measured)
    yield _more_accurate(measured)
    yield _answers_in_time(measured, wishes)


def _labels(measured: Measured) -> tuple[Question, Verdict | None, str]:
    noise, teacher = measured.noise, measured.teacher
    n_labels = len(measured.facts.labels)
    counted = f"; {figure(noise.counted)} of {noise.n_counted} counted are wrong" if noise.counted else ""
    question = Question(
        question="do the given labels follow the texts?",
        answer="no" if is_noise(measured) else "yes",
        number=f"mean recall {noise.signal:.3f}, guessing {1 / max(n_labels, 1):.3f} (p = {noise.signal_p:.2g}); "
        f"about {noise.estimated:.0%} wrong by confident learning{counted}",
    )
    if not is_noise(measured):
        return question, None, ""
    if (
        isinstance(teacher, Teacher)
        and teacher.best.accuracy.low > measured.learned.majority
        and beats_encoder(measured)
    ):
        return (
            question,
            "llm_with_examples",
            f"the given labels are no base to train on, and {teacher.model} is right on {figure(teacher.best.accuracy)} of "
            "trusted rows without them",
        )
    return (
        question,
        "not_yet",
        "the given labels say too little about the texts; have 200 rows labelled anew by a written policy, two people a row, "
        "and see whether they agree",
    )


def _enough(measured: Measured, wishes: Wishes) -> tuple[Question, Verdict | None, str]:
    n_train, few = measured.facts.parts["train"], value("train_rows")
    rare = [label for label, n in measured.facts.labels.items() if n < value("rows_a_label")]
    enough = n_train >= few
    number = f"{n_train:,} training rows, {few:.0f} are needed"
    if rare:
        number += f"; {len(rare)} labels have fewer than {value('rows_a_label'):.0f}, such as {rare[0]!r}"
    question = Question(
        question="are there enough labelled rows to train on?", answer="yes" if enough else "no", number=number
    )
    if enough:
        return question, None, ""
    if in_time(measured, wishes) is False:
        return (
            question,
            "not_yet",
            f"too few rows for an encoder, and a language model is too slow: label {few - n_train:.0f} more",
        )
    return (
        question,
        "llm_with_examples",
        "an encoder learns little from so few rows, and nothing could judge it; a language model needs a few examples",
    )


def _explained(measured: Measured, wishes: Wishes) -> tuple[Question, Verdict | None, str]:
    question = Question(
        question="must every answer come with its reasons in words?",
        answer="yes" if wishes.explain else "no",
        number="--explain"
        if wishes.explain
        else "--explain was not given; hybrid predict --explain shows the words that decide",
    )
    if not wishes.explain:
        return question, None, ""
    because = "an encoder gives no reasons, and a student learns those of a teacher"
    if isinstance(measured.teacher, NotMeasured):
        because += ", which has to be named in the recipe before it is run"
    return question, "decoder_student", because


def _reasoning(measured: Measured) -> tuple[Question, Verdict | None, str]:
    text, teacher = "does the task need reasoning in several steps?", measured.teacher
    if isinstance(teacher, NotMeasured) or teacher.reasoning_p is None:
        why = (
            teacher.why
            if isinstance(teacher, NotMeasured)
            else f"the answers of {teacher.model!r} are of one kind, and a live teacher gives both"
        )
        return Question(question=text, answer="not measured", number=why), None, ""
    by_way = {way.answer: way for way in teacher.ways}
    number = (
        f"chain of thought {figure(by_way['reasoned'].accuracy)}, direct {figure(by_way['direct'].accuracy)} on "
        f"{teacher.rows} trusted rows (p = {teacher.reasoning_p:.2g})"
    )
    question = Question(question=text, answer="yes" if needs_reasoning(measured) else "no", number=number)
    if not needs_reasoning(measured):
        return question, None, ""
    if by_way["reasoned"].beats_encoder_p >= value("level"):
        return msgspec.structs.replace(question, number=f"{number}; the encoder is level all the same"), None, ""
    return (
        question,
        "decoder_student",
        f"chain of thought finds what direct answers and the encoder ({teacher.encoder_right:.3f} of these rows) miss: "
        "a model that reasons has to answer, and a student of its reasons costs least",
    )


def _more_accurate(measured: Measured) -> tuple[Question, Verdict | None, str]:
    text, teacher = "is a decoder more accurate than an encoder?", measured.teacher
    if isinstance(teacher, NotMeasured):
        question = Question(question=text, answer="not measured", number=teacher.why)
        return question, "fine_tuned_encoder", _encoder_reason(measured)
    best = teacher.best
    question = Question(
        question=text,
        answer="yes" if beats_encoder(measured) else "no",
        number=f"{teacher.model} {figure(best.accuracy)}, frozen encoder {teacher.encoder_right:.3f} on the same "
        f"{teacher.rows} trusted rows (p = {best.beats_encoder_p:.2g})",
    )
    return question, None if beats_encoder(measured) else "fine_tuned_encoder", _encoder_reason(measured)


def _answers_in_time(measured: Measured, wishes: Wishes) -> tuple[Question, Verdict | None, str]:
    teacher = measured.teacher
    assert isinstance(teacher, Teacher), "without a teacher the question before this one decides"
    limit = "no limit was given (--p95)" if wishes.p95_ms is None else f"limit {wishes.p95_ms:.0f} ms"
    fits = in_time(measured, wishes)
    question = Question(
        question="does the decoder answer in time?",
        answer="not measured" if fits is None else "yes" if fits else "no",
        number=f"{'its time is not known' if teacher.best.ms is None else f'{teacher.best.ms:.0f} ms an answer on average'}, {limit}",
    )
    if fits is not False:
        return (
            question,
            "cascade",
            "the encoder answers what it is sure of in milliseconds, and the decoder is right more often on the rest",
        )
    return (
        question,
        "fine_tuned_encoder",
        f"{teacher.model} is more accurate and too slow: let it check the training labels",
    )


def _encoder_reason(measured: Measured) -> str:
    learned = measured.learned
    return (
        f"it learns the task from these rows ({figure(learned.encoder)} frozen, by cross-validation; fine-tuning adds to "
        f"that) and answers in {measured.speed.ms:.1f} ms"
    )


def figure(estimate: Estimate) -> str:
    """A figure with its interval."""
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
