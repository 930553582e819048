"""What a stage reads of the stages before it, and whom it may ask: one recipe in one run folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from hybrid.artifacts import model_folder
from hybrid.config import LLMConfig, Recipe, TrainConfig
from hybrid.data.escalated_rows import ADDED, Added, read_added, trusted_of
from hybrid.data.trusted import REVIEWED, trusted_rows
from hybrid.errors import ConfigError
from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.table import read_rows, write_rows
from hybrid.llm import LLM, backend_of, open_llm
from hybrid.pipeline.run import Run
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Decision, Draft, Example, Gold, Part, Report, Trusted

if TYPE_CHECKING:
    from hybrid.data.training_rows import TrainingRow


class RunContext:
    """One recipe in one run folder. Each method is a stage: tables in, tables out."""

    def __init__(self, recipe: Recipe, recipe_dir: Path, run: Run, traces: Path) -> None:
        self.recipe = recipe
        self.run = run
        self.recipe_dir = recipe_dir
        self._traces = traces
        self._llms: dict[str, LLM | None] = {}

    @property
    def traces(self) -> Path:
        """The trace store; what lies beside it serves all runs of the recipe."""
        return self._traces

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        return tuple(self.run.report("split")["labels"])

    def rows(self, part: Part | None = None) -> list[Example]:
        """Return the rows of one part, or all."""
        found = read_rows(self.run.path("split", "rows.jsonl"), Example)
        return [row for row in found if part in (None, row.part)]

    def gold(self) -> list[Gold]:
        """Return the gold labels. Nothing that trains may call this."""
        return read_rows(self.run.path("split", "gold.jsonl"), Gold)

    def trusted(self) -> list[Trusted]:
        """Return the training rows whose labels the user vouches for: the only gold that trains."""
        data = self.recipe.data
        if self.recipe.task == "multi_label":
            return []
        rows = self.rows()
        vouched = trusted_rows(
            rows,
            self.gold() if data.trusted else [],
            self.labels,
            n_gold=data.trusted,
            audit=self.files(data.audit),
            reviewed=self._reviewed,
            seed=self.recipe.seed,
        )
        added = trusted_of(rows, self.added_rows(self.labels))
        return [*(one for one in vouched if one.id not in {row.id for row in added}), *added]

    def trusted_files(self) -> list[Path]:
        """Return the files that the trusted rows depend on, beside the rows themselves."""
        drawn = [self.run.path("split", "gold.jsonl")] if self.recipe.data.trusted else []
        return (
            drawn
            + self.files(self.recipe.data.audit)
            + [path for path in [self._reviewed, self.added_file] if path.exists()]
        )

    @property
    def _reviewed(self) -> Path:
        """The answers of a review, which all runs of a recipe use: they lie beside the trace store."""
        return self._traces.with_name(REVIEWED)

    @property
    def added_file(self) -> Path:
        """The texts that escalated in service and were labelled since, which all runs of a recipe use."""
        return self._traces.with_name(ADDED)

    def added_rows(self, labels: Sequence[str]) -> list[Added]:
        """Return those texts; none where the rows have several labels."""
        return [] if self.recipe.task == "multi_label" else read_added(self.added_file, labels)

    def decisions(self) -> list[Decision]:
        """Return what cleaning decided on the training rows."""
        return read_rows(self.run.path("clean", "decisions.jsonl"), Decision)

    def drafts(self) -> list[Draft]:
        """Return the checked drafts."""
        return read_rows(self.run.path("synthesize", "drafts.jsonl"), Draft)

    def uses_drafts(self) -> bool:
        """Return whether accepted drafts train what ships; with "auto" there are none where the batch did not pass."""
        use = self.recipe.synthesize.use
        return use is True or (use == "auto" and any(draft.status == "accepted" for draft in self.drafts()))

    def gate_rows(self) -> list[Example]:
        """Return the rows on which a faster graph must decide as well: calibration rows, then training rows as decided."""
        decided = {decision.id: decision.label for decision in self.decisions()}
        train = [msgspec.structs.replace(row, label=decided[row.id]) for row in self.rows("train")]
        return [*self.rows("calibration"), *train][: self.recipe.quantize.rows]

    def range_texts(self) -> list[str]:
        """Return training texts, evenly spread over the table, whose activations set fixed scales."""
        texts = [row.text for row in self.rows("train")]
        return texts[:: max(1, len(texts) // self.recipe.quantize.range_rows)][: self.recipe.quantize.range_rows]

    @property
    def reading(self) -> TextLimits:
        """How training, export and serving read a text."""
        encoder = self.recipe.encoder
        return TextLimits(
            max_length=encoder.max_length, truncate=encoder.truncate, windows=encoder.windows, overlap=encoder.overlap
        )

    def encoder_folder(self) -> Path:
        """Return the folder of the encoder that the recipe names, fetched where it is not at hand.

        Raises:
            ConfigError: the recipe wants more tokens than the encoder reads.
        """
        from hybrid.encoders.checkpoint import check_length

        folder = model_folder(_beside(self.recipe.encoder.model, self.recipe_dir), on_start=self.run.screen.say)
        check_length(folder, self.recipe.encoder.max_length)
        return folder

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return frozen embeddings of the recipe's encoder, shape [n, d]."""
        from hybrid.encoders.embed import embed

        length = self.recipe.encoder.max_length
        return embed(self.encoder_folder(), texts, max_length=length, on_done=self.run.screen.advance)

    def llm(self, role: Literal["teacher", "second", "decoder"]) -> LLM | None:
        """Return the language model of a role, opened once, its answers kept in the trace store."""
        if role not in self._llms:
            self._llms[role] = open_llm(
                getattr(self.recipe, role),
                folder=self.recipe_dir,
                store=self._traces,
                role=role,
                on_download=self.run.screen.say,
            )
        return self._llms[role]

    def use_llm(self, role: Literal["teacher", "decoder"], llm: LLM) -> None:
        """Ask `llm` in a role in place of the model that the recipe names."""
        self._llms[role] = llm

    def check_llms(self) -> None:
        """Open the language models, so that a missing key stops the run before it starts.

        Raises:
            ConfigError, LLMError: one of them cannot be used.
        """
        self.llm("teacher")
        self.llm("second")
        self.llm("decoder")

    def fit(self, stage: str, key: str, train: TrainConfig, rows: "Sequence[TrainingRow]") -> tuple[Report, Path]:
        """Train on `rows` in the folder of `stage`; return the report and where the checkpoint lies.

        The working folder carries the key of the stage, so that a training with other settings
        never goes on from its checkpoints.
        """
        from hybrid.stages.train import train as fit

        workdir = self.run.path(stage, f"work-{key[:12]}")
        remove_workdirs(self.run.path(stage), but=workdir)
        trained = fit(
            rows,
            self.labels,
            train,
            encoder=self.encoder_folder(),
            reading=self.reading,
            workdir=workdir,
            seed=self.recipe.seed,
            on_step=self.run.screen.advance,
            task=self.recipe.task,
        )
        write_rows(self.run.path(stage, "history.jsonl"), trained.history)
        return trained.report, trained.checkpoint

    def policy(self, config: LLMConfig) -> str:
        """Return the text of the labelling policy; empty where the recipe names none."""
        return "".join(path.read_text(encoding="utf-8") for path in self.policy_files(config))

    def weighs_decoder(self) -> bool:
        """Return whether calibrate asks the decoder: there is one, and gold labels to hold its answers against."""
        recipe = self.recipe
        return (
            not backend_of(recipe.decoder).is_absent
            and recipe.task == "single_label"
            and recipe.calibrate.decoder_rows > 0
            and bool(self.run.report("split")["trusted"])
        )

    def encoder_hash(self) -> str:
        """Return what tells one encoder from another: the pinned name, or the hash of a local folder's files."""
        folder = Path(_beside(self.recipe.encoder.model, self.recipe_dir))
        if not folder.is_dir():
            return self.recipe.encoder.model
        files = [
            path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors", ".bin", ".model")
        ]
        return sha256_of({path.name: sha256_of_file(path) for path in files})

    def policy_files(self, config: LLMConfig) -> list[Path]:
        """Return the labelling policy's file, in a list that is empty where the recipe names none."""
        return self.files(config.policy)

    def llm_files(self, config: LLMConfig) -> list[Path]:
        """Return the files that a language model's answers depend on."""
        return self.files(config.traces) + self.files(config.policy)

    def files(self, name: str) -> list[Path]:
        """Return a file beside the recipe, in a list that is empty where the recipe names none."""
        path = self.recipe_dir / name
        if name and not path.is_file():
            raise ConfigError(f"{path}: the recipe names this file, but it is not there; correct the recipe")
        return [path] if name else []


def remove_workdirs(folder: Path, *, but: Path | None = None) -> None:
    """Delete the working folders of earlier trainings."""
    for found in folder.glob("work-*"):
        if found != but:
            shutil.rmtree(found)


def _beside(model: str, folder: Path) -> str:
    """Return a model reference, a relative path taken from the recipe's folder."""
    return model if model.startswith(("packaged:", "hf:")) else str(folder / model)
