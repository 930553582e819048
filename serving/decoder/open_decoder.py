"""Opens the decoder that a service's settings name."""

import logging
from pathlib import Path

import msgspec
import sqlalchemy as sql

from hybrid.errors import ConfigError
from hybrid.llm import backend_of, open_llm, pricing_of
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.ledger import CostLedger, NullLedger
from hybrid.llm.request import LLM
from hybrid.review.escalations import FILE, open_store
from hybrid.runtime.bundle import DEMO_BUNDLE, read_bundle
from serving.decoder.client import DecoderClient
from serving.decoder.handler import EscalationHandler
from serving.decoder.review_log import ReviewLog
from serving.decoder.spend_cap import SpendCap
from serving.interfaces import Observer
from serving.settings import DecoderSettings, Settings

_log = logging.getLogger(__name__)
FIRST_WAIT_S = 0.2
"""The wait before the first retry of a call."""
LONGEST_WAIT_S = 2.0
"""The longest wait before a retry. A server that asks for a longer wait gets no retry."""


def open_decoder(settings: Settings, bundle_dir: str | Path, observer: Observer) -> EscalationHandler | None:
    """Open the decoder that answers escalated texts; None where the settings name none. Sends no question yet.

    Raises:
        ConfigError: the settings name a decoder that cannot exist, or one for a bundle of several labels a text.
        LLMError: a key, a package or a model file is missing.
        StorageError: the review store cannot be opened.
        BundleError: the folder holds no valid bundle.
    """
    decoder = settings.decoder
    if backend_of(decoder, "decoder").is_absent:
        return None
    folder = Path(bundle_dir)
    if decoder.batch:
        raise ConfigError(
            "decoder.batch = true: expected false, since a caller does not wait for a batch; leave it out"
        )
    if read_bundle(folder).task == "multi_label":
        raise ConfigError(
            f"{folder}: decoder.model = {decoder.model!r} with a multi_label bundle: a decoder gives one label a text; "
            "leave the decoder out"
        )
    policy = _read_policy(decoder)
    engine = open_store(settings.reviews or str(default_store(folder)))
    client = DecoderClient(_open_llm(decoder, engine), decoder, observer)
    return EscalationHandler(client, ReviewLog(engine), decoder, policy=policy)


def default_store(bundle_dir: Path) -> Path:
    """The review store of a bundle: a file beside its folder; of the demo, whose folder is the package's, in the working one."""
    return (Path.cwd() if bundle_dir == DEMO_BUNDLE else bundle_dir.resolve().parent) / FILE


def _read_policy(decoder: DecoderSettings) -> str:
    if not decoder.policy:
        return ""
    try:
        return Path(decoder.policy).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"decoder.policy = {decoder.policy!r}: cannot be read ({error}); name a text file") from error


def _open_llm(decoder: DecoderSettings, engine: sql.Engine) -> LLM:
    llm = open_llm(
        msgspec.structs.replace(decoder, timeout_s=min(decoder.timeout_s, decoder.deadline_ms / 1000)),
        role="decoder",
        say=_log.warning,
        retry=Retry(tries=1 + decoder.retries, first_wait_s=FIRST_WAIT_S, longest_wait_s=LONGEST_WAIT_S),
        ledger=_ledger(decoder, engine) if backend_of(decoder).is_paid else None,
    )
    assert llm is not None, "an absent decoder is not opened"
    return llm


def _ledger(decoder: DecoderSettings, engine: sql.Engine) -> CostLedger:
    limits = {"usd_per_hour": decoder.usd_per_hour, "usd_per_day": decoder.usd_per_day}
    pricing = pricing_of(decoder, folder=Path(), role="decoder", **limits)
    return SpendCap(engine, pricing) if pricing.limits() else NullLedger(pricing)
