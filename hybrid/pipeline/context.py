"""One recipe in one run folder: what is outside the tables of a run, and its tables for those that read a finished one."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.artifacts import fetch, model_folder
from hybrid.config import LLMConfig, Recipe
from hybrid.data.escalated_rows import ADDED, Added, read_added
from hybrid.data.trusted import REVIEWED
from hybrid.encoders.built_encoder import PYTHON_FILE, built_encoder
from hybrid.errors import ConfigError, DataError
from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.table import iterate_rows, read_rows, write_json
from hybrid.hub import RepoKind, commit_of, is_hub, parse_hub
from hybrid.llm import LLM, open_llm
from hybrid.pins import ARTIFACTS
from hybrid.pipeline.run import Run
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.stage import (
    DECISIONS,
    DRAFTS,
    GOLD,
    LABELS,
    ROWS,
    Reads,
    Role,
    SharedFile,
    Stage,
    StageIO,
    setting_value,
    text_limits,
)
from hybrid.stages.student import STUDENT_FILE, trains_student
from hybrid.stages.trusted import trusted_reads, trusted_rows_of
from hybrid.types import Decision, Draft, Example, Gold, Part, Report, Trusted

REVISIONS = "revisions.json"
"""In the run: the commit hash that each `hf:` reference of the recipe is pinned to."""
SHARED_FILES: dict[SharedFile, str] = {"reviewed": REVIEWED, "escalated": ADDED}
"""Beside the trace store, for all runs of the recipe."""
_PACKAGED = "packaged:"


class RunContext:
    """What stages and commands ask for beside the tables: language models, the encoder, files of the recipe."""

    def __init__(self, recipe: Recipe, recipe_dir: Path, run: Run, traces: Path) -> None:
        """Open nothing yet; `traces` is the trace store."""
        self.recipe = recipe
        self.run = run
        self.recipe_dir = recipe_dir
        self.traces = traces
        self._llms: dict[str, LLM | None] = {}

    def io(self, stage: Stage | str, reads: Reads | None = None, *, key: str = "") -> StageIO:
        """What a stage may use; for a name in place of a stage, what `reads` declares and no output."""
        if isinstance(stage, str):
            return StageIO(stage, reads or Reads(), (), self.recipe, self, key)
        writes = (*stage.writes, *stage.may_write)
        return StageIO(stage.name, reads or stage.reads(self.recipe), writes, self.recipe, self, key)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.run.folder

    def report(self, stage: str) -> Report:
        """What a finished stage reported."""
        return self.run.report(stage)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        stage, _, field = LABELS.partition(".")
        return tuple(self.run.report(stage)[field])

    @property
    def presented_labels(self) -> tuple[str, ...]:
        """The labels in the order in which the recipe names them, for people."""
        return self.recipe.labels or self.labels

    def rows(self, part: Part | None = None) -> list[Example]:
        """The rows of one part, or all."""
        rows = iterate_rows(self.run.path(ROWS.path), ROWS.row_type)
        return [row for row in rows if part in (None, row.part)]

    def gold(self) -> list[Gold]:
        """The gold labels. Nothing that trains may call this."""
        return read_rows(self.run.path(GOLD.path), GOLD.row_type)

    def trusted(self) -> list[Trusted]:
        """The training rows whose labels the user vouches for: the only gold that trains."""
        return trusted_rows_of(self.io("trusted", trusted_reads(self.recipe)))

    def added_rows(self, labels: Sequence[str]) -> list[Added]:
        """The texts that escalated in service and were labelled since; none where the rows have several labels."""
        return [] if self.recipe.task == "multi_label" else read_added(self.shared_file("escalated"), labels)

    def decisions(self) -> list[Decision]:
        """What cleaning decided on the training rows."""
        return read_rows(self.run.path(DECISIONS.path), DECISIONS.row_type)

    def drafts(self) -> list[Draft]:
        """The checked drafts."""
        return read_rows(self.run.path(DRAFTS.path), DRAFTS.row_type)

    @property
    def limits(self) -> TextLimits:
        """How training, export and serving read a text."""
        return text_limits(self.recipe)

    def shared_file(self, name: SharedFile) -> Path:
        """A file that all runs of the recipe share; it may not be there."""
        return self.traces.with_name(SHARED_FILES[name])

    def file_names(self, setting: str) -> list[str]:
        """The names that a setting gives to files beside the recipe, or on the hub."""
        value = setting_value(self.recipe, setting)
        names = [value] if isinstance(value, str) else list(value)
        return [name for name in names if name]

    def recipe_files(self, setting: str) -> list[Path]:
        """The files beside the recipe that a setting names.

        Raises:
            ConfigError: one of them is not there.
        """
        paths = [self.recipe_dir / name for name in self.file_names(setting) if not is_hub(name)]
        for path in paths:
            if not path.is_file():
                raise ConfigError(f"{path}: the recipe names this file, but it is not there; correct the recipe")
        return paths

    def policy(self, config: LLMConfig) -> str:
        """The text of a labelling policy; empty where the section names none."""
        if not config.policy:
            return ""
        path = self.recipe_dir / config.policy
        if not path.is_file():
            raise ConfigError(f"{path}: the recipe names this file, but it is not there; correct the recipe")
        return path.read_text(encoding="utf-8")

    def pinned(self, reference: str) -> str:
        """An `hf:` reference at the commit that this run is pinned to; any other reference as it is.

        The run asks the hub once a reference and keeps the answer; one that neither the hub nor its cache knows stays
        as it is, and whoever loads it says so.
        """
        if not is_hub(reference) or (parsed := parse_hub(reference)).revision:
            return reference
        pins = self._pins()
        if parsed.repo not in pins:
            kind: RepoKind = "dataset" if reference in self._data_references() else "model"
            commit = commit_of(reference, kind)
            if not commit:
                return reference
            pins |= {parsed.repo: commit}
            write_json(self.run.path(REVISIONS), pins)
            self.run.screen.say(f"{reference}: pinned to revision {commit[:12]} in this run")
        return parsed.at(pins[parsed.repo])

    def encoder_folder(self) -> Path:
        """The folder of the encoder that the recipe names, fetched where it is not at hand.

        Raises:
            ConfigError: the recipe asks for more tokens than the encoder reads.
        """
        from hybrid.encoders.checkpoint import check_length

        reference = self._encoder_reference()
        if reference.endswith(PYTHON_FILE):
            target = self.run.path(f"encoder-{self.encoder_identity()[:12]}")
            folder = built_encoder(self._encoder_file(), self.recipe.encoder.model, target, self.fetch)
        else:
            folder = model_folder(reference, on_start=self.run.screen.say)
        check_length(folder, self.recipe.encoder.max_length)
        return folder

    def encoder_identity(self) -> str:
        """What tells one encoder from another: the pinned hash or commit, or the hash of a local folder's files."""
        reference = self._encoder_reference()
        if reference.startswith(_PACKAGED):
            pin = ARTIFACTS.get(reference.removeprefix(_PACKAGED))
            return f"{reference}@{pin.sha256}" if pin else reference
        if is_hub(reference):
            return reference
        if reference.endswith(PYTHON_FILE):
            # It may fetch any pinned artefact.
            pins = {name: artifact.sha256 for name, artifact in ARTIFACTS.items()}
            return sha256_of([sha256_of_file(self._encoder_file()), pins])
        suffixes = (".json", ".safetensors", ".bin", ".model")
        files = [path for path in sorted(Path(reference).glob("*")) if path.suffix in suffixes]
        return sha256_of({path.name: sha256_of_file(path) for path in files})

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Frozen embeddings of the recipe's encoder, float32 of shape [n, d]."""
        from hybrid.encoders.embed import embed

        length = self.recipe.encoder.max_length
        return embed(self.encoder_folder(), texts, max_length=length, on_done=self.advance)

    def fetch(self, name: str) -> Path:
        """The folder of a pinned artefact."""
        return fetch(name, on_start=self.run.screen.say)

    def llm(self, role: Role) -> LLM | None:
        """The language model of a role, opened once, its answers kept in the trace store."""
        if role not in self._llms:
            config: LLMConfig = getattr(self.recipe, role)
            self._llms[role] = open_llm(
                msgspec.structs.replace(config, model=self._model_of(role)),
                folder=self.recipe_dir,
                store=self.traces,
                role=role,
                say=self.run.screen.say,
            )
        return self._llms[role]

    def use_llm(self, role: Role, llm: LLM) -> None:
        """Ask `llm` in a role in place of the model that the recipe names."""
        self._llms[role] = llm

    def check_llms(self) -> None:
        """Open the language models, so that a missing key stops the run before it starts.

        Raises:
            ConfigError, LLMError: one of them cannot be used.
        """
        for role in ("teacher", "second", "decoder"):
            if role != "decoder" or not trains_student(self.recipe):  # its stage has yet to write it
                self.llm(role)

    def llm_identity(self, role: Role) -> str:
        """What tells the model of a role from another: its name, or of the run's own student the hash of its file."""
        if role == "decoder" and trains_student(self.recipe):
            path = self.run.path(STUDENT_FILE)
            return f"student@{sha256_of_file(path)}" if path.is_file() else "student"
        return self.pinned(getattr(self.recipe, role).model)

    def _model_of(self, role: Role) -> str:
        if role == "decoder" and trains_student(self.recipe):
            return str(self.run.path(STUDENT_FILE).resolve())
        return self.pinned(getattr(self.recipe, role).model)

    def advance(self, done: int, total: int) -> None:
        """Show on the screen how far the stage at work is."""
        self.run.screen.advance(done, total)

    def _encoder_reference(self) -> str:
        model = self.pinned(self.recipe.encoder.model)
        return model if model.startswith(_PACKAGED) or is_hub(model) else str(self.recipe_dir / model)

    def _encoder_file(self) -> Path:
        path = self.recipe_dir / self.recipe.encoder.model
        if not path.is_file():
            raise ConfigError(
                f"{path}: the recipe names this file (encoder.model), but it is not there; correct the recipe"
            )
        return path

    def _data_references(self) -> tuple[str, ...]:
        data = self.recipe.data
        return (data.train, data.calibration, data.test)

    def _pins(self) -> dict[str, str]:
        path = self.run.path(REVISIONS)
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it to resolve the revisions anew") from error
