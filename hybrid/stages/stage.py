"""A stage of a run: what it reads, what it writes, and the guard that gives it that and nothing else.

A `Stage` declares its name, its reads, its writes and the modules that its result depends on. The pipeline hashes what
the declaration names into the stage's stamp, and calls `work` with a `StageIO`, through which everything else is out of
reach: a result can never depend on something that its stamp does not know.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, cast

import msgspec
import numpy as np

from hybrid.config import LLMConfig, Recipe
from hybrid.files.table import iterate_rows, write_rows
from hybrid.llm import LLM
from hybrid.prompts import Name as PromptName
from hybrid.prompts import prompt_text
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import (
    Decision,
    Draft,
    Epoch,
    Example,
    Gold,
    Judged,
    Parity,
    Part,
    PrecisionTrial,
    Report,
    Scored,
    Trusted,
    Vote,
)

RowT = TypeVar("RowT", bound=msgspec.Struct)
Role = Literal["teacher", "second", "decoder"]
SharedFile = Literal["reviewed", "escalated"]


class Table(msgspec.Struct, Generic[RowT], frozen=True):
    """A table that a stage leaves in the run."""

    path: str
    row_type: type[RowT]


ROWS = Table("split/rows.jsonl", Example)
GOLD = Table("split/gold.jsonl", Gold)
VOTES = Table("verify/votes.jsonl", Vote)
DECISIONS = Table("clean/decisions.jsonl", Decision)
TRUSTED = Table("clean/trusted.jsonl", Trusted)
DRAFTS = Table("synthesize/drafts.jsonl", Draft)
TRAINING_DRAFTS = Table("synthesize/training.jsonl", Draft)
HISTORY = Table("train/history.jsonl", Epoch)
PARITY = Table("export/parity.jsonl", Parity)
TRIALS = Table("quantize/rungs.jsonl", PrecisionTrial)
SCORED = Table("calibrate/scored.jsonl", Scored)
JUDGED = Table("evaluate/judged.jsonl", Judged)

LABELS = "split.labels"
"""The report field with the labels in the order of the logits. A stage that sees labels depends on their order."""


class UndeclaredError(AssertionError):
    """A stage reached for something that it does not declare: a fault of this program, never of its user."""


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """All that a stage's result depends on, beside its own code."""

    settings: tuple[str, ...] = ()
    """Fields of the recipe: a section (`train`), one of its keys (`synthesize.use`), or a field at its top (`seed`)."""
    tables: tuple[Table[Any], ...] = ()
    files: tuple[str, ...] = ()
    """Files in the run that are no tables, such as `export/model.onnx`."""
    reports: tuple[str, ...] = ()
    """Fields of other stages' reports: `quantize.precision` is the field `precision` of quantize's."""
    recipe_files: tuple[str, ...] = ()
    """Settings that name files beside the recipe, such as `data.audit`; their content counts, not only their name."""
    shared_files: tuple[SharedFile, ...] = ()
    """Files that all runs of a recipe share: `reviewed` answers of people, `escalated` texts with their labels."""
    prompts: tuple[PromptName, ...] = ()
    """Prompts that a language model is asked with; their text counts."""
    llms: tuple[Role, ...] = ()
    """Language models that the stage may ask; their section of the recipe, traces and policy count."""
    encoder: bool = False
    """Whether the stage loads the pretrained encoder that the recipe names."""
    artefacts: bool = False
    """Whether the stage may fetch pinned artefacts; the pins count."""

    def with_(self, *others: "Reads") -> "Reads":
        """These reads and those of `others`, each named once."""
        merged: dict[str, Any] = {}
        for name in self.__struct_fields__:
            values = [getattr(reads, name) for reads in (self, *others)]
            flags = all(isinstance(value, bool) for value in values)
            merged[name] = any(values) if flags else tuple(dict.fromkeys(v for part in values for v in part))
        return Reads(**merged)

    def all_settings(self) -> tuple[str, ...]:
        """The settings, those of the language models and of the encoder among them."""
        encoder = ("encoder",) if self.encoder else ()
        return tuple(dict.fromkeys((*self.settings, *self.llms, *encoder)))

    def all_recipe_files(self) -> tuple[str, ...]:
        """The settings that name files, those of the language models among them."""
        of_llms = (f"{role}.{name}" for role in self.llms for name in ("traces", "policy"))
        return tuple(dict.fromkeys((*self.recipe_files, *of_llms)))


class Resources(Protocol):
    """What lies outside the tables of a run; the pipeline's context provides it."""

    def llm(self, role: Role) -> LLM | None:
        """The language model of a role, opened once; None where the recipe names none."""

    def encoder_folder(self) -> Path:
        """The folder of the pretrained encoder."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Frozen embeddings of the encoder, float32 of shape [n, d]."""

    def fetch(self, name: str) -> Path:
        """The folder of a pinned artefact."""

    def recipe_files(self, setting: str) -> list[Path]:
        """The files beside the recipe that a setting names."""

    def shared_file(self, name: SharedFile) -> Path:
        """A file that all runs of the recipe share; it may not be there."""

    def report(self, stage: str) -> Report:
        """What a finished stage reported."""

    def advance(self, done: int, total: int) -> None:
        """Show how far the stage is."""

    @property
    def folder(self) -> Path:
        """The folder of the run."""

    @property
    def recipe_dir(self) -> Path:
        """The folder of the recipe: relative names in it count from here."""

    def pinned(self, reference: str) -> str:
        """An `hf:` reference with the commit that this run is pinned to; any other reference as it is."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run: a table or more in, a table or more and a report out."""

    name: str
    purpose: str
    """In one line: what comes in -> what goes out."""
    version: int
    """Raised with every change of the code that changes results; `make stage-lock` holds it against the code."""
    reads: Callable[[Recipe], Reads]
    writes: tuple[str, ...]
    """Files in the run that are there when the stage has ended, its tables among them."""
    may_write: tuple[str, ...] = ()
    """Files that are there only under some settings; the stage removes those of an earlier time."""
    code: tuple[str, ...]
    """Modules and packages that the result depends on, the stage's own left out."""
    work: Callable[["StageIO"], Report]
    summary_line: Callable[[Report], str]
    """The line on the screen for a stage that has worked, from its report."""
    is_part_of: Callable[[Recipe], bool] = lambda _: True
    """Whether a run of the recipe goes through it."""


class StageIO:
    """The world of one stage at work: what it declares to read and write, and nothing else.

    Every method raises `UndeclaredError` where the declaration does not name what is asked for.
    """

    def __init__(self, name: str, reads: Reads, writes: Sequence[str], recipe: Recipe, resources: Resources, key: str):
        """Guard `resources` for stage `name`, whose stamp has `key`."""
        self.name = name
        self.key = key
        self._reads = reads
        self._writes = frozenset(writes)
        self._resources = resources
        self._full_recipe = recipe
        # For the type checker it is a recipe; a field that is not declared raises.
        self.recipe = cast(Recipe, DeclaredSettings(name, recipe, reads.all_settings()))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits."""
        return tuple(self.report_field(LABELS))

    @property
    def limits(self) -> TextLimits:
        """How training, export and serving read a text."""
        return text_limits(self.recipe)

    def read(self, table: Table[RowT]) -> list[RowT]:
        """The rows of a table that an earlier stage wrote."""
        return list(self._iterate(table))

    def rows(self, part: Part | None = None) -> list[Example]:
        """The rows of one part, or all."""
        return [row for row in self._iterate(ROWS) if part in (None, row.part)]

    def _iterate(self, table: Table[RowT]) -> Iterator[RowT]:
        self._check(table in self._reads.tables, f"the table {table.path}")
        return iterate_rows(self._resources.folder / table.path, table.row_type)

    def write(self, table: Table[RowT], rows: Iterable[RowT]) -> None:
        """Write a table whole."""
        write_rows(self.output(table.path), rows)

    def input(self, path: str) -> Path:
        """The path of a file that an earlier stage wrote."""
        self._check(path in self._reads.files, f"the file {path}")
        return self._resources.folder / path

    def output(self, path: str) -> Path:
        """The path of a file, or of a folder of files, that this stage declares to write."""
        declared = path in self._writes or any(written.startswith(path + "/") for written in self._writes)
        self._check(declared, f"the output {path}")
        return self._resources.folder / path

    def input_folder(self, folder: str) -> Path:
        """A folder of the run of which at least one file is declared as read."""
        self._check(any(path.startswith(folder + "/") for path in self._reads.files), f"the folder {folder}")
        return self._resources.folder / folder

    def scratch(self) -> Path:
        """The stage's own folder in the run, for what is removed before it ends."""
        return self._resources.folder / self.name

    def report_field(self, field: str) -> Any:
        """A field of an earlier stage's report."""
        self._check(field in self._reads.reports, f"the report field {field}")
        stage, _, name = field.partition(".")
        return self._resources.report(stage)[name]

    def recipe_files(self, setting: str) -> list[Path]:
        """The files beside the recipe that a setting names; none where it is empty."""
        self._check(setting in self._reads.all_recipe_files(), f"the files of {setting}")
        return self._resources.recipe_files(setting)

    def shared_file(self, name: SharedFile) -> Path:
        """A file that all runs of the recipe share; it may not be there."""
        self._check(name in self._reads.shared_files, f"the shared file {name}")
        return self._resources.shared_file(name)

    def prompt(self, name: PromptName) -> str:
        """The text of a prompt."""
        self._check(name in self._reads.prompts, f"the prompt {name}")
        return prompt_text(name)

    def llm(self, role: Role) -> LLM | None:
        """The language model of a role; None where the recipe names none."""
        self._check(role in self._reads.llms, f"the {role}")
        return self._resources.llm(role)

    def llm_config(self, role: Role) -> LLMConfig:
        """The section of the recipe about a role."""
        config: LLMConfig = getattr(self.recipe, role)
        return config

    def policy(self, role: Role) -> str:
        """The text of a role's labelling policy; empty where the recipe names none."""
        return "".join(path.read_text(encoding="utf-8") for path in self.recipe_files(f"{role}.policy"))

    def encoder_folder(self) -> Path:
        """The folder of the pretrained encoder."""
        self._check(self._reads.encoder, "the encoder")
        return self._resources.encoder_folder()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Frozen embeddings of the pretrained encoder, float32 of shape [n, d]."""
        self._check(self._reads.encoder, "the encoder")
        return self._resources.embed(texts)

    def fetch(self, name: str) -> Path:
        """The folder of a pinned artefact."""
        self._check(self._reads.artefacts, "a pinned artefact")
        return self._resources.fetch(name)

    def advance(self, done: int, total: int) -> None:
        """Show on the screen how far the stage is."""
        self._resources.advance(done, total)

    @property
    def recipe_dir(self) -> Path:
        """The folder that relative names of declared recipe files count from."""
        return self._resources.recipe_dir

    def pinned(self, reference: str) -> str:
        """An `hf:` reference with the commit that this run is pinned to; any other reference as it is."""
        return self._resources.pinned(reference)

    @property
    def recipe_record(self) -> Recipe:
        """The whole recipe, only to be recorded: no result may depend on it."""
        return self._full_recipe

    def _check(self, declared: bool, what: str) -> None:
        if not declared:
            raise UndeclaredError(f"stage {self.name}: uses {what} and does not declare it")


class DeclaredSettings:
    """A recipe, or a section of one, of which only declared fields can be read."""

    def __init__(self, stage: str, settings: object, declared: Iterable[str], prefix: str = "") -> None:
        """Guard `settings`; `declared` are dotted names counted from here."""
        self._stage = stage
        self._settings = settings
        self._declared = frozenset(declared)
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        """The field, or a guard around it where only some of its keys are declared."""
        value = getattr(self._settings, name)
        if name in self._declared:
            return value
        keys = [field.removeprefix(f"{name}.") for field in self._declared if field.startswith(f"{name}.")]
        if keys:
            return DeclaredSettings(self._stage, value, keys, prefix=f"{self._prefix}{name}.")
        raise UndeclaredError(f"stage {self._stage}: reads recipe.{self._prefix}{name} and does not declare it")


def text_limits(recipe: Recipe) -> TextLimits:
    """How an encoder of this recipe reads a text; needs the section `encoder`."""
    encoder = recipe.encoder
    return TextLimits(
        max_length=encoder.max_length, truncate=encoder.truncate, windows=encoder.windows, overlap=encoder.overlap
    )


def setting_value(recipe: Recipe, setting: str) -> Any:
    """The value of a dotted field of the recipe."""
    value: Any = recipe
    for name in setting.split("."):
        value = getattr(value, name)
    return value
