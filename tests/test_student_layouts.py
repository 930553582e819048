"""The student's layouts, tokens, label tree and loss: claims that hold for any text, label and reason."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import ConfigError
from hybrid.llm.student.label_scores import label_probs, label_tree, mean_probs
from hybrid.llm.student.layouts import (
    LAYOUTS,
    MODES,
    PHASES,
    Frame,
    Layout,
    Segment,
    examples_of,
    frame_of,
    label_end,
    label_prompt,
    one_line,
    reason_prompt,
)
from hybrid.llm.student.tokens import Tokens
from hybrid.student.loss import LABEL, PROMPT, REASON, batch_of, row_losses, student_loss

CHATML = frame_of(frozenset({"<|im_start|>", "<|im_end|>"}), "<|endoftext|>")
PLAIN = frame_of(frozenset({"</s>"}), "</s>")
words = st.text(min_size=1, max_size=30)
reasons = words.map(one_line).filter(bool)
layouts = st.sampled_from(LAYOUTS)


def of_kind(example: tuple[Segment, ...], kind: str) -> str:
    return "".join(segment.text for segment in example if segment.kind == kind and not segment.is_control)


@given(words, words, reasons, layouts, st.sampled_from([CHATML, PLAIN]), st.booleans())
def test_every_layout_trains_the_label_once_a_step_and_never_shows_it_in_the_prompt(
    text: str, label: str, reason: str, layout: Layout, frame: Frame, with_reason: bool
) -> None:
    for phase in range(PHASES[layout]):
        examples = examples_of(text, label, reason, layout, frame, phase=phase, with_reason=with_reason)
        labelled = [of_kind(example, "label").removesuffix("\n") for example in examples]
        assert [found for found in labelled if found] == [
            label.removesuffix("\n") if label != "\n" else ""
        ] or not label.strip("\n")
        for example in examples:
            row_texts = [segment.text for segment in example if segment.is_row_text]
            assert row_texts == [text]
            assert all(segment.kind == "prompt" for segment in example if segment.is_row_text)


@given(words, words, reasons, layouts)
def test_a_prompt_in_service_is_the_one_that_the_label_was_trained_behind(
    text: str, label: str, reason: str, layout: Layout
) -> None:
    if layout == "pre":
        return
    examples = examples_of(text, label, reason, layout, CHATML, phase=PHASES[layout] - 1, with_reason=False)
    asked = label_prompt(text, layout, CHATML)
    trained = examples[0]
    assert trained[: len(asked)] == asked
    assert trained[len(asked) : len(asked) + 2] == (Segment("label", label), label_end(layout, CHATML))


@given(words, words, reasons, layouts)
def test_a_reason_is_asked_for_as_it_was_trained(text: str, label: str, reason: str, layout: Layout) -> None:
    before = reason_prompt(text, label, layout, CHATML)
    if layout == "direct":
        assert before is None
        return
    assert before is not None
    trained = [example for example in examples_of(text, label, reason, layout, CHATML) if of_kind(example, "reason")]
    assert len(trained) == 1
    assert trained[0][: len(before)] == before
    assert trained[0][len(before)] == Segment("reason", reason)


def test_the_order_is_what_the_layout_is_named_after() -> None:
    def order(layout: Layout, **drawn: bool) -> list[str]:
        kinds = [[s.kind for s in e if not s.is_control] for e in examples_of("t", "l", "r", layout, CHATML, **drawn)]
        return [" ".join(dict.fromkeys(of_example)) for of_example in kinds]

    assert order("direct") == ["prompt label"]
    assert order("pre") == ["prompt reason label"]
    assert order("post") == ["prompt label reason"]
    assert order("mixed", with_reason=True) == ["prompt label reason"]
    assert order("mixed", with_reason=False) == ["prompt label"]
    assert order("two_pass") == ["prompt label", "prompt reason"]
    assert order("sequential") == ["prompt reason label"]


@given(words, words, layouts)
def test_a_row_without_a_reason_trains_its_label_or_nothing(text: str, label: str, layout: Layout) -> None:
    examples = examples_of(text, label, "", layout, CHATML)
    assert len(examples) == (0 if layout in ("pre", "sequential") else 1)
    assert all(not of_kind(example, "reason") for example in examples)


def test_modes_have_prompts_of_their_own() -> None:
    for layout in MODES:
        asked, reasoned = label_prompt("t", layout, CHATML), reason_prompt("t", "l", layout, CHATML)
        assert reasoned is not None
        assert asked != reasoned[: len(asked)]


ids = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@given(st.lists(ids, min_size=2, max_size=6, unique=True), st.randoms())
def test_label_probabilities_add_up_to_one_and_are_products_along_the_way(
    labels: list[tuple[int, ...]], random: "object"
) -> None:
    ended = [(*label, 9) for label in labels]
    tree = label_tree(ended, [str(label) for label in labels])

    def uneven(path: tuple[int, ...], tokens: tuple[int, ...]) -> list[float]:
        weights = [1 + (sum(path) + 3 * token) % 7 for token in tokens]
        return [weight / sum(weights) for weight in weights]

    probs = label_probs(tree, uneven)
    assert sum(probs) == pytest.approx(1)
    assert len(probs) == len(labels)
    for label, prob in zip(ended, probs, strict=True):
        expected = 1.0
        for depth, token in enumerate(label):
            following = sorted(
                {other[depth] for other in ended if other[:depth] == label[:depth] and len(other) > depth}
            )
            shares = dict(zip(following, uneven(label[:depth], tuple(following)), strict=True))
            expected *= shares[token]
        if min(prob, expected) > 1e-2:
            assert prob == pytest.approx(expected)


def test_labels_of_one_token_take_one_call() -> None:
    calls = []

    def even(path: tuple[int, ...], tokens: tuple[int, ...]) -> list[float]:
        calls.append(path)
        return [1 / len(tokens)] * len(tokens)

    assert label_probs(label_tree([(1, 9), (2, 9), (3, 9)], "abc"), even) == [pytest.approx(1 / 3)] * 3
    assert calls == [()]


def test_an_improbable_branch_is_not_walked() -> None:
    calls = []

    def sure(path: tuple[int, ...], tokens: tuple[int, ...]) -> list[float]:
        calls.append(path)
        return [0.9999 if i == 0 else 0.0001 / (len(tokens) - 1) for i in range(len(tokens))]

    probs = label_probs(label_tree([(1, 9), (2, 3, 9), (2, 4, 9)], "abc"), sure)
    assert calls == [()]
    assert probs == [0.9999, pytest.approx(0.00005), pytest.approx(0.00005)]


def test_a_label_that_begins_another_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"labels 'a' and 'b': .* one as the beginning of the other.*rename one"):
        label_tree([(1, 9), (1, 9, 2, 9)], ("a", "b"))


def test_chains_are_averaged() -> None:
    assert mean_probs([[0.2, 0.8], [0.6, 0.4]]) == [pytest.approx(0.4), pytest.approx(0.6)]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), min_size=1, max_size=5),
    st.floats(0, 2),
)
def test_a_long_reason_does_not_drown_its_label(sizes: list[tuple[int, int]], reason_weight: float) -> None:
    """Label tokens that cost 2 and reason tokens that cost 1: the loss is 2 + weight, however many there are."""
    nll, kinds, rows = [], [], []
    for row, (n_label, n_reason) in enumerate(sizes):
        nll += [2.0] * n_label + [1.0] * n_reason
        kinds += [LABEL] * n_label + [REASON] * n_reason
        rows += [row] * (n_label + n_reason)
    losses = row_losses(torch.tensor(nll), torch.tensor(kinds), torch.tensor(rows), len(sizes))
    expected = [2.0 + (reason_weight if n_reason else 0.0) for _, n_reason in sizes]
    loss = float(student_loss(losses, torch.ones(len(sizes)), reason_weight))
    assert loss == pytest.approx(sum(expected) / len(sizes), rel=1e-5)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_a_row_counts_by_its_weight(weights: list[float]) -> None:
    n = len(weights)
    losses = row_losses(torch.arange(1.0, n + 1), torch.full((n,), LABEL), torch.arange(n), n)
    expected = sum(weight * (i + 1) for i, weight in enumerate(weights)) / n
    assert math.isclose(float(student_loss(losses, torch.tensor(weights), 0.3)), expected, rel_tol=1e-5, abs_tol=1e-6)


def test_padding_is_no_target_whatever_id_it_has() -> None:
    short, long = Tokens((7, 0), ("prompt", "label")), Tokens((7, 8, 0, 0), ("prompt", "label", "reason", "reason"))
    batch = batch_of([((short,), 1.0), ((long, short), 0.5)])
    assert batch["input_ids"].tolist() == [[7, 0, 0, 0], [7, 8, 0, 0], [7, 0, 0, 0]]
    assert batch["kinds"].tolist() == [
        [PROMPT, LABEL, PROMPT, PROMPT],
        [PROMPT, LABEL, REASON, REASON],
        [PROMPT, LABEL, PROMPT, PROMPT],
    ]
    assert batch["rows"].tolist() == [0, 1, 1]
    assert batch["weights"].tolist() == [1.0, 0.5]
