"""Attention of 16-bit states on a CPU as two products where gradients are wanted, of which torch's own kernel is slow.

Of a batch of 16 rows of 32 tokens (9 heads of size 64, bfloat16, one core with matrix units), forward and backward take
13.7 ms in torch 2.13's fused kernel and 1.9 ms as products; of 8 rows of 512 tokens 137 and 326 ms. Without gradients
the fused kernel is the faster one everywhere.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "predgen_half"
# More scores than these in a row and head, and the fused kernel, which keeps none of them, is the faster one.
MOST_SCORES = 192 * 192
KNOWN = {"sliding_window", "position_ids", "cache_position", "use_cache", "output_hidden_states", "logits_to_keep"}


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "batch head new size"],
    key: Float[Tensor, "batch group seen size"],
    value: Float[Tensor, "batch group seen size"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "batch new head size"], None]:
    """Attends as transformers' `sdpa` does, which runs wherever products are not known to be faster.

    Args:
        module: the attention layer.
        query: the queries, `head` a multiple of `group`.
        key: the keys.
        value: the values.
        attention_mask: what each query sees (boolean), or what is added to its scores; None for all keys before it.
        dropout: the probability to drop a weight.
        scaling: of the scores; 1 / √size if not given.
        kwargs: what else transformers hands to every attention.
    """
    if not _suits(module, query, key, dropout, kwargs):
        states, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return states, None
    batch, heads, new, size = query.shape
    groups, seen = key.shape[1:3]
    # The heads of a group share their keys: their queries stand below each other in one product.
    queries = (query * (scaling or size**-0.5)).reshape(batch, groups, -1, size)
    scores = (queries @ key.transpose(-1, -2)).view(batch, heads, new, seen)
    if attention_mask is None and new > 1:
        attention_mask = torch.ones(new, seen, dtype=torch.bool).tril(seen - new)
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    states = (weights.view(batch, groups, -1, seen) @ value).view(batch, heads, new, size)
    return states.transpose(1, 2).contiguous(), None


def _suits(module: torch.nn.Module, query: Tensor, key: Tensor, dropout: float, kwargs: dict[str, Any]) -> bool:
    """Returns whether a call is one that products are faster for, and that they answer alike."""
    return (
        torch.is_grad_enabled()
        and (query.requires_grad or key.requires_grad)
        and query.device.type in ("cpu", "meta")  # memory is counted on `meta`, as a CPU would take it
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[2] * key.shape[2] <= MOST_SCORES
        and dropout == 0.0
        and getattr(module, "is_causal", True)
        and not any(value is not None and value is not False for name, value in kwargs.items() if name not in KNOWN)
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
