"""From rows with reasons to a student's GGUF file: lay out, fine-tune, write back, and pass the gate."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sklearn.model_selection import train_test_split

from hybrid.config import StudentConfig, TrainConfig
from hybrid.data.training_rows import ENOUGH_VALIDATION
from hybrid.encoders.device import PrecisionChoice, choose_precision, read_choice, training_device
from hybrid.encoders.memory import available_bytes, memory_need
from hybrid.errors import ConfigError
from hybrid.files.hashing import sha256_of_file
from hybrid.llm.student.card import StudentCard
from hybrid.llm.student.decoder import Student
from hybrid.llm.student.label_scores import label_tree
from hybrid.llm.student.layouts import PHASES, Segment, examples_of, label_end
from hybrid.llm.student.tokens import StudentTokenizer
from hybrid.student.fine_tuning import (
    SECOND_PHASE_EPOCHS,
    SECOND_PHASE_RATE,
    Evaluation,
    OnStep,
    Phase,
    Unit,
    fine_tune,
    to_batch,
)
from hybrid.student.gguf_model import BaseModel, read_model, write_model
from hybrid.student.loss import losses_of_batch, student_loss
from hybrid.student.parity import StudentParity, check_parity, check_tokens
from hybrid.student.training_data import TrainedRow
from hybrid.types import Report

FILE = "student.gguf"
_LOGIT_COPIES = 3
"""Copies of the logits at targets that a step holds: logits, their softmax, and its gradient; 4 bytes each."""
_ADAPTERS_SHARE = 0.04
"""The share of the parameters that adapters of rank 16 on all linear layers have."""
_TOKENS_COMPARED = 1000
"""Texts whose tokens are compared with llama.cpp's."""


class TrainedStudent(msgspec.Struct, frozen=True, kw_only=True):
    """The student's file, its learning curve, its parity, and the figures of the stage's report."""

    path: Path
    history: list[Evaluation]
    parity: StudentParity
    report: Report


def train_student(
    rows: Sequence[TrainedRow],
    labels: Sequence[str],
    config: StudentConfig,
    *,
    base: Path,
    recipe: str,
    folder: Path,
    workdir: Path,
    seed: int,
    on_step: OnStep | None = None,
) -> TrainedStudent:
    """Fine-tune the GGUF model `base` on the rows that train, and write `folder`/student.gguf.

    A run that was killed goes on from its last evaluation in `workdir`.

    Raises:
        LLMError: the base cannot be read.
        ConfigError: labels collide, or there is too little memory.
        ExportError: the written file does not compute what was trained.
    """
    loaded = read_model(base)
    tokenizer = loaded.tokenizer
    end = tokenizer.ids_of(label_end(config.layout, tokenizer.frame))
    label_tree([[*tokenizer.ids_of(Segment("label", label)), *end] for label in labels], labels)  # refuses collisions
    learners = [row for row in rows if row.status in ("with_reason", "label_only")]
    fitting, validation = _held_out(learners, config, seed)
    phases = [
        _phase(number, fitting, validation, tokenizer, config, seed=seed) for number in range(PHASES[config.layout])
    ]
    _check_memory(loaded.model, phases, config)
    if training_device() == "cpu":
        loaded.model.set_attn_implementation("eager")  # at some fifty tokens a row it is the faster one on a CPU
    choice = _precision_choice(loaded.model, phases[0], config, workdir)
    model = _with_adapters(loaded.model, config) if config.lora_rank else loaded.model
    tuned = fine_tune(model, phases, config, workdir=workdir, seed=seed, precision=choice.precision, on_step=on_step)
    if config.lora_rank:
        loaded = msgspec.structs.replace(loaded, model=model.merge_and_unload())
    card = StudentCard(
        labels=tuple(labels), layout=config.layout, max_tokens=config.max_tokens, chains=config.chains, recipe=recipe
    )
    path = folder / FILE
    parity = write_and_check(loaded, path, card, config, [row.text for row in validation + fitting])
    shutil.rmtree(workdir)
    return TrainedStudent(
        path=path,
        history=tuned.history,
        parity=parity,
        report={
            "layout": config.layout,
            "base": base.name,
            "fitted": len(fitting),
            "validation": len(validation),
            "units": [len(phase.units) for phase in phases],
            "steps": tuned.steps,
            "tokens": tuned.tokens,
            "padding": tuned.padding,
            "resumed_from_step": tuned.resumed_from_step,
            "precision": choice.precision,
            "precision_reason": choice.reason,
            "lora_rank": config.lora_rank,
            "bytes": path.stat().st_size,
            "sha256": sha256_of_file(path),
            "parity": msgspec.to_builtins(parity),
        },
    )


def write_and_check(
    base: BaseModel, path: Path, card: StudentCard, config: StudentConfig, texts: Sequence[str]
) -> StudentParity:
    """Write the file that is served, and hold it and an F16 copy against the weights in memory; a file that fails is removed."""
    base.model.eval()
    copy = path.with_name("f16.gguf")
    try:
        write_model(base, path, config.encoding, card.to_metadata())
        write_model(base, copy, "f16", card.to_metadata())
        check_tokens(path, base.tokenizer, texts[:_TOKENS_COMPARED])
        return check_parity(base.model, f16=Student(copy), served=Student(path), texts=texts)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        copy.unlink(missing_ok=True)


def _held_out(
    rows: Sequence[TrainedRow], config: StudentConfig, seed: int
) -> tuple[list[TrainedRow], list[TrainedRow]]:
    """Deal the rows to those that train and those that training is watched on, stratified where the labels allow it."""
    labels = [row.label for row in rows]
    n_validation = max(len(set(labels)), min(ENOUGH_VALIDATION, round(config.validation * len(rows))))
    stratify = labels if min(labels.count(label) for label in set(labels)) > 1 else None
    fitting, validation = train_test_split(list(rows), test_size=n_validation, stratify=stratify, random_state=seed)
    return fitting, validation


def _phase(
    number: int,
    fitting: Sequence[TrainedRow],
    validation: Sequence[TrainedRow],
    tokenizer: StudentTokenizer,
    config: StudentConfig,
    *,
    seed: int,
) -> Phase:
    """Lay out the rows for a phase. A row's reasons share its weight, so that a row with several counts no more than another."""
    rng = np.random.default_rng((seed, number))
    first = number == 0
    return Phase(
        units=_units(fitting, tokenizer, config, number, rng),
        validation=_units(validation, tokenizer, config, number, rng),
        epochs=config.epochs * (1.0 if first else SECOND_PHASE_EPOCHS),
        tokens=round(config.tokens * (1.0 if first else SECOND_PHASE_EPOCHS)),
        learning_rate=config.learning_rate * (1.0 if first else SECOND_PHASE_RATE),
    )


def _units(
    rows: Sequence[TrainedRow], tokenizer: StudentTokenizer, config: StudentConfig, phase: int, rng: np.random.Generator
) -> list[Unit]:
    units = []
    for row in rows:
        pairs = list(zip(row.labels, row.reasons, strict=True)) or [(row.label, "")]
        if config.layout == "direct" and config.rejection:
            pairs = [(row.label, "")]  # its reasons would only repeat the row
        for label, reason in pairs:
            examples = examples_of(
                row.text,
                label,
                reason,
                config.layout,
                tokenizer.frame,
                phase=phase,
                with_reason=bool(rng.random() < config.reason_share),
            )
            if examples:
                encoded = tuple(tokenizer.encode(example, most=config.max_tokens) for example in examples)
                units.append(Unit(encoded, row.weight / len(pairs)))
    return units


def _check_memory(model: Any, phases: Sequence[Phase], config: StudentConfig) -> None:
    """Compare what training needs at least with what is available.

    Raises:
        ConfigError: it cannot fit.
    """
    device = training_device()
    available = available_bytes(device)
    units = [unit for phase in phases for unit in phase.units]
    longest = max(unit.n_tokens for unit in units)
    targets = max(sum(kind != "prompt" for tokens in unit.examples for kind in tokens.kinds) for unit in units)
    settings = TrainConfig(batch_size=config.batch_size)
    need = memory_need(model, settings, tokens=longest, bf16=config.precision != "fp32")
    logits = _LOGIT_COPIES * 4 * config.batch_size * targets * model.config.vocab_size
    state = int(need.state * _ADAPTERS_SHARE) if config.lora_rank else need.state
    total = state + need.activations + logits
    if available is None or total <= available:
        return
    raise ConfigError(
        f"student: fine-tuning {need.parameters / 1e6:.0f} million parameters needs at least {total / 1e9:.1f} GB more memory for "
        f"batches of {config.batch_size} rows of up to {longest} tokens, and {available / 1e9:.1f} GB are available on the "
        f"{device}; set a smaller student.batch_size, a smaller student.max_tokens, or student.lora_rank"
    )


def _precision_choice(model: Any, phase: Phase, config: StudentConfig, workdir: Path) -> PrecisionChoice:
    """Choose the precision to train in. A resumed run keeps the choice of the run that it continues."""
    if config.precision != "auto":
        return PrecisionChoice(precision=config.precision, reason="set_by_recipe")
    path = workdir / "precision.json"
    if path.exists():
        return read_choice(path.read_bytes())
    batch = to_batch([Unit(unit.examples[:1], unit.weight) for unit in phase.units[: config.batch_size]])
    choice = choose_precision(
        model,
        batch,
        lambda model, batch: student_loss(losses_of_batch(model, dict(batch)), batch["weights"], config.reason_weight),
    )
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(choice))
    return choice


def _with_adapters(model: Any, config: StudentConfig) -> Any:
    """Add low-rank adapters on all linear layers but the output, which is the embedding."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigError(
            "student.lora_rank is set, and the package 'peft' is missing; run: pip install 'hybrid-cascade[student]', or set "
            "student.lora_rank = 0 to train all weights"
        ) from error
    settings = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, settings)
