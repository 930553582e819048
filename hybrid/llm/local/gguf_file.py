"""Where a GGUF model lies: a file beside the recipe, one on the Hugging Face hub, or the packaged one."""

import os
from pathlib import Path

from hybrid.errors import ConfigError, LLMError


def fast_copy(path: Path) -> Path:
    """Return the model with weights that llama.cpp multiplies fast, kept in a folder beside that of `path`.

    The file itself where it needs no copy, or where there is no room for one.
    """
    from hybrid.llm.local.gguf_weights import with_fast_weights

    copy = path.parent.with_name(f"{path.parent.name}-q8_0") / f"{path.stem}.Q8_0.gguf"
    if copy.is_file():
        return copy
    content = with_fast_weights(path)
    if content is None:
        return path
    part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(copy)
    except OSError:
        return path
    return copy


def only_gguf(path: Path) -> Path:
    """The GGUF file in a folder, or `path` itself where it is a file."""
    found = sorted(path.glob("**/*.gguf")) if path.is_dir() else []
    return found[0] if found else path


def gguf_from_hub(model: str, role: str) -> Path:
    """Download `hf:owner/repo/file.gguf` as far as the hub's cache lacks it, and return where it lies.

    Raises:
        ConfigError: an `hf:` reference is not owner, repo and file.
        LLMError: the hub cannot be reached and its cache lacks the file.
    """
    owner, _, rest = model.removeprefix("hf:").partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo and file):
        raise ConfigError(
            f"{role}.model = {model!r}: want hf:owner/repo/file.gguf, the repository and the file in it; "
            "correct the recipe"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise LLMError(
            f"{role}.model = {model!r}: the package 'huggingface_hub' is missing; "
            "run: pip install huggingface_hub, or name the path of a .gguf file"
        ) from error
    try:
        return Path(hf_hub_download(f"{owner}/{repo}", file))
    # The hub's client raises errors of several libraries: of itself, of its HTTP client, of the operating system.
    except Exception as error:
        said = str(error).strip().split("\n")[0][:200]
        raise LLMError(
            f"{role}.model = {model!r}: the Hugging Face hub did not give it ({said}) and its cache lacks it; correct "
            "the name, go online, or name the path of a .gguf file or 'local'"
        ) from error
