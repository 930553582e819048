"""Milliseconds and dollars: of the encoder on this machine, and of decoders by their prices."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybrid.advise.measurements import DecoderPrice, EncoderSpeed
from hybrid.config import ExportConfig, LLMConfig
from hybrid.encoders.exporting import export
from hybrid.llm.cost.forecast import TokenStats, forecast, open_requests, token_stats
from hybrid.llm.cost.prices import packaged_prices
from hybrid.llm.cost.pricing import Pricing, pricing_of
from hybrid.llm.tasks.label import label_request
from hybrid.llm.traces.database import TraceDatabase
from hybrid.machine.threads import usable_threads
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example

TEXTS = 100
"""The texts that are timed, one after the other, after some that warm up."""
WARM_UP = 10
PRICED_TEXTS = 200
"""The texts whose prompts are priced."""


def encoder_speed(
    folder: Path, rows: Sequence[Example], labels: Sequence[str], reading: TextLimits, *, core_usd_hour: float
) -> EncoderSpeed:
    """Export the encoder with a new head, which is as fast as a trained one, and time it on rows one at a time."""
    sample = rows[:TEXTS]
    with tempfile.TemporaryDirectory(prefix="hybrid-advise-") as scratch:
        graph = Path(scratch)
        export(folder, sample, labels, ExportConfig(parity_rows=1), folder=graph, reading=reading)
        encoder = Encoder(graph, n_labels=len(labels), reading=reading)
        texts = [row.text for row in sample]
        for text in texts[:WARM_UP]:
            encoder.logits([text])
        times = []
        for text in texts:
            start = time.perf_counter()
            encoder.logits([text])
            times.append(1000 * (time.perf_counter() - start))
    ms = float(np.median(times))
    usd = ms / 1000 / 3600 * 1e6 * core_usd_hour * usable_threads()
    return EncoderSpeed(ms=ms, p95_ms=float(np.quantile(times, 0.95)), usd_per_million=usd)


def decoder_prices(
    rows: Sequence[Example], labels: Sequence[str], teacher: LLMConfig, *, folder: Path, policy: str
) -> list[DecoderPrice]:
    """What the cheapest, the middle and the dearest model with a known price would cost, direct and reasoned."""
    prices = packaged_prices()
    by_price = sorted(prices, key=lambda name: (prices[name].input + prices[name].output, name))
    names = list(dict.fromkeys([by_price[0], by_price[len(by_price) // 2], by_price[-1]]))
    configs = [LLMConfig(model=name) for name in names if name != teacher.model]
    return [
        DecoderPrice(
            model=config.model,
            answer=answer,
            usd_per_million=usd_per_million(rows, labels, config, answer=answer, folder=folder, policy=policy),
            ms=None,
        )
        for config in configs
        for answer in ("direct", "reasoned")
    ]


def usd_per_million(
    rows: Sequence[Example], labels: Sequence[str], config: LLMConfig, *, answer: str, folder: Path, policy: str
) -> tuple[float, float] | None:
    """The range of what a million such texts cost; None where the price is not known."""
    sample = rows[:PRICED_TEXTS]
    pricing = pricing_of(config, folder=folder, role="decoder")
    cost = asking_usd(
        sample, labels, config, pricing, token_stats(None, config.model), answers=(answer,), policy=policy
    )
    return None if cost is None else (cost[0] / len(sample) * 1e6, cost[1] / len(sample) * 1e6)


def asking_usd(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: LLMConfig,
    pricing: Pricing,
    tokens: TokenStats,
    *,
    answers: Sequence[str],
    policy: str,
    file: TraceDatabase | None = None,
) -> tuple[float, float] | None:
    """The range of what asking about these rows costs, without the answers in `file`; None: the price is not known."""
    requests = [
        label_request("direct" if answer == "direct" else "verify", row.text, labels, config, policy=policy)
        for answer in answers
        for row in rows
    ]
    cost = forecast("", open_requests(requests, config.model, file), pricing, tokens).cost_usd
    return None if cost is None else (cost.low, cost.high)
