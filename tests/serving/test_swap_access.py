"""Who may change the bundle over HTTP, from where it is taken, and what a file that is none costs."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid.errors import BundleError
from serving import bundle_loading
from serving.bundle_loading import MOST_AT_ONCE, BundleLoader, LoadedBundle, load
from serving.settings import API_KEYS, Settings, SwapSettings, read_settings
from tests.serving.bundles import changed, copied
from tests.serving.http_requests import client
from tests.serving.live_service import live
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

KEY = {"X-API-Key": "soup-of-the-day"}
PROXIED = {"X-Forwarded-For": "203.0.113.7"}
PAGE = {"Origin": "https://elsewhere.example"}
SWAP = {"folder": "/somewhere"}


@pytest.fixture
def guarded(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(API_KEYS, KEY["X-API-Key"])
    with served(Scripted(bundle_dir, at_once)) as url:
        yield url


def status(url: str, headers: dict[str, str]) -> tuple[int, str]:
    reply = client().post(f"{url}/v1/bundle", json=SWAP, headers=headers)
    return reply.status_code, reply.text


def test_without_keys_the_bundle_is_not_changed_over_http_not_even_from_this_machine(bundle_dir: Path) -> None:
    """Behind `proxy_pass http://127.0.0.1:8000;` alone, every caller of the proxy looks like this one."""
    service = Scripted(bundle_dir, at_once)
    with served(service) as url:
        for headers in ({}, PROXIED, PAGE, KEY):
            refusal, text = status(url, headers)
            assert refusal == 403
            assert "forbidden" in text
        assert "set HYBRID_API_KEYS, or send SIGHUP" in status(url, {})[1]
    assert service.swapped == []


def test_with_a_key_it_is_changed_from_anywhere_but_a_page(guarded: str) -> None:
    assert status(guarded, KEY)[0] == 200
    assert status(guarded, KEY | PROXIED)[0] == 200
    assert status(guarded, {})[0] == 401
    assert status(guarded, KEY | PAGE)[0] == 403


def test_a_setting_opens_it_to_programs_of_this_machine(bundle_dir: Path) -> None:
    with served(Scripted(bundle_dir, at_once), Settings(swap=SwapSettings(over_http="from_this_machine"))) as url:
        assert status(url, {})[0] == 200
        assert status(url, PROXIED)[0] == 403
        assert status(url, PAGE)[0] == 403


def test_a_setting_closes_it_to_everybody(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEYS, KEY["X-API-Key"])
    with served(Scripted(bundle_dir, at_once), Settings(swap=SwapSettings(over_http="off"))) as url:
        refusal, text = status(url, KEY)
    assert refusal == 403
    assert 'swap.over_http = \\"off\\"' in text


def test_a_folder_is_looked_for_in_the_root_and_the_root_counts_from_the_settings_file(
    bundle_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "service.toml").write_text('[swap]\nover_http = "from_this_machine"\nroot = "bundles"\n')
    settings, service = read_settings(tmp_path / "service.toml"), Scripted(bundle_dir, at_once)
    root = tmp_path / "bundles"
    with served(service, settings) as url:
        for folder in ("v2", str(root / "v2"), "/elsewhere"):
            client().post(f"{url}/v1/bundle", json={"folder": folder})
    assert service.swapped == [(str(root / "v2"), root), (str(root / "v2"), root), ("/elsewhere", root)]


def test_a_bundle_outside_of_the_root_is_refused_however_it_is_named(bundle_dir: Path, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    inside, outside = copied(bundle_dir, root / "v2"), copied(bundle_dir, tmp_path / "outside")
    (root / "link").symlink_to(outside)
    (root / "circle").symlink_to(root / "circle")
    named = [outside, root / ".." / "outside", root / "link", root / "circle", tmp_path / "bundles2", Path("/")]

    async def scenario() -> None:
        async with live(bundle_dir) as service:
            before = service.bundle_id
            for folder in named:
                with pytest.raises(BundleError, match=r"expected (a folder in .*bundles|the folder of a bundle)"):
                    await service.swap(str(folder), below=root)
            assert service.bundle_id == before
            assert await service.swap(str(inside), below=root) == before
            assert service.folder == inside

    asyncio.run(scenario())


def fifo_in_place_of(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return harm


def device_in_place_of(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return harm


def folder_in_place_of_the_graph(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()


def endless_manifest(folder: Path) -> None:
    with (folder / "bundle.json").open("r+b") as file:
        file.truncate(300 << 20)


def file_elsewhere(folder: Path) -> None:
    changed(folder, files={"../../../etc/hostname": "0" * 64})


def no_hash_of_the_tokenizer(folder: Path) -> None:
    changed(folder, files={"model.onnx": read_hash(folder)})


def read_hash(folder: Path) -> str:
    return load(folder).bundle.files["model.onnx"]


NOT_BUNDLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a FIFO for the manifest": (fifo_in_place_of("bundle.json"), "Not a regular file"),
    "a FIFO for the graph": (fifo_in_place_of("model.onnx"), "Not a regular file"),
    "a FIFO for the tokenizer": (fifo_in_place_of("tokenizer.json"), "Not a regular file"),
    "a device for the manifest": (device_in_place_of("bundle.json"), "Not a regular file"),
    "a device for the graph": (device_in_place_of("model.onnx"), "Not a regular file"),
    "a folder for the graph": (folder_in_place_of_the_graph, "Is a directory"),
    "a manifest without end": (endless_manifest, "so it is no manifest"),
    "a file of another folder": (file_elsewhere, "expected the name of a file in the bundle's folder"),
    "a tokenizer without a hash": (no_hash_of_the_tokenizer, "no SHA-256 of tokenizer.json"),
}


@pytest.mark.parametrize("name", NOT_BUNDLES)
def test_what_is_no_file_is_refused_without_waiting_for_it(name: str, bundle_dir: Path, tmp_path: Path) -> None:
    harm, message = NOT_BUNDLES[name]
    folder = copied(bundle_dir, tmp_path / "bundle")
    harm(folder)
    with pytest.raises(BundleError, match=message):
        load(folder)


class DeadMount:
    """Stands in for `load`: folders named `dead` are read for ever, or until `release`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.reading = 0

    def __call__(self, folder: Path, engine: str) -> LoadedBundle:
        if folder.name.startswith("dead"):
            self.reading += 1
            self.released.wait(60)
            raise BundleError("released")
        return load(folder, engine)


def test_a_dead_mount_keeps_no_other_bundle_from_taking_over(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = DeadMount()
    monkeypatch.setattr(bundle_loading, "load", mount)
    copy = copied(bundle_dir, tmp_path / "copy")

    async def scenario() -> None:
        async with live(bundle_dir, Settings(swap=SwapSettings(timeout_s=120))) as service:
            stuck = [asyncio.ensure_future(service.swap(str(tmp_path / "dead"))) for _ in range(3)]
            while not mount.reading:
                assert not any(swap.done() for swap in stuck)
                await asyncio.sleep(0.001)
            assert await service.swap(str(copy)) == service.bundle_id
            assert service.folder == copy
            assert mount.reading == 1, "one thread a folder, however often it is asked for"
            mount.released.set()
            for ended in await asyncio.gather(*stuck, return_exceptions=True):
                assert str(ended) == "released"

    asyncio.run(scenario())


def test_a_bundle_that_cannot_be_read_in_time_is_refused_and_so_is_one_too_many(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = DeadMount()
    monkeypatch.setattr(bundle_loading, "load", mount)

    async def scenario() -> None:
        loader = BundleLoader(timeout_s=0.01)
        for number in range(MOST_AT_ONCE):
            with pytest.raises(BundleError, match=r"could not be read within 0\.01 s"):
                await loader.load(tmp_path / f"dead{number}")
        with pytest.raises(BundleError, match=f"{MOST_AT_ONCE} other bundles are still being read"):
            await loader.load(bundle_dir)
        mount.released.set()
        while loader._reading:
            await asyncio.sleep(0.001)
        patient = BundleLoader(timeout_s=60)
        assert (await patient.load(bundle_dir)).folder == bundle_dir

    asyncio.run(scenario())
