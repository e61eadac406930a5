"""The head of a label of a declared order: cumulative logits."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from predgen.codec.trie import Trie
from predgen.errors import ConfigError
from predgen.methods.heads.label import ExclusiveHead
from predgen.targets.ordinal import Ordinal

# Logits that are nearer than this are the same in float32; the logarithm of their distance would be −∞.
LEAST_GAP = 1e-6


class OrdinalHead(ExclusiveHead[Ordinal]):
    """One output less than there are labels: the logits of "higher than label k", which fall with k.

    The first output is the logit of "higher than the lowest label"; each further one says, through softplus, how far
    the next logit lies below. So P(rank > k) falls with k in every row, and no probability is negative: McCullagh's
    cumulative model (1980), its thresholds given by the text.
    """

    problem_type = "single_label_classification"
    tempers_logits = False  # the answer is a median, which a temperature can move

    @classmethod
    def num_outputs(cls, field: Ordinal) -> int:
        """Returns the number of labels less one."""
        return len(field.values) - 1

    def loss(self, outputs: Float[Tensor, "batch step"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Returns −log P(label) of each row in nats."""
        return functional.nll_loss(_log_probabilities(outputs), truth.squeeze(-1).long(), reduction="none")

    def writer_outputs(self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"]) -> Float[Tensor, "batch step"]:
        """Returns the logits of "higher than label k" as the outputs that stand for them."""
        below = log_probabilities.logcumsumexp(dim=1)[:, :-1]
        above = log_probabilities.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]
        logits = above - below
        gaps = (logits[:, :-1] - logits[:, 1:]).clamp(min=LEAST_GAP)
        return torch.cat([logits[:, :1], gaps + torch.log(-torch.expm1(-gaps))], dim=1)

    def predictions(self, outputs: Float[Tensor, "batch step"]) -> Float[Tensor, "batch label"]:
        """Returns the probability of each label."""
        return _log_probabilities(outputs).exp()

    def logits(self, outputs: Float[Tensor, "batch step"]) -> Float[Tensor, "batch label"]:
        """Returns the logarithms of the probabilities."""
        return _log_probabilities(outputs)

    def affine(self, matrix: Float[Tensor, "step size"]) -> tuple[Float[Tensor, "label size"], Float[Tensor, " label"]]:
        """Refuses: cumulative logits are no linear map of the outputs."""
        raise ConfigError(
            "Expected logits of labels that are a linear map of the states, found the cumulative ones of labels in an "
            "order. Fit with --kind label."
        )

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the median labels, the best answer to the distance of the ranks."""
        reached = predictions.double().cumsum(dim=-1) >= 0.5
        last = torch.full_like(reached[:, :1], True)  # sums may end a little below 1
        medians = torch.cat([reached[:, :-1], last], dim=-1).int().argmax(dim=-1)
        return [self.field.values[position] for position in medians.tolist()]


def _log_probabilities(outputs: Float[Tensor, "batch step"]) -> Float[Tensor, "batch label"]:
    """Returns log P(rank = k) = log(σ(z_k−1) − σ(z_k)) of falling logits z, without differences of near numbers.

    σ(a) − σ(b) = σ(a) · σ(−b) · (1 − exp(b − a)) for a > b; at the ends one of the factors alone.
    """
    gaps = functional.softplus(outputs[:, 1:]) + torch.finfo(outputs.dtype).tiny
    logits = torch.cat([outputs[:, :1], outputs[:, :1] - gaps.cumsum(dim=1)], dim=1)
    highest, lowest = functional.logsigmoid(logits[:, -1:]), functional.logsigmoid(-logits[:, :1])
    above, below = functional.logsigmoid(logits[:, :-1]), functional.logsigmoid(-logits[:, 1:])
    between = above + below + torch.log(-torch.expm1(-gaps))
    return torch.cat([lowest, between, highest], dim=1)
