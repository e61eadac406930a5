"""The Director, the paper's task adapter: from the states of the written tokens to the prediction."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Reading = Literal["mean", "last", "attention"]


def pool_mean(
    states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch hidden"]:
    """Returns the mean over the tokens that the mask keeps."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def pool_last(
    states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch hidden"]:
    """Returns the last token that the mask keeps, wherever the padding is."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, positions, torch.full_like(positions, -1)).max(dim=1).values.clamp(min=0)
    return states[torch.arange(len(states), device=states.device), last]


def pool_first(
    states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
) -> Float[Tensor, "batch hidden"]:
    """Returns the first token that the mask keeps, wherever the padding is."""
    first = mask.to(torch.int8).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), first]


POOL = {"last": pool_last, "mean": pool_mean, "first": pool_first}


class Mlp(nn.Module):
    """Normalizes a state and maps it to outputs through one hidden layer.

    The normalization makes one head learning rate fit backbones whose states differ in scale.
    """

    def __init__(self, hidden_size: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, state: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch output"]:
        """Returns the outputs: a standardized number, or the labels' logits."""
        outputs: Tensor = self.output(nn.functional.gelu(self.hidden(self.norm(state.float()))))
        return outputs


class Director(nn.Module):
    """Reads the states of the written tokens, without padding, and predicts.

    Args:
        hidden_size: size of the backbone's states.
        num_outputs: 1 for a number, the number of labels otherwise.
        reading: how the states become one: their mean, the last one, or a learned attention over them.
    """

    def __init__(self, hidden_size: int, num_outputs: int, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        self.query = nn.Linear(hidden_size, 1, bias=False) if reading == "attention" else None
        self.mlp = Mlp(hidden_size, num_outputs)

    def forward(
        self, states: Float[Tensor, "batch target hidden"], mask: Bool[Tensor, "batch target"]
    ) -> Float[Tensor, "batch output"]:
        """Returns the outputs from H[1..m].

        Args:
            states: the states at the written tokens.
            mask: which positions were written.
        """
        if self.query is not None:
            normalized = nn.functional.layer_norm(states.float(), states.shape[-1:])
            scores = self.query(normalized).squeeze(-1).masked_fill(~mask, float("-inf"))
            pooled = torch.einsum("bt,bth->bh", scores.softmax(dim=1), states.float())
        else:
            pooled = pool_mean(states, mask) if self.reading == "mean" else pool_last(states, mask)
        outputs: Tensor = self.mlp(pooled)
        return outputs
