"""References to the Hugging Face hub, `hf:owner/name`, and the commit that a run is pinned to.

A name on the hub is a moving target. A run resolves each of its references to a commit hash once, keeps it, and says
it in its stamps and its bundle; `hf:owner/name@revision` pins one by hand.
"""

from pathlib import Path
from typing import Literal

import msgspec

from hybrid.errors import ConfigError

PREFIX = "hf:"
TIMEOUT_S = 10.0
RepoKind = Literal["model", "dataset"]


class HubReference(msgspec.Struct, frozen=True, kw_only=True):
    """`hf:owner/name[@revision]`, followed by `:split` for a data set or `/file` for one file of a model."""

    repo: str
    """owner/name."""
    revision: str = ""
    """A commit hash, branch or tag; empty: the main branch as it is when a run first asks."""
    rest: str = ""
    """What follows, with its first character: `:train`, `/model.gguf`; empty for a whole model."""

    def at(self, revision: str) -> str:
        """The same reference at a revision, as a recipe writes it."""
        return f"{PREFIX}{self.repo}@{revision}{self.rest}"


def is_hub(reference: str) -> bool:
    """Whether a reference names something on the hub."""
    return reference.startswith(PREFIX)


def parse_hub(reference: str) -> HubReference:
    """Take a reference apart.

    Raises:
        ConfigError: no owner or no name in it.
    """
    owner, slash, name = reference.removeprefix(PREFIX).partition("/")
    ends = [i for i in (name.find(":"), name.find("/")) if i >= 0]
    end = min(ends, default=len(name))
    repo, _, revision = name[:end].partition("@")
    if not (owner and slash and repo) or name[:end].endswith("@"):
        raise ConfigError(
            f"{reference}: expected hf:owner/name or hf:owner/name@revision; correct the reference in the recipe"
        )
    return HubReference(repo=f"{owner}/{repo}", revision=revision, rest=name[end:])


def refusal_of(repo: str, kind: RepoKind) -> Exception | None:
    """Why the hub does not answer for `repo`, within seconds; None if it does."""
    try:
        _revision_on_hub(repo, kind, None)
    except Exception as error:
        # The client fails with the exceptions of whichever HTTP library its version uses.
        return error
    return None


def commit_of(reference: str, kind: RepoKind) -> str:
    """The commit hash that a reference means now: on the hub, else in the hub's cache; empty where neither knows."""
    parsed = parse_hub(reference)
    try:
        return _revision_on_hub(parsed.repo, kind, parsed.revision or None)
    except Exception:  # as in `refusal_of`; whoever loads the model says in full why it cannot be had
        return _revision_in_cache(parsed.repo, kind, parsed.revision or "main")


def _revision_on_hub(repo: str, kind: RepoKind, revision: str | None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=TIMEOUT_S).sha or "")


def _revision_in_cache(repo: str, kind: RepoKind, revision: str) -> str:
    """What the cache knows a branch as, else, where it was only ever fetched by commit, the commit fetched last."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name
    except ImportError:
        return ""
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)
    try:
        return (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        named = [path.name for path in snapshots if revision in ("main", path.name)]
        return named[-1] if named else ""
