"""The gate of a written student: llama.cpp must compute from the file what torch computes from the weights.

Three questions on real rows, each with its limit: does llama.cpp write a text with the same tokens; are the label
log-probabilities of an F16 copy torch's; and does the file that is served decide the same rows the same way. A file whose
query and key weights are stored in the wrong order loads, talks and is mostly right: only the second question tells.
"""

import json
import secrets
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hybrid.encoders.device import training_device
from hybrid.errors import ExportError
from hybrid.llm.local.embedded import begun, serve
from hybrid.llm.student.decoder import Student
from hybrid.llm.student.label_scores import label_probs, label_tree
from hybrid.llm.student.layouts import Layout, Segment, label_end, label_prompt
from hybrid.llm.student.tokens import StudentTokenizer
from hybrid.types import Row

Floats = npt.NDArray[np.float64]
F16_ROWS = 40
SERVED_ROWS = 500
MOST_DIFFERENCE = 0.05
"""The largest difference of a label's log-probability between torch in fp32 and the F16 file."""
LEAST_AGREEMENT = 0.98
"""The smallest share of rows that the served file decides as torch does."""
LEAST_PROB = 1e-6
"""Labels less probable than this are not compared: their logarithm is noise."""


class StudentParity(Row, frozen=True, kw_only=True):
    """How far the files are from the trained weights."""

    f16_rows: int
    max_log_prob_difference: float
    served_rows: int
    agreement: float
    max_prob_difference: float


def torch_label_probs(
    model: Any, tokenizer: StudentTokenizer, texts: Sequence[str], labels: Sequence[str], layout: Layout, *, most: int
) -> Floats:
    """Compute the label probabilities [n, k] of texts by torch in fp32, as `Student.answer` does by llama.cpp.

    `layout` is one whose label follows the prompt: any but `pre`.
    """
    end = tokenizer.ids_of(label_end(layout, tokenizer.frame))
    tree = label_tree([[*tokenizer.ids_of(Segment("label", label)), *end] for label in labels], labels)
    rows = []
    for text in texts:
        ids = tokenizer.encode(label_prompt(text, layout, tokenizer.frame), most=most).ids
        rows.append(label_probs(tree, lambda path, tokens, ids=ids: _next_probs(model, [*ids, *path], tokens)))  # type: ignore[misc]
    return np.array(rows)


def check_parity(
    model: Any,
    *,
    f16: Student,
    served: Student,
    texts: Sequence[str],
    f16_rows: int = F16_ROWS,
    served_rows: int = SERVED_ROWS,
) -> StudentParity:
    """Compare the files with the model on the first texts.

    Under `pre` the label is compared right after the prompt, where the student is not asked; the weights are the same.

    Raises:
        ExportError: the files do not compute what the model computes.
    """
    card, tokenizer = served.card, served.tokenizer
    layout: Layout = "direct" if card.layout == "pre" else card.layout
    texts = texts[:served_rows]
    by_torch = torch_label_probs(model, tokenizer, texts, card.labels, layout, most=card.max_tokens)
    by_f16 = np.array([f16.label_probs(text) for text in texts[:f16_rows]])
    by_served = np.array([served.label_probs(text) for text in texts])
    expected = by_torch[: len(by_f16)]
    counted = expected > LEAST_PROB
    difference = np.abs(np.log(np.maximum(by_f16, 1e-12)) - np.log(np.maximum(expected, 1e-12)))[counted].max()
    parity = StudentParity(
        f16_rows=len(by_f16),
        max_log_prob_difference=round(float(difference), 6),
        served_rows=len(texts),
        agreement=round(float((by_served.argmax(axis=1) == by_torch.argmax(axis=1)).mean()), 6),
        max_prob_difference=round(float(np.abs(by_served - by_torch).max()), 6),
    )
    if parity.max_log_prob_difference > MOST_DIFFERENCE:
        raise ExportError(
            f"student: the written file does not compute what was trained: on {parity.f16_rows} texts label log-probabilities "
            f"differ by up to {parity.max_log_prob_difference:.3f}, expected at most {MOST_DIFFERENCE}; report this with the "
            "name of the base model"
        )
    if parity.agreement < LEAST_AGREEMENT:
        raise ExportError(
            f"student: the file that would answer decides {parity.agreement:.1%} of {parity.served_rows} texts as the trained "
            f"weights do, expected {LEAST_AGREEMENT:.0%}: its encoding costs too much; set student.encoding = 'f16', or train for "
            "longer"
        )
    return parity


def check_tokens(path: Path, tokenizer: StudentTokenizer, texts: Sequence[str]) -> None:
    """Compare the tokens of texts with llama.cpp's own.

    Raises:
        ExportError: a text has other tokens.
    """
    key = secrets.token_hex(16)
    server = begun(serve(path, slots=1, key=key))
    for text in texts:
        ids, theirs = tokenizer.ids_of(Segment("prompt", text)), _tokens_of(server.listening_address, key, text)
        if ids != theirs:
            raise ExportError(
                f"student: llama.cpp writes {text[:60]!r} with other tokens ({theirs[:8]}) than training did ({ids[:8]}); report "
                "this with the name of the base model"
            )


def _tokens_of(address: str, key: str, text: str) -> list[int]:
    """Ask llama.cpp's server, over the loopback interface, for the tokens of a text."""
    body = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/tokenize", data=body, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as reply:
        tokens: list[int] = json.loads(reply.read())["tokens"]
    return tokens


def _next_probs(model: Any, ids: Sequence[int], tokens: Sequence[int]) -> list[float]:
    device = training_device()
    with torch.no_grad():
        hidden = model.get_decoder()(input_ids=torch.tensor([ids], device=device), use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden[0, -1]).float()[list(tokens)]
    probs: list[float] = torch.softmax(logits.double(), dim=0).tolist()
    return probs
