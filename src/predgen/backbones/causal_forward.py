"""One forward of a causal language model: its inputs, and the logits that it computes."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from predgen.backbones.base import logits_over
from predgen.backbones.linear_head import has_plain_head, logits_of_tokens

# Asks a model for no column's logits.
NO_COLUMNS = torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a forward.

    Attributes:
        tokens: the new tokens.
        mask: 1 for tokens and 0 for padding, shape (batch, length); or what is added to the attention scores, shape
            (batch, 1, new, length), of all layers or of each kind; None if each token sees all tokens before it.
        positions: of the new tokens; None if they are their indexes.
        cache: the keys and values of the tokens before; None if there are none.
    """

    tokens: Int[Tensor, "batch new"]
    mask: Tensor | dict[str, Tensor] | None
    positions: Int[Tensor, "batch new"] | None
    cache: DynamicCache | None


@dataclass(frozen=True)
class Wanted:
    """Which logits a forward of the model computes.

    Attributes:
        columns: how many of the last columns have logits, or the indexes of the columns that have.
        vocabulary: the tokens whose logits are computed; None for all.
        has_whole_gradient: whether the same graph has a gradient of the whole embeddings, from the prompt.
    """

    columns: int | Int[Tensor, " columns"]
    vocabulary: Int[Tensor, " kept"] | None = None
    has_whole_gradient: bool = True


@dataclass(frozen=True)
class CausalForward:
    """Runs a model with the arguments that its family takes.

    Attributes:
        takes_positions: whether it can be told the positions of tokens.
        takes_cache: whether it takes keys and values.
        keeps_logits: whether it can compute the logits of some columns alone.
    """

    takes_positions: bool
    takes_cache: bool
    keeps_logits: bool

    @classmethod
    def of(cls, model: Any) -> "CausalForward":
        """Returns how to run a model, by the signature of its forward."""
        parameters = inspect.signature(model.forward).parameters
        return cls(*(name in parameters for name in ("position_ids", "past_key_values", "logits_to_keep")))

    def __call__(
        self, model: Any, inputs: Inputs, wanted: Wanted, *, linear_head: bool
    ) -> tuple[Float[Tensor, "batch new hidden"], Float[Tensor, "batch column kept"]]:
        """Returns the last states of the new tokens, and the logits that are wanted.

        Args:
            model: the model, or its PEFT wrapper.
            inputs: what it is given.
            wanted: which logits.
            linear_head: whether the head can be run by itself, for a few tokens too.
        """
        columns, vocabulary = wanted.columns, wanted.vocabulary
        apart = linear_head and has_plain_head(model)
        extra: dict[str, Any] = {}
        if self.takes_positions and inputs.positions is not None:
            extra["position_ids"] = inputs.positions
        if self.keeps_logits:
            extra["logits_to_keep"] = NO_COLUMNS if apart else columns
        output = model(
            input_ids=inputs.tokens,
            attention_mask=inputs.mask,
            past_key_values=inputs.cache,
            use_cache=inputs.cache is not None,
            output_hidden_states=True,
            **extra,
        )
        states, logits = output.hidden_states[-1], output.logits
        if apart:
            wanted_states = states[:, -columns:] if isinstance(columns, int) else states[:, columns]
            has_whole = wanted.has_whole_gradient
            return states, logits_of_tokens(model, wanted_states, vocabulary, has_whole=has_whole)
        if isinstance(columns, int):
            logits = logits[:, -columns:]
        elif not self.keeps_logits:
            logits = logits[:, columns]
        return states, logits_over(logits, vocabulary)


def positions_of(mask: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """Returns each token's position among its row's tokens; padding gets 0 or its neighbor's."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def at_columns(
    values: Float[Tensor, "batch column size"], columns: Int[Tensor, "batch kept"]
) -> Float[Tensor, "batch kept size"]:
    """Returns each row's values at its own columns."""
    rows = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[rows, columns]
