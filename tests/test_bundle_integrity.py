"""Whatever of a bundle was changed since it was made is found when it is loaded, not when it answers."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hybrid
from hybrid.__main__ import main
from hybrid.errors import BundleError
from hybrid.runtime.bundle import MANIFEST, MODEL, read_bundle, seal_of
from hybrid.runtime.bundle_writer import write_bundle
from hybrid.runtime.integrity import external_files
from hybrid.runtime.made_with import other_versions, versions
from serving.bundle_loading import load
from tests.serving.bundles import changed

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = "model.onnx.data"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose graph has its weights in a file of their own."""
    return Path(shutil.copytree(GOLDEN / "bundle-format-3", tmp_path / "bundle"))


def edited(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Edit the manifest by hand, as somebody does who does not know of the seal."""
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=4))
    return folder


def swap_two_labels(manifest: dict[str, Any]) -> None:
    manifest["labels"][:2] = manifest["labels"][1::-1]


def lower_the_threshold(manifest: dict[str, Any]) -> None:
    manifest["threshold"]["value"] = 0.0


def sharpen_the_calibration(manifest: dict[str, Any]) -> None:
    manifest["calibration"]["scale"][0] *= 1.01


def leave_out_the_golden_texts(manifest: dict[str, Any]) -> None:
    manifest["golden"] = []


def believe_the_decoder(manifest: dict[str, Any]) -> None:
    manifest["decoder"]["accuracy"] = 1.0


def change_the_policy(manifest: dict[str, Any]) -> None:
    manifest["policy"] = "Everything is good."


def add_a_field(manifest: dict[str, Any]) -> None:
    manifest["remark"] = "seen"


def remove_the_seal(manifest: dict[str, Any]) -> None:
    del manifest["seal"]


EDITS = [
    swap_two_labels,
    lower_the_threshold,
    sharpen_the_calibration,
    leave_out_the_golden_texts,
    believe_the_decoder,
    change_the_policy,
    add_a_field,
    remove_the_seal,
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("opened", [hybrid.load, load], ids=["library", "service"])
def test_a_manifest_that_was_edited_is_refused(
    edit: Callable[[dict[str, Any]], None], opened: Callable[[Path], object], bundle: Path
) -> None:
    opened(bundle)
    with pytest.raises(BundleError, match=r"bundle\.json: changed since the bundle was made .* or rerun the recipe"):
        opened(edited(bundle, edit))


def test_another_layout_of_the_same_manifest_is_no_change(bundle: Path) -> None:
    hybrid.load(edited(bundle, lambda manifest: None))


def test_a_bundle_of_the_format_before_has_no_seal_and_loads(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "bundle-format-2", tmp_path / "bundle"))
    assert hybrid.load(edited(folder, change_the_policy)).bundle.policy == "Everything is good."


def other_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def weights_without_a_hash(folder: Path) -> None:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    del files[WEIGHTS]
    changed(folder, files=files)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_weights, r"model\.onnx\.data: changed since the bundle was made"),
        (no_weights, r"model\.onnx\.data: missing from the bundle"),
        (weights_without_a_hash, r"has weights in 'model\.onnx\.data', and bundle\.json has no SHA-256 of that file"),
    ],
)
def test_weights_in_a_file_of_their_own_are_the_bundles(
    harm: Callable[[Path], None], message: str, bundle: Path
) -> None:
    harm(bundle)
    for opened in (hybrid.load, load):
        with pytest.raises(BundleError, match=message):
            opened(bundle)


def test_a_written_bundle_takes_the_weights_along_and_is_sealed(bundle: Path, tmp_path: Path) -> None:
    made = read_bundle(bundle)
    again = write_bundle(
        tmp_path / "again",
        exported=bundle,
        name=made.name,
        recipe_hash=made.recipe_hash,
        encoder=made.encoder,
        labels=made.labels,
        reading=made.reading,
        calibration=made.calibration,
        threshold=made.threshold,
        policy=made.policy,
        vocabulary=made.vocabulary,
        golden_texts=[example.text for example in made.golden],
    )
    assert again.files == made.files
    assert again.seal == seal_of((tmp_path / "again" / MANIFEST).read_bytes())
    assert hybrid.load(tmp_path / "again").bundle == again


@pytest.mark.parametrize("name", ["w", "weights.bin", "w" * 200, "gewichte-ä"])
def test_the_files_of_a_graph_are_found_as_onnx_writes_them(name: str, tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [tensor],
    )
    onnx.save_model(
        helper.make_model(graph),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location=name,
        size_threshold=0,
    )
    assert external_files(tmp_path / "model.onnx") == {name}


def test_a_graph_with_its_weights_inside_an_empty_file_and_one_cut_off_have_none(tmp_path: Path) -> None:
    assert external_files(GOLDEN / "bundle-format-2" / MODEL) == set()
    path = tmp_path / "model.onnx"
    for content, found in ((b"", set()), (b"\x0a\x08location\x12", {""}), (b"\x0a\x08location\x12\xff\xff", {""})):
        path.write_bytes(content)
        assert external_files(path) == found


def test_a_bundle_of_other_versions_loads_where_its_golden_texts_hold_and_says_what_differs(
    bundle: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(
        bundle, versions=versions() | {"onnxruntime": "1.0.0", "torch": "1.0", "tokenizers": versions()["tokenizers"]}
    )
    here = f"onnxruntime 1.0.0 (here {versions()['onnxruntime']})"
    with caplog.at_level(logging.INFO):
        hybrid.load(bundle)
    assert [record.getMessage() for record in caplog.records] == [f"{bundle}: made with {here}; its golden texts hold"]
    assert main(["info", str(bundle)]) == 0
    assert f"other here   {here}" in capsys.readouterr().out
    golden = json.loads((bundle / MANIFEST).read_text())["golden"]
    golden[0]["probs"][0] += 0.5
    with pytest.raises(BundleError, match=r"otherwise than where it was made, with onnxruntime 1\.0\.0 \(here "):
        hybrid.load(changed(bundle, golden=golden))


def test_equal_versions_are_not_worth_a_word(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert other_versions(versions()) == ""
    with caplog.at_level(logging.INFO):
        hybrid.load(changed(bundle, versions=versions()))
    assert caplog.records == []
