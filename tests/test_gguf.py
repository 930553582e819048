"""GGUF files: where a model lies, weights in a faster encoding, and grammars instead of white space."""

import struct
from pathlib import Path

import numpy as np
import pytest

from hybrid.errors import ConfigError, LLMError
from hybrid.llm.local.gguf_file import fast_copy, gguf_from_hub
from hybrid.llm.local.gguf_weights import from_q4_1, to_q8_0, with_fast_weights
from hybrid.llm.local.grammar import grammar
from hybrid.llm.tasks.label import label_schema, object_schema

Q4_1, F32, Q8_0 = 3, 0, 8


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def gguf(blocks: np.ndarray, kind: int = Q4_1) -> bytes:
    """Return a file with metadata of several kinds, a tensor of float32 and one of the given blocks, bytes [n, b]."""
    words = struct.pack("<IQ", 8, 2) + string(b"one") + string(b"two")
    metadata = [
        string(b"general.name") + struct.pack("<I", 8) + string(b"tiny"),
        string(b"some.words") + struct.pack("<I", 9) + words,
        string(b"some.numbers") + struct.pack("<IIQ3I", 9, 4, 3, 1, 2, 3),
        string(b"a.flag") + struct.pack("<IB", 7, 1),
    ]
    plain = np.arange(8, dtype=np.float32).tobytes()
    tensors = [
        string(b"plain") + struct.pack("<IQIQ", 1, 8, F32, 0),
        string(b"blocks") + struct.pack("<IQQIQ", 2, 32, len(blocks), kind, 32),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + plain + blocks.tobytes()


@pytest.fixture
def blocks() -> np.ndarray:
    rng = np.random.default_rng(0)
    scales = rng.uniform(-0.2, 0.2, size=(6, 2)).astype(np.float16).view(np.uint8)
    return np.concatenate([scales, rng.integers(0, 256, size=(6, 16), dtype=np.uint8)], axis=1)


def from_q8_0(raw: np.ndarray) -> np.ndarray:
    scale = raw[:, :2].copy().view(np.float16).astype(np.float32)
    return np.asarray(scale * raw[:, 2:].view(np.int8))


def test_no_weight_moves_by_more_than_half_a_step(blocks: np.ndarray) -> None:
    weights = from_q4_1(blocks)
    largest = np.abs(weights).max(axis=1, keepdims=True)
    # The scale is stored in half precision, which adds a little.
    assert (np.abs(from_q8_0(to_q8_0(weights)) - weights) <= largest / 254 * 1.1 + 1e-6).all()


def test_a_block_of_q4_1_is_its_minimum_plus_steps_of_its_scale() -> None:
    raw = np.zeros((1, 20), dtype=np.uint8)
    raw[0, :4] = np.array([0.5, -1.0], dtype=np.float16).view(np.uint8)
    raw[0, 4] = 0x3F
    weights = from_q4_1(raw)[0]
    assert (weights[0], weights[16], weights[1]) == (0.5 * 15 - 1, 0.5 * 3 - 1, -1)


def test_only_q4_1_tensors_change_and_all_else_stays(tmp_path: Path, blocks: np.ndarray) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(blocks))
    fast = with_fast_weights(path)
    assert fast == gguf(to_q8_0(from_q4_1(blocks)), Q8_0) + bytes(-6 * 34 % 32)


def test_a_file_without_q4_1_and_a_file_that_is_no_gguf_stay_as_they_are(tmp_path: Path, blocks: np.ndarray) -> None:
    path = tmp_path / "models" / "m.gguf"
    path.parent.mkdir()
    for content in (gguf(to_q8_0(from_q4_1(blocks)), Q8_0), b"not a model", b""):
        path.write_bytes(content)
        assert fast_copy(path) == path


def test_the_fast_copy_is_made_once_and_leaves_the_original(tmp_path: Path, blocks: np.ndarray) -> None:
    path = tmp_path / "models" / "m.gguf"
    path.parent.mkdir()
    path.write_bytes(gguf(blocks))
    copy = fast_copy(path)
    assert copy == tmp_path / "models-q8_0" / "m.Q8_0.gguf"
    assert with_fast_weights(copy) is None
    made = copy.stat().st_mtime_ns
    assert fast_copy(path) == copy
    assert copy.stat().st_mtime_ns == made
    assert path.read_bytes() == gguf(blocks)
    assert not list(tmp_path.rglob("*.part"))


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
    with pytest.raises(ConfigError, match=r"teacher\.model = 'hf:owner/m\.gguf': want hf:owner/repo/file\.gguf"):
        gguf_from_hub("hf:owner/m.gguf", "teacher")


def test_a_hub_that_does_not_answer_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(LLMError, match="the Hugging Face hub did not give it"):
        gguf_from_hub("hf:owner/repo/m.gguf", "teacher")
