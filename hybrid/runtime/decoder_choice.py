"""What may be given as the decoder of a bundle, and how each becomes one: a model's name, a server, a function, ..."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import msgspec

from hybrid.errors import ConfigError
from hybrid.runtime.bundle import Bundle
from hybrid.types import Vote

if TYPE_CHECKING:
    from hybrid.config import LLMConfig


class Decoder(Protocol):
    """Decides escalated texts: `hybrid.LLMDecoder`, or any class of yours with this method."""

    def decide(self, texts: Sequence[str]) -> Sequence[Vote]:
        """Give one vote for each text, in their order.

        A text that cannot be decided gets a vote whose status says so; an exception would reach the caller of
        `Classifier.classify`.
        """


Decide = Callable[[str], str | Vote | None]
"""A function of a text: the label that it has, None where the function cannot tell, or a whole vote."""
DecoderChoice: TypeAlias = "Decoder | Decide | Mapping[str, Any] | LLMConfig | str | Path | None"
"""All that `hybrid.load` takes as a decoder."""


class FunctionDecoder:
    """Asks a function of yours, one text at a time: a `Decoder`."""

    def __init__(self, function: Decide) -> None:
        """Wrap a function; its name stands in the votes."""
        self.name = getattr(function, "__name__", type(function).__name__)
        self._function = function

    def decide(self, texts: Sequence[str]) -> list[Vote]:
        """Give one vote for each text; a text on which the function raises gets a failed one, with the error as reason."""
        return [self._vote(str(i), text) for i, text in enumerate(texts)]

    def _vote(self, row_id: str, text: str) -> Vote:
        try:
            answer = self._function(text)
        except Exception as error:  # whatever a user's function raises, the encoder's answer stands
            return Vote(id=row_id, status="failed", teacher=self.name, reason=f"{type(error).__name__}: {error}")
        if isinstance(answer, Vote):
            return msgspec.structs.replace(answer, id=row_id)
        if isinstance(answer, str):
            return Vote(id=row_id, status="ok", label=answer, teacher=self.name)
        if answer is None:
            return Vote(id=row_id, status="abstained", teacher=self.name, reason=f"{self.name} gave no label")
        reason = f"{self.name} gave a {type(answer).__name__}; expected a label, None or a hybrid.Vote"
        return Vote(id=row_id, status="unreadable", teacher=self.name, reason=reason)


def open_decoder(choice: object, bundle: Bundle, *, budget_usd: float | None = None) -> Decoder | None:
    """Make a decoder for a bundle out of what the user names; None stays None. No question is sent yet.

    Args:
        choice: an object with the method `decide`; a function of one text; the name of a model ("claude-...", "local"
            for the small packaged one, "hf:owner/repo/file.gguf"); the path of a .gguf file; the URL of a server of the
            Messages protocol that serves one model; a `hybrid.config.LLMConfig`, or a dict of its settings.
        bundle: its labels are the choices of a language model, and its policy tells what they mean.
        budget_usd: the most that the calls to a paid model may cost in this process.

    Raises:
        ConfigError: no such model is known, or a budget is given where nothing is paid.
        ArtifactError: the packaged model cannot be downloaded.
        LLMError: a key, a package or a model file is missing.
    """
    if choice is None or hasattr(choice, "decide") or callable(choice):
        if budget_usd is not None:
            raise ConfigError(
                f"load: budget_usd = {budget_usd:g} without a model that is paid; name one as the decoder, or leave the "
                "budget out"
            )
        if choice is None or hasattr(choice, "decide"):
            return cast(Decoder | None, choice)
        return FunctionDecoder(cast(Decide, choice))
    return _language_model(_section(choice, budget_usd), bundle)


def _section(choice: object, budget_usd: float | None) -> "LLMConfig":
    """The settings of the language model that the user names."""
    from hybrid.config import LLMConfig
    from hybrid.toml_settings import to_struct

    if isinstance(choice, LLMConfig):
        settings: dict[str, Any] = msgspec.structs.asdict(choice)
        settings = {name: value for name, value in settings.items() if value is not msgspec.UNSET}
    elif isinstance(choice, Mapping):
        settings = dict(choice)
    elif isinstance(choice, str | Path):
        settings = _named(str(choice))
    else:
        raise ConfigError(
            f"load: decoder = {choice!r:.80}: expected the name of a model, a .gguf path, a URL, a function of a text, an "
            "object with the method `decide`, or a dict of settings"
        )
    if budget_usd is not None:
        settings["budget_usd"] = budget_usd
    return to_struct(settings, LLMConfig, "load: decoder", "decoder")


def _named(name: str) -> dict[str, Any]:
    if not name.startswith(("http://", "https://")):
        return {"model": name}
    from hybrid.llm.client.served_model import served_model

    return {"model": served_model(name), "base_url": name}


def _language_model(config: "LLMConfig", bundle: Bundle) -> Decoder | None:
    from hybrid.llm import backend_of, open_llm
    from hybrid.llm.backends import check_llm
    from hybrid.runtime.decoder import LLMDecoder

    check_llm(config, "load: decoder")
    if config.budget_usd is not None and not backend_of(config).is_paid:
        raise ConfigError(f"load: budget_usd with the decoder {config.model!r}: it costs nothing; leave the budget out")
    if config.batch:
        raise ConfigError("load: decoder: batch = True: a caller does not wait for a batch; leave it out")
    llm = open_llm(config, role="load: decoder")
    if llm is None:
        return None
    return LLMDecoder(llm, bundle.labels, policy=_policy(config, bundle), config=config)


def _policy(config: "LLMConfig", bundle: Bundle) -> str:
    """What the labels mean: the text of a file that the user names, else what the bundle carries."""
    if not config.policy:
        return bundle.policy
    try:
        return Path(config.policy).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"load: decoder: policy = {config.policy!r}: cannot be read ({error}); name a text file"
        ) from error
