"""A GGUF model as a torch model, and back.

llama.cpp stores the query and key weights with the two halves of each head interleaved, for another form of rotary
positions than transformers'. A file in which that is not undone loads and talks, and most of its answers are still right;
`hybrid.student.parity` is the gate that tells.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
import transformers

from hybrid.errors import LLMError
from hybrid.llm.local.gguf_file import to_q8_0, writer_with_metadata
from hybrid.llm.student.tokens import StudentTokenizer, read_metadata

Encoding = Literal["q8_0", "f16"]
ARCHITECTURES = ("llama",)
"""What can be read and trained: Llama, and what shares its form, such as SmolLM2."""
_FILE_TYPES: dict[Encoding, int] = {"q8_0": 7, "f16": 1}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """A GGUF model in memory: trainable weights in fp32, its tokenizer, and the file that it came from."""

    model: Any
    tokenizer: StudentTokenizer
    path: Path


def read_model(path: Path) -> BaseModel:
    """Read a GGUF file into a fresh transformers model in fp32.

    Raises:
        LLMError: it is no GGUF file, or of an architecture, an encoding or a tokenizer that cannot be read.
    """
    import gguf

    if not path.is_file():
        raise LLMError(f"{path}: no such file; expected a GGUF model: correct student.base in the recipe")
    metadata = read_metadata(path)
    config = _config(metadata, path)
    tokenizer = StudentTokenizer(metadata, str(path))
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    state = {}
    for tensor in gguf.GGUFReader(path).tensors:
        name = _torch_name(tensor.name, path)
        try:
            weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise LLMError(
                f"{path}: {tensor.name} is encoded as {tensor.tensor_type.name}, which cannot be read; expected F32, F16, BF16, "
                "Q8_0, Q4_1 or a K-quant: choose another file of this model"
            ) from error
        heads = _heads(tensor.name, config)
        # A copy: the reader's arrays lie in the mapped file.
        state[name] = torch.from_numpy(np.array(_unpermuted(weights, heads) if heads else weights, dtype=np.float32))
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    _check_shapes(model, state, path)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    # Rotary frequencies are no weights of the file: on the meta device they were not computed.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return BaseModel(model=model.requires_grad_(True), tokenizer=tokenizer, path=path)


def write_model(base: BaseModel, target: Path, encoding: Encoding, added: Mapping[str, Any]) -> None:
    """Write the model's weights into a copy of its file with the same metadata, tokenizer and order of tensors.

    `added` are further metadata: texts, whole numbers and lists of texts. Norms stay in fp32, and so does a tensor whose
    rows do not come apart into the blocks of the encoding.
    """
    import gguf

    reader = gguf.GGUFReader(base.path)
    overrides = {gguf.Keys.General.FILE_TYPE: _FILE_TYPES[encoding], **added}
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = writer_with_metadata(gguf, reader, part, overrides)
    state = base.model.state_dict()
    written = {"lm_head.weight"} if base.model.config.tie_word_embeddings else set()
    for tensor in reader.tensors:
        name = _torch_name(tensor.name, base.path)
        written.add(name)
        weights = state[name].detach().float().cpu().numpy()
        heads = _heads(tensor.name, base.model.config)
        _add(writer, tensor.name, permuted(weights, heads) if heads else weights, encoding)
    assert written == set(state), f"not written: {set(state) - written}"
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Interleave the halves of each head, as llama.cpp stores query and key weights [heads * d, n]."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def _unpermuted(weights: np.ndarray, heads: int) -> np.ndarray:
    return weights.reshape(heads, weights.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def _add(writer: Any, name: str, weights: np.ndarray, encoding: Encoding) -> None:
    import gguf

    if weights.ndim == 1:
        writer.add_tensor(name, weights.astype(np.float32))
    elif encoding == "f16":
        writer.add_tensor(name, weights.astype(np.float16))
    elif weights.shape[-1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0][0]:
        writer.add_tensor(name, weights.astype(np.float32))
    else:
        writer.add_tensor(name, to_q8_0(weights), raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def _config(metadata: Mapping[str, Any], path: Path) -> Any:
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise LLMError(
            f"{path}: architecture {architecture!r} cannot be trained here; expected {' or '.join(ARCHITECTURES)}, such as "
            "SmolLM2 (student.base = 'local'): choose another base model"
        )
    scaling = [key for key in metadata if key.startswith("llama.rope.scaling.")]
    if scaling:
        raise LLMError(
            f"{path}: {scaling[0]} is set, and scaled rotary positions cannot be read; choose another base model"
        )
    value = {name.removeprefix("llama."): content for name, content in metadata.items()}
    hidden, heads = value["embedding_length"], value["attention.head_count"]
    return transformers.LlamaConfig(
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        hidden_size=hidden,
        intermediate_size=value["feed_forward_length"],
        num_hidden_layers=value["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=value.get("attention.head_count_kv", heads),
        head_dim=value.get("rope.dimension_count", hidden // heads),
        rms_norm_eps=value["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": value.get("rope.freq_base", 10000.0)},
        max_position_embeddings=value["context_length"],
        tie_word_embeddings=not _has_output(path),
        attention_bias=False,
        mlp_bias=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )


def _has_output(path: Path) -> bool:
    """Whether the file has an output layer of its own; else the embeddings serve as one."""
    import gguf

    return any(tensor.name == "output.weight" for tensor in gguf.GGUFReader(path).tensors)


def _torch_name(name: str, path: Path) -> str:
    if name in _TOP:
        return _TOP[name]
    block, _, rest = name.removeprefix("blk.").partition(".")
    part = rest.removesuffix(".weight")
    if not block.isdigit() or part not in _LAYER or not rest.endswith(".weight"):
        raise LLMError(f"{path}: the tensor {name} is none of a plain Llama; choose another base model")
    return f"model.layers.{block}.{_LAYER[part]}.weight"


def _heads(name: str, config: Any) -> int:
    """The number of heads of a query or key weight; 0 for any other."""
    if name.endswith(".attn_q.weight"):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if name.endswith(".attn_k.weight") else 0


def _check_shapes(model: Any, state: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = {name: tuple(weights.shape) for name, weights in model.state_dict().items()}
    shapes = {name: tuple(weights.shape) for name, weights in state.items()}
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        raise LLMError(
            f"{path}: {name} has the shape {shapes.get(name)}; its metadata says {expected.get(name)}: the file is damaged, or "
            "no plain Llama; choose another"
        )
