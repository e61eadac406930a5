"""Attention windows: how far back the layers of a model see. All of the text, a sliding window, or a chunk.

A model counts its windows by index. Where a token's index is not its position, as in a tree or after padding inside a
row, the masks must be made by position, one for each kind of layer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
# Settings of windows that belong to no kind of layer: such a model counts them inside of its layers (GPT-Neo).
_WINDOWS_INSIDE_LAYERS = ("window_size", "attention_window_size", "local_attention")


@dataclass(frozen=True)
class AttentionWindows:
    """How far back each kind of layer of a model sees.

    Attributes:
        sizes: of the window or chunk of each kind of layer; None where all is seen.
    """

    sizes: dict[str, int | None]

    @classmethod
    def of(cls, config: Any) -> "AttentionWindows | None":
        """Returns the windows of a decoder's layers; None where they are not known, or no mask can express them."""
        layers = DynamicCache(config=config).layers
        chunked = getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None) is None
        unnamed = CHUNKED if chunked else SLIDING
        sizes: dict[str, int | None] = {}
        for index, layer in enumerate(layers):
            size = layer.sliding_window if getattr(layer, "is_sliding", False) else None
            named = getattr(config, "layer_types", None)
            kind = named[index] if named is not None else FULL if size is None else unnamed
            if kind not in (FULL, SLIDING, CHUNKED) or (kind == FULL) != (size is None):
                return None
            if sizes.setdefault(kind, size) != size:
                return None
        if not any(sizes.values()) and any(getattr(config, name, None) for name in _WINDOWS_INSIDE_LAYERS):
            return None
        return cls(sizes)

    @property
    def all_full(self) -> bool:
        """Whether every layer sees all of the text."""
        return not any(self.sizes.values())

    @property
    def longest(self) -> int:
        """The largest window or chunk; 0 if there is none."""
        return max([size for size in self.sizes.values() if size], default=0)

    def masks(
        self,
        sees: Bool[Tensor, "batch query key"],
        positions: Int[Tensor, "batch query"],
        key_positions: Int[Tensor, "batch key"],
        dtype: torch.dtype,
    ) -> Tensor | dict[str, Tensor]:
        """Returns additive attention masks: a single one, or one for each kind of layer if the windows differ.

        Args:
            sees: which tokens each token sees where all of the text is seen, itself included.
            positions: of the tokens that see.
            key_positions: of the tokens that are seen.
            dtype: of the attention scores.
        """
        masks = {}
        for kind, size in self.sizes.items():
            in_window = sees
            if size is not None and kind == SLIDING:
                in_window = sees & (positions.unsqueeze(2) - key_positions.unsqueeze(1) < size)
            elif size is not None:
                in_window = sees & (positions.unsqueeze(2) // size == key_positions.unsqueeze(1) // size)
            masks[kind] = additive_mask(in_window, dtype)
        return masks if len(masks) > 1 else next(iter(masks.values()))


def additive_mask(sees: Bool[Tensor, "batch query key"], dtype: torch.dtype) -> Float[Tensor, "batch 1 query key"]:
    """Returns an additive attention mask: 0 where a token is seen, else the smallest number of the type.

    Boolean masks are silently wrong under the eager attention of several families.
    """
    zeros = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return zeros.masked_fill(~sees, torch.finfo(dtype).min).unsqueeze(1)


def has_padding_inside(before: Bool[Tensor, "batch length"], mask: Bool[Tensor, "batch new"]) -> bool:
    """Returns whether new tokens follow a row that has padding after its first token."""
    ends_with_tokens = before.long().argmax(dim=1) + before.sum(dim=1) == before.shape[1]
    return bool((~ends_with_tokens & mask.any(dim=1)).any())


def causal_mask(mask: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length length"]:
    """Returns which tokens each token sees: those up to itself. Padding sees itself, or its state would be NaN."""
    length = mask.shape[1]
    every = torch.ones(length, length, dtype=torch.bool, device=mask.device)
    return (every.tril() & mask.unsqueeze(1)) | torch.eye(length, dtype=torch.bool, device=mask.device)
