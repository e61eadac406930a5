"""The critic T(z, y): how well a state and an answer belong together."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

WIDTH = 64
EMBEDDED = 32
HEADS = 2


class Critic(nn.Module):
    """Scores every state of a batch with every answer of it: f(z) · g(y) + a(z) + b(y).

    Both sides are a linear map beside a network of two hidden layers. f attends over the positions of z, so that a
    sequence of tokens and a pooled vector, which is a sequence of one position, go through the same parameters, and as
    many. A new critic is 0 everywhere.

    Args:
        state_size: numbers of each position.
        answer_size: numbers of an answer.
    """

    def __init__(self, state_size: int, answer_size: int) -> None:
        super().__init__()
        self.enter = nn.Linear(state_size, WIDTH)
        self.queries = nn.Linear(WIDTH, HEADS)
        self.state = _Embedding(HEADS * WIDTH)
        self.answer = _Embedding(answer_size)
        # f and a begin at 0; b, which does not hang on f, has a share that does.
        for layer in (self.state.straight, self.state.layers[-1]):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.answer_share = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        states: Float[Tensor, "row position size"],
        mask: Bool[Tensor, "row position"],
        answers: Float[Tensor, "other answer"],
    ) -> Float[Tensor, "row other"]:
        """Returns T of each state with each answer.

        Args:
            states: the states, padded.
            mask: which positions are not padding; each row has one.
            answers: numbers, or labels one-hot.
        """
        entered = self.enter(states) + _position_codes(states.shape[1]).to(states)
        shares = self.queries(entered).masked_fill(~mask.unsqueeze(2), float("-inf")).softmax(dim=1)
        read = self.state(torch.einsum("rph,rpw->rhw", shares, entered).flatten(1))
        embedded = self.answer(answers)
        product = read[:, :EMBEDDED] @ embedded[:, :EMBEDDED].T / math.sqrt(EMBEDDED)
        scores: Tensor = product + read[:, EMBEDDED:] + self.answer_share * embedded[:, EMBEDDED:].T
        return scores


class _Embedding(nn.Module):
    """A linear map beside two hidden layers, to the numbers of a product and one number alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.straight = nn.Linear(size, EMBEDDED + 1)
        self.layers = nn.Sequential(
            nn.Linear(size, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, EMBEDDED + 1)
        )

    def forward(self, values: Float[Tensor, "row size"]) -> Float[Tensor, "row embedded"]:
        """Returns the numbers, the one that stands alone last."""
        embedded: Tensor = self.straight(values) + self.layers(values)
        return embedded


def _position_codes(length: int) -> Float[Tensor, "position width"]:
    """Returns waves that tell positions apart without parameters."""
    rates = torch.exp(-math.log(1e4) * torch.arange(0, WIDTH, 2) / WIDTH)
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
