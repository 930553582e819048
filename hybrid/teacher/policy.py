"""`hybrid policy`: the teacher writes the labelling policy, once, from a few rows; a person edits it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from hybrid.errors import ConfigError, StorageError
from hybrid.files.table import write_bytes, write_json
from hybrid.llm import LLM, backend_of
from hybrid.llm.tasks.policy import Shown, policy_request, policy_text, read_policy
from hybrid.prompts import prompt_text, text_hash
from hybrid.teacher.inputs import TeacherInputs
from hybrid.types import Example, Row, Trusted

RECEIPT = "policy.json"
"""Written beside the trace store, because all runs of a recipe share the policy."""
FILE = "policy.md"
"""The file that the policy is written to if the recipe names none."""
TRUSTED_SHARE = 1 / 3
"""The largest share of the trusted rows shown for a policy: a row that the teacher was shown cannot judge it."""


class PolicyReceipt(Row, frozen=True, kw_only=True):
    """What a policy was written from, and what it cost."""

    file: str
    policy: str
    """The first 12 hex digits of the SHA-256 of the text as written; editing the policy changes its hash."""
    prompt: str
    model: str
    source: Literal["trusted", "given"]
    rows: tuple[str, ...]
    """The ids of the rows that the teacher was shown."""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None if the price is unknown."""
    seconds: float


def write_policy(inputs: TeacherInputs, *, n_rows: int, force: bool) -> PolicyReceipt:
    """Write the policy beside the recipe and its receipt beside the runs; return the receipt.

    Raises:
        ConfigError: the recipe has no live teacher.
        StorageError: the policy file exists and `force` is not set.
        LLMError: the teacher's reply holds no policy.
    """
    config = inputs.recipe.teacher
    target = inputs.recipe_dir / (config.policy or FILE)
    if target.exists() and not force:
        raise StorageError(f"{target}: already exists and may have been edited; use it, or replace it with --force")
    teacher = _live_teacher(inputs)
    shown = shown_rows(inputs.rows, inputs.trusted, n_rows, seed=inputs.recipe.seed)
    source: Literal["trusted", "given"] = "trusted" if inputs.trusted else "given"
    reply = teacher.ask(policy_request(shown, inputs.labels, config, source=source))
    text = policy_text(read_policy(reply, inputs.labels))
    receipt = PolicyReceipt(
        file=str(target),
        policy=text_hash(text),
        prompt=text_hash(prompt_text("policy")),
        model=reply.model,
        source=source,
        rows=tuple(example.row.id for example in shown),
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        cost_usd=reply.cost_usd,
        seconds=round(reply.seconds, 2),
    )
    write_json(inputs.shared_dir / RECEIPT, receipt)
    write_bytes(target, text.encode())
    return receipt


def _live_teacher(inputs: TeacherInputs) -> LLM:
    """Open the recipe's teacher.

    Raises:
        ConfigError: the recipe has no teacher, or one whose answers were recorded.
    """
    config = inputs.recipe.teacher
    teacher = inputs.open_teacher(config) if backend_of(config).is_live else None
    if teacher is None:
        raise ConfigError(
            f"teacher.model = {config.model!r}: this teacher cannot write a policy; choose a live model with --teacher, "
            "such as claude-opus-5-5 or local, or write the file by hand"
        )
    return teacher


def shown_rows(rows: Sequence[Example], trusted: Sequence[Trusted], n_rows: int, *, seed: int) -> list[Shown]:
    """Draw at most `n_rows` training rows, cycling through the labels: trusted rows if there are any, else all rows.

    At most a third of the trusted rows are drawn, or one per label if that is more.
    """
    labels = {row.id: row.label for row in trusted} or {row.id: row.label for row in rows}
    candidates = [Shown(row=row, label=labels[row.id]) for row in rows if row.id in labels]
    order = np.random.default_rng(seed).permutation(len(candidates))
    by_label: dict[str, list[Shown]] = {}
    for i in order:
        by_label.setdefault(candidates[i].label, []).append(candidates[i])
    max_rows = max(len(by_label), int(len(trusted) * TRUSTED_SHARE)) if trusted else len(rows)
    turns = max(len(of_label) for of_label in by_label.values())
    interleaved = [shown[turn] for turn in range(turns) for _, shown in sorted(by_label.items()) if turn < len(shown)]
    return interleaved[: min(max(n_rows, len(by_label)), max_rows)]


def read_receipt(shared_dir: Path) -> PolicyReceipt | None:
    """Read the receipt of the recipe's policy; None if a person wrote the policy."""
    path = shared_dir / RECEIPT
    return msgspec.json.decode(path.read_bytes(), type=PolicyReceipt) if path.is_file() else None


def policy_lines(receipt: PolicyReceipt, *, named: bool) -> list[str]:
    """Format the lines that the command prints; `named` is True if the recipe names a policy file."""
    cost = "price unknown" if receipt.cost_usd is None else f"${receipt.cost_usd:.4f}"
    lines = [
        f"policy {receipt.policy} written to {receipt.file}",
        f"  by {receipt.model} from {len(receipt.rows)} {receipt.source} rows; {receipt.input_tokens} tokens in, "
        f"{receipt.output_tokens} out, {cost}, {receipt.seconds:.1f} s",
        "  read it and edit it: it goes into every prompt, and its hash into every receipt",
    ]
    if not named:
        lines.append(f'  the recipe names no policy yet; add this under [teacher]: policy = "{FILE}"')
    return lines
