"""From settings to the decoder behind a service."""

from pathlib import Path

import msgspec
import sqlalchemy as sql

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm import backend_of, open_llm, pricing_of
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.ledger import CostLedger, NullLedger
from hybrid.llm.request import LLM
from hybrid.review.escalations import FILE, open_store
from hybrid.runtime.bundle import Bundle, read_bundle
from serving.decoder.client import DecoderClient
from serving.decoder.handler import EscalationHandler
from serving.decoder.review_log import ReviewLog
from serving.decoder.spend_cap import SpendCap
from serving.interfaces import Observer
from serving.settings import Decoder, Settings

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
"""A server that asks for a longer rest gets none of the retries."""


def open_decoder(settings: Settings, bundle_dir: str | Path, observer: Observer) -> EscalationHandler | None:
    """Return what answers texts that escalate; None where the settings name no decoder. Nothing is sent yet.

    Raises:
        ConfigError: the settings name no decoder that can be, or one for a bundle of several labels a text.
        LLMError: a key, a package or a model file is missing.
        StorageError: the review store cannot be opened.
        BundleError: no sound bundle.
    """
    decoder = settings.decoder
    if backend_of(decoder.llm, "decoder.llm").is_absent:
        return None
    folder = Path(bundle_dir)
    _check(decoder, read_bundle(folder), folder)
    policy = _policy(decoder.llm)
    engine = open_store(settings.reviews or str(folder.resolve().parent / FILE))
    llm = _open_llm(decoder, engine)
    return EscalationHandler(DecoderClient(llm, decoder, observer), ReviewLog(engine), decoder, policy=policy)


def _check(decoder: Decoder, bundle: Bundle, folder: Path) -> None:
    if bundle.task == "multi_label":
        raise ConfigError(
            f"{folder}: decoder.llm.model = {decoder.llm.model!r} for a multi_label bundle, and a decoder gives one label a "
            "text; leave the decoder out"
        )
    if decoder.llm.batch:
        raise ConfigError("decoder.llm.batch = true: a caller does not wait for a batch; leave it out")


def _policy(config: LLMConfig) -> str:
    if not config.policy:
        return ""
    try:
        return Path(config.policy).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config.policy}: decoder.llm.policy cannot be read ({error}); name a text file") from error


def _open_llm(decoder: Decoder, engine: sql.Engine) -> LLM:
    config = msgspec.structs.replace(decoder.llm, timeout_s=decoder.timeout_ms / 1000)
    llm = open_llm(
        config,
        role="decoder.llm",
        retry=Retry(tries=1 + decoder.retries, first_wait_s=FIRST_WAIT_S, longest_wait_s=LONGEST_WAIT_S),
        ledger=_books(decoder, engine) if backend_of(config).is_paid else None,
    )
    assert llm is not None, "an absent decoder is not opened"
    return llm


def _books(decoder: Decoder, engine: sql.Engine) -> CostLedger:
    pricing = pricing_of(
        decoder.llm,
        folder=Path(),
        role="decoder",
        usd_per_hour=decoder.usd_an_hour,
        usd_per_day=decoder.usd_a_day,
    )
    return SpendCap(engine, pricing) if pricing.limits() else NullLedger(pricing)
