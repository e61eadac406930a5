"""Logits of a few tokens, and gradients of a few rows of the embeddings, where a model's head is a linear map.

A write needs the logits of the target's own tokens and feeds a few tokens of the vocabulary. Whole logits, and
gradients as whole as the embeddings, would cost more than the rest of the model where it is small.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from predgen.parallel.processes import num_processes

# Largest relative difference of logits to a linear map of the states: what rounding makes, and no scale or transform.
HEAD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
# The types of weights whose gradients a CPU can add up from sparse rows and whole matrices.
ROW_TYPES = (torch.float32, torch.bfloat16)


def has_plain_head(model: Any) -> bool:
    """Returns whether the output is a plain linear layer; with added tokens that PEFT trains, it is not."""
    return type(model.get_output_embeddings()) is nn.Linear


def may_be_linear(model: Any, hidden_size: int) -> bool:
    """Returns whether logits can be a linear map of the last states that is computed for some tokens alone.

    They cannot with a head of another kind, with a cap that small logits do not show, or where the head is on another
    device than the states.

    Args:
        model: the Hugging Face model.
        hidden_size: the size of its last states.
    """
    head = model.get_output_embeddings()
    if not has_plain_head(model) or head.in_features != hidden_size or hasattr(head, "_hf_hook"):
        return False
    config = model.config.get_text_config().to_dict()
    capped = any("softcap" in name and value for name, value in config.items())
    return not capped and head.weight.device == next(model.parameters()).device


def logits_of_tokens(
    model: Any,
    states: Float[Tensor, "batch column hidden"],
    vocabulary: Int[Tensor, " kept"] | None,
    *,
    has_whole: bool,
) -> Float[Tensor, "batch column kept"]:
    """Returns the logits of some tokens from the last states.

    Args:
        model: the Hugging Face model.
        states: its last states.
        vocabulary: the tokens; None for all.
        has_whole: whether the same graph has a gradient of the whole embeddings, to which rows can be added.
    """
    head = model.get_output_embeddings()
    if vocabulary is None:
        # Of columns that lie apart torch makes a product for each row, and a copy of the weights for each of these. Of
        # a few tokens that is little, and the last bits of an artifact's answers stay what they have been.
        return head(states.contiguous())
    bias = None if head.bias is None else head.bias[vocabulary]
    tied = head.weight is model.get_input_embeddings().weight
    rows = nn.functional.embedding(vocabulary, head.weight, sparse=tied and has_whole and adds_rows(model))
    return nn.functional.linear(states, rows, bias)


def adds_rows(model: Any) -> bool:
    """Returns whether gradients of a few embeddings are kept as rows, and added to the whole one of the prompts.

    Otherwise each write would fill a matrix of the size of the vocabulary. Only done in a single process on a CPU, the
    only machine that it was tried on; a CPU adds no such rows of float16.
    """
    embeddings = model.get_input_embeddings()
    weight = embeddings.weight
    single_cpu = num_processes() == 1 and weight.device.type == "cpu" and weight.dtype in ROW_TYPES
    return type(embeddings) is nn.Embedding and weight.requires_grad and single_cpu


@contextmanager
def row_gradients(model: Any, *, has_whole: bool) -> Iterator[None]:
    """Lets the embeddings of the tokens that are fed have gradients of their own rows alone.

    Args:
        model: the Hugging Face model.
        has_whole: as in `logits_of_tokens`; if not, gradients stay whole.
    """
    embeddings = model.get_input_embeddings()
    if not (has_whole and torch.is_grad_enabled() and adds_rows(model)):
        yield
        return
    before, embeddings.sparse = embeddings.sparse, True
    try:
        yield
    finally:
        embeddings.sparse = before
