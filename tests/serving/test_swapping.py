"""A new bundle takes over under load without a failed request, and one that is not sound does not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import hybrid
from hybrid.errors import BundleError
from hybrid.files.hashing import sha256_of_file
from serving.service import ClassifierService
from serving.types import Answer
from tests.corpus import texts_and_gold
from tests.serving.bundles import changed, copied, negated, sealed
from tests.serving.live_service import Heard, ask, live
from tests.waiting import until

TEXTS = texts_and_gold(8, seed=11)[0]
SWAPS = 12
pytestmark = [pytest.mark.slow, pytest.mark.alone]

Probs = dict[str, list[dict[str, float]]]


def wanted_of(folders: dict[str, Path]) -> Probs:
    """The probabilities of TEXTS, by the id of the bundle that gives them."""
    return {name: [p.probs for p in hybrid.load(folder).classify(TEXTS)] for name, folder in folders.items()}


def check_whole(results: list[object], wanted: Probs) -> str:
    """One bundle gave all answers of a request, and they are its answers; returns its id."""
    assert all(isinstance(item, Answer) for item in results)
    [bundle_id] = {result.bundle_id for result in results if isinstance(result, Answer)}
    for answer, probs in zip(results, wanted[bundle_id], strict=True):
        assert isinstance(answer, Answer)
        assert answer.probs == pytest.approx(probs, abs=1e-5)
    return bundle_id


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def clients_until(done: asyncio.Event, service: ClassifierService, wanted: Probs) -> list[str]:
    """Ask without a pause; return the id of the bundle that answered each request."""
    seen = []
    while not done.is_set():
        seen.append(check_whole(list(await ask(service, TEXTS)), wanted))
    return seen


def test_swaps_under_load_fail_no_request_and_mix_no_answers(bundle_dir: Path, tmp_path: Path) -> None:
    other = negated(bundle_dir, tmp_path / "other")

    async def scenario() -> None:
        async with live(bundle_dir) as service:
            first, old_engine = service.bundle_id, service.engine_pid
            second = await service.swap(str(other))
            wanted = wanted_of({first: bundle_dir, second: other})
            assert wanted[first] != wanted[second]
            await until(lambda: not Path(f"/proc/{old_engine}").exists())
            held = descriptors()
            done = asyncio.Event()
            clients = [asyncio.ensure_future(clients_until(done, service, wanted)) for _ in range(4)]
            engines = set()
            for n in range(SWAPS):
                assert await service.swap(str((bundle_dir, other)[n % 2])) == (first, second)[n % 2]
                engines.add(service.engine_pid)
            done.set()
            seen = [name for names in await asyncio.gather(*clients) for name in names]
            assert {first, second} == set(seen)
            assert len(engines) == SWAPS
            await until(lambda: sum(Path(f"/proc/{pid}").exists() for pid in engines) == 1)  # the old ones ended
            await until(lambda: descriptors() <= held)

    asyncio.run(scenario())


def truncated(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])


def rehashed(folder: Path) -> None:
    truncated(folder)
    names = json.loads((folder / "bundle.json").read_text())["files"]
    changed(folder, files={name: sha256_of_file(folder / name) for name in names})


def other_hash(folder: Path) -> None:
    changed(folder, files=json.loads((folder / "bundle.json").read_text())["files"] | {"model.onnx": "0" * 64})


def wrong_labels(folder: Path) -> None:
    changed(folder, labels=["bad", "good"])


def failing_golden(folder: Path) -> None:
    golden = json.loads((folder / "bundle.json").read_text())["golden"]
    changed(folder, golden=[golden_text | {"probs": golden_text["probs"][::-1]} for golden_text in golden])


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncated, r"model\.onnx: changed since"),
        (rehashed, r"model\.onnx: cannot be loaded"),
        (other_hash, r"model\.onnx: changed since"),
        (wrong_labels, "3 logits for 2 labels"),
        (failing_golden, "the golden text .* has a probability that is"),
        (no_tokenizer, r"tokenizer\.json: missing from the bundle"),
    ],
)
def test_a_bundle_that_is_not_sound_is_refused_and_the_old_one_serves(
    bundle_dir: Path, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    folder, heard = copied(bundle_dir, tmp_path / "harmed"), Heard()
    harm(folder)

    async def scenario() -> None:
        async with live(bundle_dir, heard=heard) as service:
            wanted, before = wanted_of({service.bundle_id: bundle_dir}), service.bundle_id
            done = asyncio.Event()
            client = asyncio.ensure_future(clients_until(done, service, wanted))
            with pytest.raises(BundleError, match=message):
                await service.swap(str(folder))
            assert service.ready
            assert service.bundle_id == before
            done.set()
            assert set(await client) == {before}
            check_whole(list(await ask(service, TEXTS)), wanted)

    asyncio.run(scenario())
    assert len(heard.refused_bundles) == 1


def test_a_copy_that_nobody_harmed_is_taken(bundle_dir: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with live(bundle_dir) as service:
            assert await service.swap(str(sealed(copied(bundle_dir, tmp_path / "copy")))) == service.bundle_id

    asyncio.run(scenario())


def test_swaps_at_once_each_take_over_and_one_of_them_serves(bundle_dir: Path, tmp_path: Path) -> None:
    other = negated(bundle_dir, tmp_path / "other")

    async def scenario() -> None:
        async with live(bundle_dir) as service:
            first = service.bundle_id
            names = await asyncio.gather(*(service.swap(str(folder)) for folder in (other, bundle_dir, other)))
            assert names[0] == names[2] != names[1] == first
            await until(lambda: service.ready)
            check_whole(list(await ask(service, TEXTS)), wanted_of({first: bundle_dir, names[0]: other}))

    asyncio.run(scenario())
