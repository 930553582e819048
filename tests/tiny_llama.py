"""A small real decoder for tests: a two-layer Llama with random weights and a real tokenizer, as a GGUF file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD = 2, 64, 4, 2, 96


def byte_pairs(texts: Sequence[str], vocab_size: int = 500) -> dict[str, Any]:
    """Train byte pairs as SmolLM2 has them; return tokens and merges in the form of a GGUF file's metadata."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(CONTROL), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {"tokens": tokens, "merges": [" ".join(pair) for pair in model["merges"]]}


def tiny_llama(
    path: Path, texts: Sequence[str], *, architecture: str = "llama", pre: str = "smollm", seed: int = 0
) -> Path:
    """Write the model; its weights are large enough that heads and positions matter."""
    import gguf

    pairs, rng = byte_pairs(texts), np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(pairs["tokens"]))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pairs["tokens"])
    writer.add_token_types([3 if token in CONTROL else 1 for token in pairs["tokens"]])
    writer.add_token_merges(pairs["merges"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    for name, shape in _shapes(len(pairs["tokens"])).items():
        weights = np.ones(shape) if len(shape) == 1 else rng.normal(0, 0.15, shape)
        writer.add_tensor(name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(n_tokens: int) -> dict[str, tuple[int, ...]]:
    head = HIDDEN // HEADS
    layer = {
        "attn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (KV_HEADS * head, HIDDEN),
        "attn_v": (KV_HEADS * head, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_norm": (HIDDEN,),
        "ffn_gate": (FEED_FORWARD, HIDDEN),
        "ffn_up": (FEED_FORWARD, HIDDEN),
        "ffn_down": (HIDDEN, FEED_FORWARD),
    }
    blocks = {f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"token_embd.weight": (n_tokens, HIDDEN), **blocks, "output_norm.weight": (HIDDEN,)}
