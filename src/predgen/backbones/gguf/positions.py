"""Rotary positions as a GGUF file has them: stretched, partial, or with a factor for each frequency.

transformers reads the base of the frequencies alone. Here the rest becomes `rope_parameters` of the config: the file's
`rope.scaling.*` keys, and the factors of `rope_freqs.weight`, by which Llama 3.1 and later divide each frequency.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from predgen.backbones.gguf.header import GgufFile
from predgen.errors import BackboneError

FACTORS = "rope_freqs.weight"
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
# Tensors that hold positions, and are no weights of a layer.
POSITION_TENSORS = (FACTORS, LONG_FACTORS, SHORT_FACTORS)
# The layers of a model with windows whose positions a file's scaling is of; the others keep theirs.
GLOBAL_LAYERS = "full_attention"
ORIGINAL = "original_max_position_embeddings"
# How far rebuilt factors may be from the file's, which are float32.
TOLERANCE = 1e-5


def set_positions(config: Any, file: GgufFile, tensors: Mapping[str, np.ndarray]) -> None:
    """Puts a file's positions into a model's config.

    Args:
        config: of the model, as transformers reads it from the file; changed.
        file: the file.
        tensors: those of `POSITION_TENSORS` that the file has, each of shape (pair of dimensions,).

    Raises:
        BackboneError: the file's positions have a form that is not known here, or that the model's class cannot have.
    """
    changes = {**_scaling(file, tensors), **_partial(config, file)}
    if FACTORS in tensors:
        changes |= _llama3(config, np.asarray(tensors[FACTORS], dtype=np.float64).ravel(), file)
    if not changes:
        return
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        raise BackboneError(
            f"Expected positions that a {config.model_type} has in '{file.path}', found stretched ones "
            f"({', '.join(f'{key} {value}' for key, value in changes.items())}). Use the model's folder instead."
        )
    layers = rope.get(GLOBAL_LAYERS, rope)
    layers.update(changes)
    if ORIGINAL in changes and hasattr(config, ORIGINAL):  # Phi 3 has it beside, and would put it back
        setattr(config, ORIGINAL, changes[ORIGINAL])
    if FACTORS in tensors:
        _check_factors(config, tensors[FACTORS], file)


def _scaling(file: GgufFile, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns what the file's `rope.scaling` keys mean in a config; nothing if positions are not stretched.

    Raises:
        BackboneError: the form is not known, or it lacks its factor.
    """
    kind = file.of_architecture("rope.scaling.type")
    factor = file.of_architecture("rope.scaling.factor") or file.of_architecture("rope.scale_linear")
    original = file.of_architecture("rope.scaling.original_context_length")
    if LONG_FACTORS in tensors:
        return _longrope(file, tensors, original)
    if kind in (None, "none") and not (kind is None and factor):
        return {}
    kind = kind or "linear"  # llama.cpp stretches evenly where a factor stands alone
    if kind not in ("linear", "yarn") or not factor:
        raise BackboneError(
            f"Expected positions stretched by linear or yarn with a factor in '{file.path}', found '{kind}' with "
            f"{factor or 'no factor'}. Use the model's folder instead of its GGUF file."
        )
    if kind == "linear":
        return {} if factor == 1 else {"rope_type": "linear", "factor": float(factor)}
    yarn: dict[str, Any] = {"rope_type": "yarn", "factor": float(factor)}
    if original:
        yarn[ORIGINAL] = int(original)
    for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        value = file.of_architecture(f"rope.scaling.{key}")
        if value is not None:
            yarn[name] = float(value)
    attention = file.of_architecture("rope.scaling.attn_factor")
    if attention:  # llama.cpp multiplies the usual factor by it, transformers takes the whole
        yarn["attention_factor"] = float(attention) * (0.1 * math.log(factor) + 1)
    multiplier = file.of_architecture("rope.scaling.yarn_log_multiplier")
    if multiplier:
        raise BackboneError(
            f"Expected yarn positions without a multiplier of their logarithm in '{file.path}', found {multiplier}. "
            "Use the model's folder instead of its GGUF file."
        )
    return yarn


def _longrope(file: GgufFile, tensors: Mapping[str, np.ndarray], original: int | None) -> dict[str, Any]:
    """Returns positions with one list of factors for short texts and one for long ones (arXiv 2402.13753)."""
    context = file.of_architecture("context_length")
    original = original or context
    changes = {
        "rope_type": "longrope",
        "long_factor": np.asarray(tensors[LONG_FACTORS], dtype=np.float64).ravel().tolist(),
        "short_factor": np.asarray(tensors[SHORT_FACTORS], dtype=np.float64).ravel().tolist(),
        ORIGINAL: int(original),
        "factor": context / original,
    }
    attention = file.of_architecture("rope.scaling.attn_factor")
    return changes if not attention else {**changes, "attention_factor": float(attention)}


def _partial(config: Any, file: GgufFile) -> dict[str, Any]:
    """Returns the share of a head's dimensions that turn with the position, where the config has another.

    Raises:
        BackboneError: the file says more dimensions than a head has.
    """
    dimensions = file.of_architecture("rope.dimension_count")
    if dimensions is None or not isinstance(getattr(config, "rope_parameters", None), dict):
        return {}
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters.get(GLOBAL_LAYERS, config.rope_parameters)
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    if int(head * share) == dimensions:
        return {}
    if dimensions > head:
        raise BackboneError(
            f"Expected at most {head} dimensions of each head that turn with the position in '{file.path}', found "
            f"{dimensions}. Convert the model again, or use its folder."
        )
    return {"partial_rotary_factor": dimensions / head}


def _llama3(config: Any, factors: np.ndarray, file: GgufFile) -> dict[str, Any]:
    """Returns the parameters of Llama 3.1's positions, from the factors that they give.

    A frequency's factor is 1 where its wave is short, `factor` where it is long, and between them
    1 / ((1 - s) / factor + s) with s = (length / wave - low) / (high - low), which is a line in 1 / wave. The line has
    two parameters and the formula three, so that `low` is 1, as it is in every published model.

    Raises:
        BackboneError: the factors have another form.
    """
    rope = config.rope_parameters.get(GLOBAL_LAYERS, config.rope_parameters)
    factor = float(factors.max())
    waves = 2 * math.pi * rope["rope_theta"] ** (np.arange(len(factors)) / len(factors))
    between = (factors > 1 + TOLERANCE) & (factors < factor * (1 - TOLERANCE))
    if factor <= 1 + TOLERANCE:
        return {}
    if between.sum() < 2:
        raise _unknown_factors(file)
    shares = (1 / factors[between] - 1 / factor) / (1 - 1 / factor)
    slope, start = np.polyfit(1 / waves[between], shares, 1)
    high = 1 - 1 / start
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": round(float(high), 4),
        ORIGINAL: round(float(slope * (high - 1))),
    }


def _check_factors(config: Any, factors: np.ndarray, file: GgufFile) -> None:
    """Refuses a config whose frequencies are not those of the file."""
    rope = config.rope_parameters
    layers = GLOBAL_LAYERS if GLOBAL_LAYERS in rope else None
    rope = rope.get(GLOBAL_LAYERS, rope)
    if rope.get("rope_type") != "llama3":
        return
    rebuilt, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"), layer_type=layers)
    plain = rope["rope_theta"] ** (-np.arange(len(factors)) / len(factors))
    if not np.allclose(plain / rebuilt.numpy(), factors, rtol=10 * TOLERANCE):
        raise _unknown_factors(file)


def _unknown_factors(file: GgufFile) -> BackboneError:
    return BackboneError(
        f"Expected factors of positions ({FACTORS}) as Llama 3.1 has them in '{file.path}', found others. Use the "
        "model's folder instead of its GGUF file."
    )
