"""Fine-tunes a causal language model on laid-out rows: a plain loop, resumable, with early stopping.

Not transformers' Trainer: logits are computed at targets alone, a row's step may hold two examples, and a phase may be
measured in tokens; of the Trainer only its loop would be left.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from hybrid.config import StudentConfig
from hybrid.encoders.batches import LengthGroupedSampler
from hybrid.encoders.device import TrainingPrecision, training_device
from hybrid.llm.student.tokens import Tokens
from hybrid.student.loss import batch_of, losses_of_batch, student_loss
from hybrid.types import Row

OnStep = Callable[[int, int], None]
SECOND_PHASE_RATE = 0.25
SECOND_PHASE_EPOCHS = 0.5
"""The second phase of `sequential`: its learning rate and its passes, beside the first's."""
CLIP = 1.0
"""The largest norm of a gradient."""


class Unit(msgspec.Struct, frozen=True):
    """What one row trains in a step: its example or two, and its weight."""

    examples: tuple[Tokens, ...]
    weight: float

    @property
    def n_tokens(self) -> int:
        """The tokens that the model reads."""
        return sum(len(tokens.ids) for tokens in self.examples)


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """Units to train on, how they are watched, and for how long."""

    units: Sequence[Unit]
    validation: Sequence[Unit]
    epochs: float
    tokens: int
    """Tokens to train on instead of `epochs`; 0: by epochs."""
    learning_rate: float


class Evaluation(Row, frozen=True, kw_only=True):
    """One point of the learning curve."""

    phase: int
    step: int
    epoch: float
    tokens: int
    """Tokens read since the start of training, padding left out."""
    train_loss: float
    label_loss: float
    """The mean negative log-likelihood of the label tokens of held-out rows."""
    reason_loss: float
    best: bool = False


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """What training was: the learning curve and its size. The model holds the best weights."""

    history: list[Evaluation]
    steps: int
    tokens: int
    padding: float
    """The share of what was computed that was padding."""
    resumed_from_step: int | None


class _State(msgspec.Struct, kw_only=True):
    """Where training is; a checkpoint holds it."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    tokens: int = 0
    computed: int = 0
    phase_step: int = 0
    phase_tokens: int = 0
    losses: list[float] = []
    history: list[dict[str, Any]] = []


def fine_tune(
    model: Any,
    phases: Sequence[Phase],
    config: StudentConfig,
    *,
    workdir: Path,
    seed: int,
    precision: TrainingPrecision,
    on_step: OnStep | None = None,
) -> Tuned:
    """Train `model` in place through the phases, and leave it with the weights of the best evaluation of the last one.

    `workdir` keeps a checkpoint from evaluation to evaluation: a run that was killed goes on from the last one, over the
    same batches in the same order.
    """
    loop = _Loop(model, phases, config, workdir=workdir, seed=seed, precision=precision, on_step=on_step)
    return loop.run()


class _Loop:
    def __init__(
        self,
        model: Any,
        phases: Sequence[Phase],
        config: StudentConfig,
        *,
        workdir: Path,
        seed: int,
        precision: TrainingPrecision,
        on_step: OnStep | None,
    ) -> None:
        self.device = training_device()
        self.model = model.to(self.device)
        self.phases, self.config, self.seed, self.on_step = phases, config, seed, on_step
        self.bf16 = precision == "bf16"
        self.checkpoint, self.best = workdir / "checkpoint.pt", workdir / "best.pt"
        workdir.mkdir(parents=True, exist_ok=True)
        self.trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
        self.state = _State()

    def run(self) -> Tuned:
        """Train through all phases."""
        self.optimizer = self._fresh_optimizer()
        resumed = self._resume()
        for number in range(self.state.phase, len(self.phases)):
            if number > self.state.phase:
                self._begin(number)
            self._train(self.phases[number])
            self._restore_best()
        state = self.state
        history = [msgspec.convert(entry, Evaluation) for entry in state.history]
        return Tuned(
            history=history,
            steps=state.step,
            tokens=state.tokens,
            padding=round(1 - state.tokens / state.computed, 4) if state.computed else 0.0,
            resumed_from_step=resumed,
        )

    def _begin(self, number: int) -> None:
        """Start a phase with a fresh optimizer."""
        self.optimizer = self._fresh_optimizer()
        state = self.state
        state.phase, state.epoch, state.batch, state.phase_step, state.phase_tokens = number, 0, 0, 0, 0
        self.best.unlink(missing_ok=True)

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.trained.values(), lr=0.0, betas=(0.9, 0.999), weight_decay=self.config.weight_decay, fused=True
        )

    def _train(self, phase: Phase) -> None:
        """Train one phase from where the state is to its end, or until it stops early."""
        state, per_epoch = self.state, math.ceil(len(phase.units) / self.config.batch_size)
        n_tokens = sum(unit.n_tokens for unit in phase.units)
        total = math.ceil(phase.epochs * per_epoch)
        if phase.tokens:
            total = math.ceil(per_epoch * phase.tokens / n_tokens)
        every = max(1, per_epoch // self.config.evaluations)
        self.model.train()
        for units in self._batches(phase):
            if (
                state.phase_step >= total
                or (phase.tokens and state.phase_tokens >= phase.tokens)
                or self._has_stalled()
            ):
                break
            done = state.phase_tokens / phase.tokens if phase.tokens else state.phase_step / total
            self._step(units, phase.learning_rate * self._share_of_rate(done))
            is_last = state.phase_step >= total or (phase.tokens > 0 and state.phase_tokens >= phase.tokens)
            if state.phase_step % every == 0 or is_last:
                self._evaluate(phase, state.phase_step / per_epoch)
            if self.on_step:
                self.on_step(state.phase_step, total)

    def _batches(self, phase: Phase) -> Iterator[list[Unit]]:
        """The batches from where the state is, epoch after epoch without end; their order follows from seed and epoch."""
        state, size = self.state, self.config.batch_size
        sampler = LengthGroupedSampler([unit.n_tokens for unit in phase.units], size, self.seed)
        while True:
            sampler.set_epoch(state.epoch)
            order = list(sampler)
            for start in range(state.batch * size, len(order), size):
                state.batch += 1
                yield [phase.units[i] for i in order[start : start + size]]
            state.epoch, state.batch = state.epoch + 1, 0

    def _share_of_rate(self, done: float) -> float:
        """Linear warm-up, then linear decay to nothing; `done` is the share of the phase behind it."""
        warmup = self.config.warmup
        return (done + 1e-3) / (warmup + 1e-3) if done < warmup else max(0.0, (1 - done) / (1 - warmup))

    def _step(self, units: Sequence[Unit], rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = {name: tensor.to(self.device) for name, tensor in to_batch(units).items()}
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
            losses = losses_of_batch(self.model, batch)
        loss = student_loss(losses, batch["weights"], self.config.reason_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        state, n_tokens = self.state, sum(unit.n_tokens for unit in units)
        state.step, state.phase_step = state.step + 1, state.phase_step + 1
        state.tokens, state.phase_tokens = state.tokens + n_tokens, state.phase_tokens + n_tokens
        state.computed += batch["input_ids"].numel()
        state.losses.append(float(loss.detach()))

    def _evaluate(self, phase: Phase, epoch: float) -> None:
        """Measure the held-out likelihood, keep the weights if they are the best of this phase, and save."""
        state = self.state
        label, reason = held_out_losses(self.model, phase.validation, self.config.batch_size, bf16=self.bf16)
        entry = {
            "phase": state.phase,
            "step": state.step,
            "epoch": round(epoch, 3),
            "tokens": state.tokens,
            "train_loss": round(sum(state.losses) / len(state.losses), 6),
            "label_loss": round(label, 6),
            "reason_loss": round(reason, 6),
            "best": True,
        }
        of_phase = [past for past in state.history if past["phase"] == state.phase]
        entry["best"] = all(label < past["label_loss"] for past in of_phase)
        if entry["best"]:
            for past in of_phase:
                past["best"] = False
            _save(self.best, {name: weights.detach() for name, weights in self.trained.items()})
        state.history.append(entry)
        state.losses = []
        self.model.train()
        _save(
            self.checkpoint,
            {
                "state": msgspec.to_builtins(state),
                "weights": {name: weights.detach() for name, weights in self.trained.items()},
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def _has_stalled(self) -> bool:
        of_phase = [past for past in self.state.history if past["phase"] == self.state.phase]
        since_best = next((n for n, past in enumerate(reversed(of_phase)) if past["best"]), 0)
        return since_best >= self.config.patience

    def _restore_best(self) -> None:
        if self.best.is_file():
            self._load(torch.load(self.best, map_location=self.device, weights_only=True))

    def _resume(self) -> int | None:
        """Go on from the checkpoint, if there is one; return its step."""
        if not self.checkpoint.is_file():
            return None
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.state = msgspec.convert(saved["state"], _State)
        self._load(saved["weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        return self.state.step

    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, values in weights.items():
                self.trained[name].copy_(values)


def held_out_losses(model: Any, units: Sequence[Unit], batch_size: int, *, bf16: bool) -> tuple[float, float]:
    """Compute the mean label loss and the mean reason loss over units."""
    device = training_device()
    model.eval()
    label = reason = 0.0
    order = sorted(range(len(units)), key=lambda i: units[i].n_tokens)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        for start in range(0, len(order), batch_size):
            batch = to_batch([units[i] for i in order[start : start + batch_size]])
            losses = losses_of_batch(model, {name: tensor.to(device) for name, tensor in batch.items()})
            label += float(losses.label.sum())
            reason += float(losses.reason.sum())
    return label / len(units), reason / len(units)


def to_batch(units: Sequence[Unit]) -> dict[str, torch.Tensor]:
    """Pad units to one batch."""
    return batch_of([(unit.examples, unit.weight) for unit in units])


def _save(path: Path, value: object) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    torch.save(value, part)
    part.replace(path)
