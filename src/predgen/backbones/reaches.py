"""How far back the layers of a model see: all of the text, a window of it, or their own chunk.

A model counts its windows by index. Where an index is no position, as in a tree or after padding in the middle of a
row, the masks must be told by position, one for each kind of layer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
# Settings of windows that belong to no kind of layer: such a model counts them inside of its layers (GPT-Neo).
_OWN_WINDOWS = ("window_size", "attention_window_size", "local_attention")


@dataclass(frozen=True)
class Reaches:
    """How far back each kind of layer of a model sees.

    Attributes:
        sizes: of the window or chunk of each kind of layer; None where all is seen.
    """

    sizes: dict[str, int | None]

    @classmethod
    def of(cls, config: Any) -> "Reaches | None":
        """Returns how far the layers of a decoder see; None where that is not known, or no mask can say it."""
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
        if not any(sizes.values()) and any(getattr(config, name, None) for name in _OWN_WINDOWS):
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
        """Returns what is added to the attention's scores: one mask, or one for each kind of layer if they differ.

        Args:
            sees: which tokens each token sees where all of the text is seen, itself included.
            positions: of the tokens that see.
            key_positions: of the tokens that are seen.
            dtype: of the scores.
        """
        found = {}
        for kind, size in self.sizes.items():
            seen = sees
            if size is not None and kind == SLIDING:
                seen = sees & (positions.unsqueeze(2) - key_positions.unsqueeze(1) < size)
            elif size is not None:
                seen = sees & (positions.unsqueeze(2) // size == key_positions.unsqueeze(1) // size)
            found[kind] = additive(seen, dtype)
        return found if len(found) > 1 else next(iter(found.values()))


def additive(sees: Bool[Tensor, "batch query key"], dtype: torch.dtype) -> Float[Tensor, "batch 1 query key"]:
    """Returns what is added to the attention's scores: 0 where a token is seen, else the smallest number.

    Masks of booleans are silently wrong under the eager attention of several families.
    """
    zeros = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return zeros.masked_fill(~sees, torch.finfo(dtype).min).unsqueeze(1)


def has_gaps(before: Bool[Tensor, "batch length"], mask: Bool[Tensor, "batch new"]) -> bool:
    """Returns whether new tokens follow a row that has padding after its first token."""
    full = before.long().argmax(dim=1) + before.sum(dim=1) == before.shape[1]
    return bool((~full & mask.any(dim=1)).any())


def up_to_itself(mask: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length length"]:
    """Returns which tokens each token sees: those up to itself; padding sees itself too, or its state is no number."""
    length = mask.shape[1]
    every = torch.ones(length, length, dtype=torch.bool, device=mask.device)
    return (every.tril() & mask.unsqueeze(1)) | torch.eye(length, dtype=torch.bool, device=mask.device)
