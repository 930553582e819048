"""Runs a GGUF model in this process, through xllamacpp (llama.cpp)."""

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

from hybrid.errors import LLMError
from hybrid.llm.local.grammar import grammar, longest_text
from hybrid.llm.request import FailureKind, Reply, Request
from hybrid.machine.threads import usable_threads

MOST_SLOTS = 4
"""The most requests that are answered at the same time."""
_CONTEXT_TOKENS = 4096
"""The most tokens of prompt and answer together."""
_LATER_SAMPLES_TEMPERATURE = 0.8


class Embedded:
    """A GGUF model that answers in this process, several requests at a time.

    If the request has no temperature, sample 0 is greedy and later samples are drawn at 0.8; the sample's number is the
    seed. Each slot caches the fixed part of the prompt, so that only the row is computed anew. llama.cpp opens HTTP routes
    on the loopback interface; a random key keeps others out.
    """

    def __init__(self, path: Path, *, workers: int = MOST_SLOTS) -> None:
        """Load the model.

        Raises:
            LLMError: the package is missing, or the file is not a model that llama.cpp can load.
        """
        if not path.is_file():
            raise LLMError(f"{path}: no such file; expected a GGUF model: correct the path in the recipe")
        self.name = f"{path.stem}#{fingerprint(path)}"
        self._server = serve(path, slots=max(1, min(workers, MOST_SLOTS)))

    def ask(self, request: Request) -> Reply:
        """Answer a request, in the form of its schema."""
        started = time.monotonic()
        default_temperature = 0.0 if request.sample == 0 else _LATER_SAMPLES_TEMPERATURE
        answer = self._server.handle_chat_completions(
            {
                "messages": [
                    {"role": "system", "content": request.system},
                    {"role": "user", "content": request.user},
                ],
                "max_tokens": request.max_tokens,
                "temperature": default_temperature if request.temperature is None else request.temperature,
                "seed": request.sample,
                "cache_prompt": True,
                **_form_of(request),
            }
        )
        return self._read(answer, time.monotonic() - started)

    def _read(self, answer: dict[str, Any], seconds: float) -> Reply:
        if "error" in answer:
            reason = str(answer["error"].get("message", answer["error"]))
            kind = FailureKind.LOCAL_ERROR
            return Reply(status="failed", failure=kind, reason=reason, model=self.name, cost_usd=0.0, seconds=seconds)
        choice, usage = answer["choices"][0], answer["usage"]
        cut_off = choice["finish_reason"] == "length"
        return Reply(
            status="cut_off" if cut_off else "ok",
            text=choice["message"]["content"] or "",
            reason=f"cut off after {usage['completion_tokens']} tokens; raise max_tokens" if cut_off else "",
            model=self.name,
            input_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            cost_usd=0.0,
            seconds=seconds,
        )


def _form_of(request: Request) -> dict[str, Any]:
    """Build the parameters that constrain an answer to the schema: a grammar without white space if the schema allows one."""
    compact_grammar = grammar(request.schema, request.max_tokens)
    if compact_grammar is not None:
        return {"grammar": compact_grammar}
    schema = bounded(request.schema, request.max_tokens)
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def bounded(schema: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """Add a maximum length to each free string of a schema, so that a small model stops writing."""
    fields = schema["properties"]
    free_strings = [name for name, field in fields.items() if field.get("type") == "string" and "enum" not in field]
    longest = longest_text(schema, max_tokens)
    return schema | {"properties": fields | {name: fields[name] | {"maxLength": longest} for name in free_strings}}


def serve(path: Path, *, slots: int, key: str = "") -> Any:
    """Load a model into llama.cpp's server in this process, with `slots` requests at a time.

    `key` is what its HTTP routes on the loopback interface ask for; a random one where it is empty.

    Raises:
        LLMError: the package is missing, or llama.cpp cannot load the file.
    """
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
    params.api_keys = [key or secrets.token_hex(16)]
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise LLMError(
            f"{path}: llama.cpp cannot load it ({error}); expected a GGUF model that fits in memory: "
            "download it again or choose another"
        ) from error


def begun(server: Any) -> Any:
    """Return a server that has answered once: one that is closed before its loop has begun never ends."""
    server.handle_completions({"prompt": [0], "n_predict": 1})
    return server


def _xllamacpp() -> Any:
    """Import the package so that its idle threads sleep.

    llama.cpp's threads wait for each other at every layer, and OpenMP lets them spin meanwhile. If another program uses
    one of their cores, an answer then takes thirty times as long. OpenMP reads its wait policy once, when it is loaded.
    """
    policy = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as error:
        raise LLMError(
            "the package 'xllamacpp' is missing, but local models need it; run: pip install 'hybrid-cascade[local]'"
        ) from error
    finally:
        if policy is None:
            del os.environ["OMP_WAIT_POLICY"]
    return xllamacpp


def fingerprint(path: Path) -> str:
    """Hash the size and the first and last MiB of a file to 8 hex digits: a changed file is another model."""
    size, mib = path.stat().st_size, 1 << 20
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode() + file.read(mib))
        file.seek(max(0, size - mib))
        digest.update(file.read(mib))
    return digest.hexdigest()[:8]
