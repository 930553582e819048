"""Reads bundles in threads of their own, so that a file system that does not answer delays nothing else."""

import asyncio
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from hybrid.errors import BundleError
from hybrid.runtime.bundle import FALLBACK, MANIFEST, MODEL, TOKENIZER, Bundle, graph_for, read_bundle, read_manifest
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.runtime.text_encoder import TextEncoder, load_tokenizer, pad_id_of

MOST_AT_ONCE = 8
"""The most folders that may be read at once, those on a file system that does not answer included."""


class LoadedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """What is read from a bundle's folder, its hashes checked."""

    folder: Path
    bundle: Bundle
    bundle_id: str
    """The first 12 hex digits of the SHA-256 of `bundle.json`."""
    text_encoder: TextEncoder
    pad_id: int
    fallback: "LoadedBundle | None" = None
    """The fp32 bundle of a portable one, for a machine on which the golden texts of this one do not hold."""


def load(folder: Path, engine: str = DEFAULT_ENGINE) -> LoadedBundle:
    """Load manifest and tokenizer of a bundle, for the graph of it that `engine` runs; that is left to the engine.

    Raises:
        BundleError: a file is missing or was changed, tokenizer and graph do not belong together, or the bundle has no
            graph that the engine runs.
        ConfigError: the engine's package is not installed.
    """
    loaded = _load(folder)
    if graph_for(folder, loaded.bundle, engine) == folder:
        return loaded
    assert loaded.fallback is not None
    return loaded.fallback


def _load(folder: Path) -> LoadedBundle:
    bundle = read_bundle(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    pad_id = pad_id_of(tokenizer)
    text_encoder = TextEncoder(tokenizer, bundle.reading)
    if text_encoder.vocabulary > bundle.vocabulary:
        raise BundleError(
            f"{folder}: the tokenizer knows {text_encoder.vocabulary} tokens and the encoder {bundle.vocabulary}; "
            "they are not of one model: rerun the recipe"
        )
    for name in (MODEL, TOKENIZER):
        if name not in bundle.files:
            raise BundleError(f"{folder / MANIFEST}: no SHA-256 of {name}; rerun the recipe")
    bundle_id = hashlib.sha256(read_manifest(folder)).hexdigest()[:12]
    return LoadedBundle(
        folder=folder,
        bundle=bundle,
        bundle_id=bundle_id,
        text_encoder=text_encoder,
        pad_id=pad_id,
        fallback=_load(folder / FALLBACK) if bundle.fallback else None,
    )


def check_below(root: Path, folder: Path) -> None:
    """Refuse a folder that is neither `root` nor below it, symbolic links followed.

    Raises:
        BundleError: it is elsewhere.
    """
    try:
        is_below = folder.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # a circle of links
        raise BundleError(f"{folder}: cannot be found ({error}); expected the folder of a bundle") from error
    if not is_below:
        raise BundleError(
            f"{folder}: expected a folder in {root}, the only place that bundles are taken from over HTTP; put the bundle "
            "there, or name the folder that holds your bundles with the setting swap.root"
        )


class BundleLoader:
    """Loads bundles, each in a thread of its own. Lives on the event loop.

    A thread that waits for a dead mount cannot be ended; it is left behind, and ends with the process.
    """

    def __init__(self, timeout_s: float, engine: str = DEFAULT_ENGINE) -> None:
        """Wait `timeout_s` seconds at most for a bundle that `engine` is to run."""
        self._engine = engine
        self._timeout_s = timeout_s
        self._reading: dict[str, asyncio.Future[LoadedBundle]] = {}
        """By folder, the load whose thread has not ended."""

    async def load(self, folder: Path, *, below: Path | None = None) -> LoadedBundle:
        """Load a bundle; where `below` is given, only if it lies there.

        Raises:
            BundleError: it is not sound, lies elsewhere, or could not be read in time.
        """
        key = os.path.normpath(folder)
        try:
            async with asyncio.timeout(self._timeout_s):
                while earlier := self._reading.get(key):
                    await asyncio.wait([earlier])
                return await asyncio.shield(self._start(key, folder, below))
        except TimeoutError as error:
            raise BundleError(
                f"{folder}: could not be read within {self._timeout_s:g} s; check the file system that it is on, or raise "
                "swap.timeout_s"
            ) from error

    def _start(self, key: str, folder: Path, below: Path | None) -> "asyncio.Future[LoadedBundle]":
        if len(self._reading) >= MOST_AT_ONCE:
            raise BundleError(f"{folder}: {MOST_AT_ONCE} other bundles are still being read; try again once they are")
        loop = asyncio.get_running_loop()
        loading: asyncio.Future[LoadedBundle] = loop.create_future()
        loading.add_done_callback(lambda done: self._end(key, done))
        self._reading[key] = loading

        def read() -> None:
            try:
                if below is not None:
                    check_below(below, folder)
                loaded = load(folder, self._engine)
            except BaseException as error:
                tell(loading.set_exception, error)
            else:
                tell(loading.set_result, loaded)

        def tell(*call: object) -> None:
            with suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(*call)  # type: ignore[arg-type] # a method and its argument

        threading.Thread(target=read, name="bundle", daemon=True).start()
        return loading

    def _end(self, key: str, loading: "asyncio.Future[LoadedBundle]") -> None:
        del self._reading[key]
        loading.exception()  # where nobody waits for it any more, it is not reported as forgotten
