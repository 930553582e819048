"""The errors that a user can cause and mend: each says where, what came, what was expected, what to do."""


class HybridError(Exception):
    """Anything that stops a run with one sentence and exit status 2."""


class ConfigError(HybridError):
    """A recipe asks for something that does not exist or cannot be."""


class DataError(HybridError):
    """A table, a row or a label is not what the recipe says it is."""


class ArtifactError(HybridError):
    """A pinned artefact could not be fetched, or is not the one that was pinned."""


class LLMError(HybridError):
    """A language model cannot be used at all (no key, no model file, no package)."""

    def __init__(self, message: str, *, failure: str = "", http_status: int = 0) -> None:
        """Keep, where a call failed, its `hybrid.llm.request.FailureKind` and the HTTP status (0: there is none)."""
        super().__init__(message)
        self.failure = failure
        self.http_status = http_status


class BudgetError(HybridError):
    """The next call to a language model could cost more than is left of its budget."""


class ExportError(HybridError):
    """The exported graph does not compute what the checkpoint computes."""


class BundleError(HybridError):
    """A bundle on disk is incomplete, changed, or of another format."""


class GoldenError(BundleError):
    """A bundle is whole, but this machine computes something else than was measured."""


class StorageError(HybridError):
    """A file could not be written or read: a full disk, a missing folder, no permission."""


class StoreError(StorageError):
    """An object store refused, or does not answer."""


class VersionError(HybridError):
    """An installed package is of a release that hybrid cannot work with."""


class CrashError(Exception):
    """Something that no user can mend went wrong: a fault of this program or of a library. Exit status 1."""
