"""What a Hugging Face config says of a model: its sides, its limits, the classes that load it."""

from typing import Any, Literal

from transformers import DynamicCache

# A limit of tokens from which on a model is said to have none.
UNLIMITED_POSITIONS = 1_000_000
# Rotary positions that change with the longest row of a batch, beyond the length that the model was first trained for.
LENGTH_DEPENDENT = ("dynamic", "longrope")


def config_of(config: Any, side: Literal["encoder", "decoder"]) -> Any:
    """Returns the config of one side of a model; most families have a single config for both."""
    side_config = getattr(config, side, None)
    return config.get_text_config(**{side: True}) if side_config is None else side_config


def max_positions_of(config: Any, tokenizer: Any) -> int:
    """Returns the most tokens that a model may see at once, by its config and its tokenizer."""
    names = (
        "max_position_embeddings",
        "n_positions",
        "max_encoder_position_embeddings",
        "max_decoder_position_embeddings",
    )
    limits = [getattr(config, name, None) for name in names]
    limits.append(getattr(tokenizer, "model_max_length", None))
    rotary = getattr(config, "rope_parameters", None) or {}
    for values in (rotary, *rotary.values()):  # the same for all layers, or values for each kind of layer
        if isinstance(values, dict) and values.get("rope_type") in LENGTH_DEPENDENT:
            limits.append(values.get("original_max_position_embeddings"))
    return min([int(limit) for limit in limits if limit and 0 < limit < UNLIMITED_POSITIONS] or [UNLIMITED_POSITIONS])


def has_code_for(config: Any, loader: Any) -> bool:
    """Returns whether a model brings its own class for one of transformers' loaders."""
    return loader.__name__ in (getattr(config, "auto_map", None) or {})


def needs_indexes(config: Any) -> bool:
    """Returns whether a model is right only on the uncached path, where each token's index is its position."""
    recurrent = any(DynamicCache(config=config).is_linear)  # it reads its padding, and keeps another kind of memory
    return recurrent or bool(getattr(config, "attn_temperature_tuning", False))  # Llama 4 scales by index
