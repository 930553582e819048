"""The layouts of a student: in which order label and reason follow the text, in training and when it answers.

Everything here is pure text. A training example is a list of segments; the loss reads their kinds, and the tokenizer
their text. No layout needs a new token: modes are told by a plain-text prefix, because the embeddings of small models are
tied to their output and a new row would have to be learned from nothing.

| layout | what a row trains |
|---|---|
| direct | text -> label |
| pre | text -> reason, label |
| post | text -> label, reason |
| mixed | `[DIRECT]` text -> label, or for a share of the rows `[REASON]` text -> label, reason |
| two_pass | both in one step: `[DIRECT]` text -> label, and `[REASON]` text -> reason (Hsieh et al. 2023) |
| sequential | first `[REASON]` text -> reason, label; then, at a lower rate, `[DIRECT]` text -> label |
"""

from typing import Literal, get_args

import msgspec

Kind = Literal["prompt", "label", "reason"]
Layout = Literal["direct", "pre", "post", "mixed", "two_pass", "sequential"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
DIRECT_MODE = "[DIRECT]\n"
REASON_MODE = "[REASON]\n"
MODES: tuple[Layout, ...] = ("mixed", "two_pass", "sequential")
"""The layouts whose prompt says which of two answers is wanted."""
PHASES: dict[Layout, int] = dict.fromkeys(LAYOUTS, 1) | {"sequential": 2}


class Segment(msgspec.Struct, frozen=True):
    """A piece of an example, and what the loss makes of its tokens."""

    kind: Kind
    text: str
    is_control: bool = False
    """Whether `text` is the name of a control token of the model, such as `<|im_end|>`; else it is data, in which such a
    name is plain text."""
    is_row_text: bool = False
    """Whether it is the text to classify: the part that is cut where it is too long."""


Example = tuple[Segment, ...]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around a text, and the control token that ends an answer."""

    before: Example
    after: Example
    end: str


def frame_of(control_tokens: frozenset[str], end: str) -> Frame:
    """Choose the frame that a model knows: ChatML where it has its control tokens, else an empty line after the text.

    `end` is the model's own end-of-text token.
    """
    if {"<|im_start|>", "<|im_end|>"} <= control_tokens:
        start, stop = (
            Segment("prompt", "<|im_start|>", is_control=True),
            Segment("prompt", "<|im_end|>", is_control=True),
        )
        return Frame(
            before=(start, Segment("prompt", "user\n")),
            after=(stop, Segment("prompt", "\n"), start, Segment("prompt", "assistant\n")),
            end="<|im_end|>",
        )
    return Frame(before=(), after=(Segment("prompt", "\n\n"),), end=end)


def examples_of(
    text: str, label: str, reason: str, layout: Layout, frame: Frame, *, phase: int = 0, with_reason: bool = True
) -> tuple[Example, ...]:
    """Lay out what a row trains in one step: one example, or the two of `two_pass`; none where it has no reason to train.

    Args:
        reason: the teacher's; empty where there is none.
        phase: 0, or 1 for the second phase of `sequential`.
        with_reason: for `mixed`, whether this row is drawn to train its reason.
    """
    has_reason = bool(reason)
    if layout == "direct" or (layout == "sequential" and phase == 1):
        mode = DIRECT_MODE if layout == "sequential" else ""
        return ((*prompt(text, frame, mode), *_label(label, _end("label", frame))),)
    if layout in ("pre", "sequential"):
        mode = REASON_MODE if layout == "sequential" else ""
        chain = (Segment("reason", reason), Segment("reason", "\n"))
        return ((*prompt(text, frame, mode), *chain, *_label(label, _end("label", frame))),) if has_reason else ()
    if layout == "post":
        return (_label_then_reason(text, label, reason, "", frame),)
    direct = (*prompt(text, frame, DIRECT_MODE), *_label(label, _end("label", frame)))
    if layout == "mixed":
        reasons = with_reason and has_reason
        return (_label_then_reason(text, label, reason, REASON_MODE, frame) if reasons else direct,)
    reason_pass = (*prompt(text, frame, REASON_MODE), Segment("reason", reason), _end("reason", frame))
    return (direct, reason_pass) if has_reason else (direct,)


def prompt(text: str, frame: Frame, mode: str = "") -> Example:
    """Lay out a text with its frame; `mode` is the prefix that says which answer is wanted."""
    prefix = (Segment("prompt", mode),) if mode else ()
    return (*frame.before, *prefix, Segment("prompt", text, is_row_text=True), *frame.after)


def label_prompt(text: str, layout: Layout, frame: Frame) -> Example:
    """Lay out what stands before the label when a student answers; under `pre` its own reason comes between."""
    return prompt(text, frame, DIRECT_MODE if layout in MODES else "")


def label_end(layout: Layout, frame: Frame) -> Segment:
    """Return what follows a label when a student answers. It belongs to the label's score: no label is then the beginning of another."""
    return Segment("label", "\n") if layout == "post" else _end("label", frame)


def reason_prompt(text: str, label: str, layout: Layout, frame: Frame) -> Example | None:
    """Lay out what stands before the reason for `label`; None for a student that has learned none."""
    if layout == "direct":
        return None
    before = prompt(text, frame, REASON_MODE if layout in MODES else "")
    return (*before, *_label(label, Segment("label", "\n"))) if layout in ("post", "mixed") else before


def reason_ends(layout: Layout, frame: Frame) -> tuple[Segment, ...]:
    """Return what can end a reason."""
    line_end = (Segment("reason", "\n"),) if layout in ("pre", "sequential") else ()
    return (*line_end, _end("reason", frame))


def one_line(reason: str) -> str:
    """Collapse the white space of a reason: a line end ends it."""
    return " ".join(reason.split())


def _label_then_reason(text: str, label: str, reason: str, mode: str, frame: Frame) -> Example:
    labelled = (*prompt(text, frame, mode), *_label(label, Segment("label", "\n")))
    return (*labelled, Segment("reason", reason), _end("reason", frame)) if reason else labelled


def _label(label: str, end: Segment) -> Example:
    return (Segment("label", label), end)


def _end(kind: Kind, frame: Frame) -> Segment:
    return Segment(kind, frame.end, is_control=True)
