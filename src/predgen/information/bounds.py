"""Variational bounds of mutual information, from a critic's scores of pairs.

A matrix of scores holds T(z_i, y_j): on its diagonal pairs that belong together, beside it pairs that do not. All
bounds are in nats, and all are 0 where T is 0. Rows can have weights, so that a bootstrap needs no second critic.

Sources: MINE (Belghazi et al. 2018, arXiv 1801.04062), NWJ (Nguyen, Wainwright and Jordan 2010, as Poole et al. 2019,
arXiv 1905.06922, write it), InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), SMILE (Song and Ermon 2019,
arXiv 1910.06222).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

# SMILE holds the scores of pairs that do not belong together between these, in nats.
CLIP = 5.0
# How slowly MINE's mean over steps follows, by which it divides its gradient.
DECAY = 0.99

Value = Callable[[Float[Tensor, "row row"], Float[Tensor, "draw row"]], Float[Tensor, " draw"]]


@dataclass(frozen=True)
class Bound:
    """A way to estimate information by a critic.

    Attributes:
        value: the estimate, for each draw of the rows' weights.
        objective: what is maximized, and what chooses the step at which training is stopped; the value if None.
        corrected: whether the gradient is that of MINE, with a mean over steps in the denominator.
    """

    value: Value
    objective: Value | None = None
    corrected: bool = False

    @property
    def chosen_by(self) -> Value:
        """The lower bound that is maximized."""
        return self.objective or self.value


def even_weights(scores: Float[Tensor, "row row"]) -> Float[Tensor, "1 row"]:
    """Returns one draw in which each row weighs the same."""
    return torch.ones(1, len(scores), dtype=scores.dtype, device=scores.device)


def joint_mean(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns the mean score of the pairs that belong together."""
    return weights @ scores.diagonal() / weights.sum(dim=1)


def log_mean_exp(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns log E exp T over the pairs that do not belong together."""
    apart = scores.masked_fill(_diagonal(scores), float("-inf"))
    top = apart.max().detach()
    pairs = (weights @ (apart - top).exp() * weights).sum(dim=1)
    return (pairs / _num_apart(weights)).log() + top


def donsker_varadhan(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns E T − log E exp T."""
    return joint_mean(scores, weights) - log_mean_exp(scores, weights)


def nwj(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns E T + 1 − E exp T: the bound E f − E exp(f − 1) with f = T + 1."""
    return joint_mean(scores, weights) + 1 - log_mean_exp(scores, weights).exp()


def infonce(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns E log(exp T(z, y) / mean over all y' of exp T(z, y')), which cannot pass the log of the rows."""
    rows = len(scores)
    matched = scores.diagonal()
    top = scores.max(dim=1, keepdim=True).values.detach()
    apart = (scores - top).masked_fill(_diagonal(scores), float("-inf")).exp()
    total = weights.sum(dim=1, keepdim=True)
    mean_apart = weights @ apart.T / (total - weights)
    log_mean = (((matched - top.squeeze(1)).exp() + (rows - 1) * mean_apart) / rows).log() + top.squeeze(1)
    return (weights * (matched - log_mean)).sum(dim=1) / total.squeeze(1)


def smile(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns E T − log E exp clip(T, ±`CLIP`): less variance, no bound where scores are clipped."""
    return joint_mean(scores, weights) - log_mean_exp(scores.clamp(-CLIP, CLIP), weights)


def jensen_shannon(scores: Float[Tensor, "row row"], weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    """Returns 2 log 2 − E softplus(−T) − E softplus(T): what SMILE's critic is trained by; best at the log ratio."""
    together = weights @ nn.functional.softplus(-scores.diagonal()) / weights.sum(dim=1)
    apart = nn.functional.softplus(scores).masked_fill(_diagonal(scores), 0)
    return 2 * math.log(2) - together - (weights @ apart * weights).sum(dim=1) / _num_apart(weights)


def mine_gain(scores: Float[Tensor, "row row"], log_average: float) -> Float[Tensor, ""]:
    """Returns what MINE maximizes in a step: its gradient has the mean of exp T over steps in the denominator.

    Args:
        scores: of a batch.
        log_average: the log of that mean.
    """
    even = even_weights(scores)
    return joint_mean(scores, even)[0] - (log_mean_exp(scores, even)[0] - log_average).exp()


def _diagonal(scores: Tensor) -> Tensor:
    return torch.eye(len(scores), dtype=torch.bool, device=scores.device)


def _num_apart(weights: Float[Tensor, "draw row"]) -> Float[Tensor, " draw"]:
    return weights.sum(dim=1) ** 2 - (weights**2).sum(dim=1)


BOUNDS: dict[str, Bound] = {
    "mine": Bound(donsker_varadhan, corrected=True),
    "infonce": Bound(infonce),
    "smile": Bound(smile, objective=jensen_shannon),
    "nwj": Bound(nwj),
}
