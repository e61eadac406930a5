"""From the states of many tokens to one prediction: poolings by name, and the MLP or the linear map behind them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from predgen.names import POOLINGS, PREDICTOR_HEADS, READINGS

# Of `Latent`: how often it reads, and the size of its heads of attention.
LATENT_ROUNDS = 3
LATENT_HEAD_SIZE = 64
# Of the weights that `LinearMap` begins with, as of the layers of most language models.
INITIAL_DEVIATION = 0.02


class Last(nn.Module):
    """The last token that the mask keeps, wherever the padding is."""

    def __init__(self, hidden_size: int = 0) -> None:
        super().__init__()

    def forward(
        self, states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch hidden"]:
        """Returns one state for each row."""
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = torch.where(mask, positions, torch.full_like(positions, -1)).max(dim=1).values.clamp(min=0)
        return states[torch.arange(states.shape[0], device=states.device), last]


class Mean(nn.Module):
    """The mean over the tokens that the mask keeps."""

    def __init__(self, hidden_size: int = 0) -> None:
        super().__init__()

    def forward(
        self, states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch hidden"]:
        """Returns one state for each row."""
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class First(nn.Module):
    """The first token that the mask keeps, wherever the padding is."""

    def __init__(self, hidden_size: int = 0) -> None:
        super().__init__()

    def forward(
        self, states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch hidden"]:
        """Returns one state for each row."""
        first = mask.to(torch.int8).argmax(dim=1)
        return states[torch.arange(states.shape[0], device=states.device), first]


class Attention(nn.Module):
    """The mean over the tokens that the mask keeps, weighted by the softmax of a learned query's scores.

    Args:
        hidden_size: size of the states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self,
        states: Float[Tensor, "batch token hidden"],
        mask: Bool[Tensor, "batch token"],
        log_prior: Float[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch hidden"]:
        """Returns one state for each row.

        Args:
            states: of the tokens.
            mask: which of them are read.
            log_prior: added to the scores: with a query of zeros it is the logarithm of the weights.
        """
        normalized = nn.functional.layer_norm(states.float(), states.shape[-1:])
        scores = self.query(normalized).squeeze(-1).masked_fill(~mask, float("-inf"))
        if log_prior is not None:
            scores = scores + log_prior.float()
        return torch.einsum("bt,bth->bh", scores.softmax(dim=1), states.float())


class Latent(nn.Module):
    """A learned query that reads all states by attention, several times, each time by what it has read so far.

    After RELISH (arXiv 2604.01206), which reads a frozen model so; the rounds share their weights here.

    Args:
        hidden_size: size of the states.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        heads = next(
            heads for heads in range(max(1, hidden_size // LATENT_HEAD_SIZE), 0, -1) if hidden_size % heads == 0
        )
        self.query = nn.Parameter(torch.randn(hidden_size) * 0.02)
        self.norm_query, self.norm_states = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, heads, batch_first=True)
        self.mlp = Mlp(hidden_size, hidden_size)

    def forward(
        self, states: Float[Tensor, "batch token hidden"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch hidden"]:
        """Returns one state for each row."""
        normalized = self.norm_states(states.float())
        latent = self.query.expand(states.shape[0], 1, -1)
        for _ in range(LATENT_ROUNDS):
            read, _ = self.attention(
                self.norm_query(latent), normalized, normalized, key_padding_mask=~mask, need_weights=False
            )
            latent = latent + read
            latent = latent + self.mlp(latent)
        return latent.squeeze(1)


class Mlp(nn.Module):
    """Normalizes a state and maps it to outputs through one hidden layer.

    The normalization makes one head learning rate fit backbones whose states differ in scale.

    Args:
        size: of the input.
        num_outputs: how many outputs.
        hidden_size: of the hidden layer; the input's if not given.
    """

    def __init__(self, size: int, num_outputs: int, hidden_size: int | None = None) -> None:
        super().__init__()
        hidden_size = size if hidden_size is None else hidden_size
        self.norm = nn.LayerNorm(size)
        self.hidden = nn.Linear(size, hidden_size)
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, state: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch output"]:
        """Returns the outputs: a standardized number, or the labels' logits."""
        outputs: Tensor = self.output(nn.functional.gelu(self.hidden(self.norm(state.float()))))
        return outputs


class LinearMap(nn.Module):
    """Maps a state to outputs by a matrix alone.

    There is no normalization and no bias, as in the classes for sequences of transformers, so that a predictor with it
    can become one of them.

    Args:
        size: of the input.
        num_outputs: how many outputs.
        hidden_size: not used; `Mlp` has it.
    """

    def __init__(self, size: int, num_outputs: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, size) * INITIAL_DEVIATION)

    def forward(self, state: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch output"]:
        """Returns the outputs: a standardized number, or the labels' logits."""
        return nn.functional.linear(state.float(), self.weight)


class PooledHead(nn.Module):
    """Pools states, without padding, and maps the pooled one to outputs.

    It is the predictor's head over the states of the prompt, and the Director, the paper's task adapter, over those of
    the written tokens.

    Args:
        pooling: one of the above.
        mlp: maps one state to the outputs, or two of them, joined, where it reads the start too; the predictor's may
            be a linear map.
        reads_start: whether it also reads H[0], the state after the prompt.
    """

    def __init__(self, pooling: nn.Module, mlp: nn.Module, *, reads_start: bool = False) -> None:
        super().__init__()
        self.pooling = pooling
        self.mlp = mlp
        self.reads_start = reads_start

    @classmethod
    def of(
        cls, pooling: str, hidden_size: int, num_outputs: int, *, reads_start: bool = False, head: str = "mlp"
    ) -> "PooledHead":
        """Returns a new head.

        Args:
            pooling: a name in `predgen.names.POOLINGS` or `READINGS`.
            hidden_size: size of the states.
            num_outputs: of all fields together; see `predgen.methods.heads.Head`.
            reads_start: whether it also reads H[0].
            head: a name in `predgen.names.PREDICTOR_HEADS`.
        """
        table = READINGS if pooling in READINGS else POOLINGS
        mlp = PREDICTOR_HEADS.load(head)((1 + reads_start) * hidden_size, num_outputs, hidden_size)
        return cls(table.load(pooling)(hidden_size), mlp, reads_start=reads_start)

    def forward(
        self,
        states: Float[Tensor, "batch token hidden"],
        mask: Bool[Tensor, "batch token"],
        start: Float[Tensor, "batch hidden"] | None = None,
    ) -> Float[Tensor, "batch output"]:
        """Returns the outputs.

        Args:
            states: of the prompt's tokens, or H[1..m] of the written ones.
            mask: which of them are no padding.
            start: H[0], where it is read.
        """
        read = self.pooling(states, mask)
        if self.reads_start:
            assert start is not None
            read = torch.cat([start.to(read.dtype), read], dim=-1)
        outputs: Tensor = self.mlp(read)
        return outputs
