"""Asks a student: label probabilities by scoring the labels' tokens after the prompt, and the reason where it is asked for.

Nothing is generated for a label: the model reads the prompt once, and its next-token probabilities over the labels' tokens are
the answer. That takes a tenth of the time of a JSON answer under a grammar, and gives probabilities.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.local.embedded import MOST_SLOTS, begun, fingerprint, serve
from hybrid.llm.request import FailureKind, Reply, Request
from hybrid.llm.student.card import StudentCard, read_card
from hybrid.llm.student.label_scores import Node, label_probs, label_tree, mean_probs
from hybrid.llm.student.layouts import (
    Example,
    Layout,
    Segment,
    label_end,
    label_prompt,
    one_line,
    reason_ends,
    reason_prompt,
)
from hybrid.llm.student.tokens import StudentTokenizer, read_metadata

_BIAS = 80.0
"""Added to the logits of the tokens that may follow: they are then all that is likely, and their ratios stay. A float32 of
this size is exact to 1e-5, far below what the rounding of the weights moves."""
_MOST_REASON_TOKENS = 120
_CHAIN_TEMPERATURE = 0.7
_NO_FILTER = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a student makes of a text: the probability of each label [k], and its reason where it was asked for."""

    probs: list[float]
    reason: str = ""
    prompt_tokens: int = 0


class Student:
    """A student's GGUF file that answers in this process: a `hybrid.llm.request.LLM`. Safe to share between threads."""

    def __init__(self, path: Path, *, workers: int = MOST_SLOTS) -> None:
        """Load the model.

        Raises:
            LLMError: a package is missing, the file is no student's, or llama.cpp cannot load it.
            ConfigError: the tokenizer writes one label as the beginning of another.
        """
        if not path.is_file():
            raise LLMError(f"{path}: no such file; expected a student's GGUF file: train one with `hybrid student`")
        metadata = read_metadata(path)
        self.card: StudentCard = read_card(metadata, str(path))
        self.tokenizer = StudentTokenizer(metadata, str(path))
        self.name = f"{path.stem}#{fingerprint(path)}"
        self._trees = lru_cache(maxsize=16)(self._tree_of)
        self._trees(self.card.labels)
        self.slots = max(1, min(workers, MOST_SLOTS))
        self._server = begun(serve(path, slots=self.slots))

    def ask(self, request: Request) -> Reply:
        """Answer a request for a label as JSON, with the student's probability of the label as its confidence.

        Raises:
            LLMError: the request asks for no label, or for labels that the student was not trained on.
        """
        started = time.monotonic()
        properties: dict[str, Any] = request.schema.get("properties", {})  # type: ignore[assignment]
        labels = tuple(properties.get("label", {}).get("enum", ()))
        if not labels or not request.text:
            raise LLMError(f"{self.name}: a student gives labels alone; name another model for policies and drafts")
        if unknown := [label for label in labels if label not in self.card.labels]:
            raise LLMError(
                f"{self.name}: was trained on the labels {', '.join(self.card.labels)} and is asked for {', '.join(unknown)}; "
                "train a student of this recipe with `hybrid student`"
            )
        try:
            answer = self.answer(request.text, labels, reason="rationale" in properties)
        except _FailedCallError as error:
            seconds, kind = time.monotonic() - started, FailureKind.LOCAL_ERROR
            return Reply(
                status="failed", failure=kind, reason=str(error), model=self.name, cost_usd=0.0, seconds=seconds
            )
        best = max(range(len(labels)), key=answer.probs.__getitem__)
        reply = {"rationale": answer.reason} if "rationale" in properties else {}
        probs = {label: round(prob, 6) for label, prob in zip(labels, answer.probs, strict=True)}
        body = reply | {"label": labels[best], "confidence": probs[labels[best]], "probs": probs}
        return Reply(
            status="ok",
            text=msgspec.json.encode(body).decode(),
            model=self.name,
            input_tokens=answer.prompt_tokens,
            cost_usd=0.0,
            seconds=time.monotonic() - started,
        )

    def answer(self, text: str, labels: Sequence[str] = (), *, reason: bool = False) -> Answer:
        """Score `labels` (all of the student's where empty) on a text, and give the reason for the most probable one."""
        names = tuple(labels) or self.card.labels
        if self.card.layout == "pre":
            return self._answer_by_chains(text, names)
        ids = self._encode(label_prompt(text, self.card.layout, self.tokenizer.frame))
        probs = self._label_probs(ids, names)
        best = names[max(range(len(names)), key=probs.__getitem__)]
        return Answer(probs=probs, reason=self.reason(text, best) if reason else "", prompt_tokens=len(ids))

    def label_probs(self, text: str) -> list[float]:
        """The probability of each of its labels right after the prompt, whatever the layout."""
        layout: Layout = "direct" if self.card.layout == "pre" else self.card.layout
        ids = self._encode(label_prompt(text, layout, self.tokenizer.frame))
        return self._label_probs(ids, self.card.labels)

    def reason(self, text: str, label: str, *, seed: int | None = None) -> str:
        """Let the student say why a text has a label; empty for one that has learned no reasons.

        `seed` samples one of several; None gives the most probable words.
        """
        before = reason_prompt(text, label, self.card.layout, self.tokenizer.frame)
        return "" if before is None else one_line(self.tokenizer.decode(self._generate(self._encode(before), seed)))

    def goes_on_talking(self, text: str, label: str) -> bool:
        """Whether the most probable token after a direct answer is not the end of it."""
        frame = self.tokenizer.frame
        ids = [*self._encode(label_prompt(text, self.card.layout, frame)), *self._ids(Segment("label", label))]
        end = self.tokenizer.ids_of(label_end(self.card.layout, frame))[0]
        return bool(self._complete(ids, n_predict=1, n_probs=1, temperature=0.0)[0]["id"] != end)

    def _answer_by_chains(self, text: str, labels: tuple[str, ...]) -> Answer:
        """Average the label probabilities after several sampled reasons; the reason given is one for the best label."""
        before = self._encode(label_prompt(text, "pre", self.tokenizer.frame))
        chains = [self._generate(before, seed) for seed in range(self.card.chains)]
        line_end = self._ids(Segment("reason", "\n"))
        probs = [self._label_probs([*before, *chain, *line_end], labels) for chain in chains]
        mean = mean_probs(probs)
        best = max(range(len(labels)), key=mean.__getitem__)
        agreeing = max(range(len(chains)), key=lambda i: probs[i][best])
        return Answer(probs=mean, reason=one_line(self.tokenizer.decode(chains[agreeing])), prompt_tokens=len(before))

    def _label_probs(self, ids: list[int], labels: tuple[str, ...]) -> list[float]:
        return label_probs(self._trees(labels), lambda path, tokens: self._next_probs([*ids, *path], tokens))

    def _next_probs(self, ids: list[int], tokens: tuple[int, ...]) -> list[float]:
        """The probabilities of `tokens` after `ids`, renormalised over them."""
        first, *_ = self._complete(
            ids,
            n_predict=1,
            temperature=1.0,
            logit_bias=[[token, _BIAS] for token in tokens],
            n_probs=len(tokens),
            post_sampling_probs=True,
            samplers=["temperature"],
        )
        likely = {entry["id"]: entry["prob"] for entry in first["top_probs"]}
        probs = [likely.get(token, 0.0) for token in tokens]
        total = sum(probs)
        return [prob / total for prob in probs]

    def _generate(self, ids: list[int], seed: int | None) -> list[int]:
        """The tokens of a reason after `ids`, without what ends it."""
        ends = {self._ids(end)[0] for end in reason_ends(self.card.layout, self.tokenizer.frame)}
        sampling = {"temperature": 0.0} if seed is None else {"temperature": _CHAIN_TEMPERATURE, "seed": seed}
        line_end = ["\n"] if self.card.layout in ("pre", "sequential") else []
        generated = self._complete(ids, n_predict=_MOST_REASON_TOKENS, n_probs=1, stop=line_end, **sampling)
        tokens = [token["id"] for token in generated]
        return next((tokens[:i] for i, token in enumerate(tokens) if token in ends), tokens)

    def _complete(self, ids: list[int], **settings: Any) -> list[dict[str, Any]]:
        """Let llama.cpp continue `ids`; return the tokens that it wrote, each with its id and the most probable ones."""
        answer = self._server.handle_completions({"prompt": ids, "cache_prompt": True, **_NO_FILTER, **settings})
        if "error" in answer:
            raise _FailedCallError(str(answer["error"].get("message", answer["error"])))
        tokens: list[dict[str, Any]] = answer["choices"][0]["logprobs"]["content"]
        return tokens

    def _tree_of(self, labels: tuple[str, ...]) -> Node:
        end = self._ids(label_end(self.card.layout, self.tokenizer.frame))
        return label_tree([[*self._ids(Segment("label", label)), *end] for label in labels], labels)

    def _ids(self, segment: Segment) -> list[int]:
        return self.tokenizer.ids_of(segment)

    def _encode(self, example: Example) -> list[int]:
        return list(self.tokenizer.encode(example, most=self.card.max_tokens).ids)


class _FailedCallError(Exception):
    """llama.cpp could not answer this request."""
