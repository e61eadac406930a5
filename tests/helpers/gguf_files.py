"""Tiny GGUF files of several families, written with llama.cpp's names and orders, beside the model that they hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

HIDDEN, HEADS, LAYERS, FEED_FORWARD = 256, 4, 2, 256
HEAD = HIDDEN // HEADS
NORM_EPS = 1e-6
CONTROL = ("<|endoftext|>", "<|start|>", "<|end|>")
MERGES = ("Ġ Ġ", "Ċ Ċ", "a b", "Ġ a", "1 0", "o f")
TOKENS = [*CONTROL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES)]

Array = np.ndarray


def same(array: Array) -> Array:
    return array


def unpermuted(heads: int) -> Callable[[Array], Array]:
    """Undoes llama.cpp's order of a head's dimensions: pairs that turn together stand side by side there."""

    def undo(array: Array) -> Array:
        return array.reshape(heads, HEAD // 2, 2, -1).swapaxes(1, 2).reshape(array.shape)

    return undo


def minus_one(array: Array) -> Array:
    return array - 1


def transposed(array: Array) -> Array:
    return array.T.copy()


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        architecture: llama.cpp's name.
        config: of a tiny model, for transformers.
        metadata: keys of the architecture beside those that all have.
        undo: what turns the file's tensor into the model's, by the end of the model's name; as it is if not named.
        rope: whether its positions turn.
    """

    architecture: str
    config: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    undo: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    rope: bool = True


WIDE = {
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "num_hidden_layers": LAYERS,
    "rms_norm_eps": NORM_EPS,
}
GEMMA_NORMS = dict.fromkeys(("norm.weight", "layernorm.weight"), minus_one)
FAMILIES = {
    "llama": Family(
        "llama",
        {**WIDE, "tie_word_embeddings": False},
        {},
        {"q_proj.weight": unpermuted(HEADS), "k_proj.weight": unpermuted(2)},
    ),
    "qwen2": Family("qwen2", {**WIDE, "tie_word_embeddings": True}),
    "qwen3": Family("qwen3", {**WIDE, "head_dim": HEAD, "tie_word_embeddings": True}, {"attention.key_length": HEAD}),
    "gemma2": Family(
        "gemma2",
        {**WIDE, "head_dim": HEAD, "query_pre_attn_scalar": 256, "sliding_window": 4096},
        {
            "attention.key_length": HEAD,
            "attention.sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        GEMMA_NORMS,
    ),
    "gemma3_text": Family(
        "gemma3",
        {**WIDE, "head_dim": HEAD, "sliding_window": 32, "rope_local_base_freq": 10000.0},
        {"attention.key_length": HEAD, "attention.sliding_window": 32},
        GEMMA_NORMS,
    ),
    "phi3": Family("phi3", {**WIDE, "tie_word_embeddings": False}),
    "gpt2": Family(
        "gpt2",
        {
            "n_embd": HIDDEN,
            "n_head": HEADS,
            "n_layer": LAYERS,
            "n_inner": FEED_FORWARD,
            "n_positions": 512,
            "layer_norm_epsilon": NORM_EPS,
        },
        {"attention.layer_norm_epsilon": NORM_EPS},
        dict.fromkeys(("c_attn.weight", "c_proj.weight", "c_fc.weight"), transposed),
        rope=False,
    ),
    "starcoder2": Family(
        "starcoder2",
        {
            **{key: value for key, value in WIDE.items() if key != "rms_norm_eps"},
            "norm_epsilon": NORM_EPS,
            "tie_word_embeddings": True,
        },
        {"attention.layer_norm_epsilon": NORM_EPS},
    ),
}
# Where the scales of a K type's block stand, in bytes; each is a float16.
SCALES_OF_BLOCKS = {"Q4_K": (0, 2), "Q6_K": (208,)}
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q6_K")


def blocks_of(values: Array, type_name: str, generator: np.random.Generator) -> tuple[Array, Array]:
    """Returns a tensor's bytes in a type, and the numbers that they stand for.

    The gguf library reads K types and does not make them: those get blocks of random bytes with small scales.
    """
    kind = GGMLQuantizationType[type_name]
    if type_name == "F32" or values.ndim == 1:
        return values.astype(np.float32), values.astype(np.float32)
    if type_name not in SCALES_OF_BLOCKS:
        raw = gguf.quants.quantize(values.astype(np.float32), kind)
    else:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = generator.integers(0, 256, (values.shape[0], values.shape[1] // elements, size), dtype=np.uint8)
        for start in SCALES_OF_BLOCKS[type_name]:
            scale = np.full(blocks.shape[:2], 1e-4, dtype=np.float16)
            blocks[:, :, start : start + 2] = scale[..., None].view(np.uint8)
        raw = blocks.reshape(values.shape[0], -1)
    return raw, gguf.dequantize(raw, kind).astype(np.float32)


def write_gguf(
    path: Path, family_name: str, type_name: str = "F32", *, seed: int = 0, **metadata: Any
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Writes a tiny model as a GGUF file, and returns its config and its weights, as transformers names them.

    Args:
        path: of the file.
        family_name: one of `FAMILIES`.
        type_name: of its matrices.
        seed: of the weights.
        metadata: keys to add or to change; None leaves a key out.
    """
    family = FAMILIES[family_name]
    generator = np.random.default_rng(seed)
    config = AutoConfig.for_model(
        family_name,
        **{"vocab_size": len(TOKENS), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        **family.config,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = gguf.get_tensor_name_map(architecture_of(family.architecture), LAYERS)
    writer = GGUFWriter(path, family.architecture)
    weights = {}
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    for name, parameter in model.state_dict().items():
        if name in tied:
            continue
        undo = next((undo for end, undo in family.undo.items() if name.endswith(end)), same)
        shape = parameter.shape[::-1] if undo is transposed else parameter.shape
        spread = 0.5 if parameter.ndim == 1 else 0.05
        values = generator.normal(1.0 if name.endswith("norm.weight") else 0.0, spread, tuple(shape)).astype(np.float32)
        raw, numbers = blocks_of(values, type_name, generator)
        plain = raw.dtype == np.float32
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")),
            raw,
            raw_dtype=GGMLQuantizationType.F32 if plain else GGMLQuantizationType[type_name],
        )
        weights[name] = torch.from_numpy(np.ascontiguousarray(undo(numbers)))
    keys = {
        "context_length": 512,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        **({"attention.head_count_kv": 2, "rope.freq_base": 10000.0} if family.rope else {}),
        **({"attention.layer_norm_rms_epsilon": NORM_EPS} if "rms_norm_eps" in family.config else {}),
        **({"rope.dimension_count": HEAD} if family.rope else {}),
        **family.metadata,
    }
    said: dict[str, Any] = {f"{family.architecture}.{key}": value for key, value in keys.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3] * len(CONTROL) + [1] * (len(TOKENS) - len(CONTROL)),
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        **metadata,
    }
    add_all(writer, said)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config, weights


def architecture_of(name: str) -> Any:
    return next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == name)


def add_all(writer: GGUFWriter, said: Mapping[str, Any]) -> None:
    """Adds keys to a file, each in the type that its value has; arrays are tensors of positions."""
    for key, value in said.items():
        if isinstance(value, np.ndarray):
            writer.add_tensor(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)


def save_folder(folder: Path, config: Any, weights: Mapping[str, torch.Tensor], tokenizer: Any) -> None:
    """Saves weights as transformers does, with a tokenizer beside them."""
    model = AutoModelForCausalLM.from_config(config)
    report = model.load_state_dict(weights, strict=False)
    assert not report.unexpected_keys
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def llama3_factors(factor: float, low: float, high: float, length: int) -> Array:
    """The factors of Llama 3.1 as they are published: by wave length, smoothed between two bounds."""
    factors = []
    for index in range(HEAD // 2):
        wave = 2 * np.pi * 10000.0 ** (2 * index / HEAD)
        if wave < length / high:
            factors.append(1.0)
        elif wave > length / low:
            factors.append(factor)
        else:
            smooth = (length / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def llama32_file(path: Path) -> Path:
    """Writes a random Llama with the factors of positions that Llama 3.2 has, in float32."""
    write_gguf(path, "llama", "F32", **{"rope_freqs.weight": llama3_factors(32.0, 1.0, 4.0, 8192)})
    return path
