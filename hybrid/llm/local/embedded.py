"""A GGUF model in the process, through xllamacpp (llama.cpp)."""

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

from hybrid.errors import LLMError
from hybrid.llm.local.grammar import grammar, longest_text
from hybrid.llm.request import FailureKind, Reply, Request
from hybrid.threads import usable_threads

_SLOTS = 4
_CONTEXT_TOKENS = 4096


class Embedded:
    """A GGUF model that answers in the process, several requests at a time.

    Without a temperature sample 0 is greedy and later samples are drawn at 0.8; the sample's number
    is the seed. Each slot keeps the prompt's fixed part, so that only the row is read anew. The HTTP routes
    that llama.cpp opens on the loopback are shut by a random key.
    """

    def __init__(self, path: Path, *, workers: int = _SLOTS) -> None:
        """Load the model.

        Raises:
            LLMError: the package is missing, or the file is not a model that llama.cpp can load.
        """
        if not path.is_file():
            raise LLMError(f"{path}: no such file; want a model in GGUF, correct the path in the recipe")
        self.name = f"{path.stem}#{_fingerprint(path)}"
        self._server = _serve(path, slots=max(1, min(workers, _SLOTS)))

    def ask(self, request: Request) -> Reply:
        """Return one answer, held to the request's schema."""
        started = time.monotonic()
        greedy = 0.0 if request.sample == 0 else 0.8
        answer = self._server.handle_chat_completions(
            {
                "messages": [
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.user},
                ],
                "max_tokens": request.max_tokens,
                "temperature": greedy if request.temperature is None else request.temperature,
                "seed": request.sample,
                "cache_prompt": True,
                **_held_to(request),
            }
        )
        return self._read(answer, time.monotonic() - started)

    def _read(self, answer: dict[str, Any], seconds: float) -> Reply:
        if "error" in answer:
            reason = str(answer["error"].get("message", answer["error"]))
            kind = FailureKind.LOCAL_ERROR
            return Reply(status="failed", failure=kind, reason=reason, model=self.name, cost_usd=0.0, seconds=seconds)
        choice, used = answer["choices"][0], answer["usage"]
        cut_off = choice["finish_reason"] == "length"
        return Reply(
            status="cut_off" if cut_off else "ok",
            text=choice["message"]["content"] or "",
            reason=f"cut off after {used['completion_tokens']} tokens; raise max_tokens" if cut_off else "",
            model=self.name,
            input_tokens=used["prompt_tokens"],
            output_tokens=used["completion_tokens"],
            cost_usd=0.0,
            seconds=seconds,
        )


def _held_to(request: Request) -> dict[str, Any]:
    """Return what holds the answer to the schema: a grammar without white space where there is one for it."""
    written = grammar(request.schema, request.max_tokens)
    if written is not None:
        return {"grammar": written}
    schema = bounded(request.schema, request.max_tokens)
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def bounded(schema: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """Return the schema with a longest length on each free string, so that a small model ends in time."""
    fields = schema["properties"]
    free = [name for name, field in fields.items() if field.get("type") == "string" and "enum" not in field]
    longest = longest_text(schema, max_tokens)
    return schema | {"properties": fields | {name: fields[name] | {"maxLength": longest} for name in free}}


def _serve(path: Path, *, slots: int) -> Any:
    xllamacpp = _xllamacpp()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = slots
    params.n_ctx = slots * _CONTEXT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = usable_threads()
    params.verbosity = -1
    params.ui = False
    params.warmup = False
    params.port = 0
    params.api_keys = [secrets.token_hex(16)]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise LLMError(
            f"{path}: llama.cpp cannot load it ({error}); want a model in GGUF that fits in memory: "
            "fetch it again or choose another"
        ) from error


def _xllamacpp() -> Any:
    """Return the package, loaded so that its idle threads sleep.

    llama.cpp's threads wait for each other at every layer. OpenMP lets them spin while they wait, and with one on a
    core that something else uses an answer then takes thirty times as long. It reads the policy once, as it is loaded.
    """
    policy = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        raise LLMError(
            "the package 'xllamacpp' is missing, and a local model is run by it; "
            "run: pip install 'hybrid-cascade[local]'"
        ) from error
    finally:
        if policy is None:
            del os.environ["OMP_WAIT_POLICY"]
    return xllamacpp


def _fingerprint(path: Path) -> str:
    """Return 8 hex digits of the file's size, first and last MiB: a changed file is another model."""
    size, part = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode() + file.read(part))
        file.seek(max(0, size - part))
        digest.update(file.read(part))
    return digest.hexdigest()[:8]
