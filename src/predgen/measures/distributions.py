"""The Writer's distribution of a number: its mean, deviation, quantiles and mode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# The best answer to each metric of numbers (Lukasik et al., arXiv 2403.04182): the mean has the least squared error and
# the median the least absolute one. Neither is the likeliest text.
ESTIMATE_OF_METRIC = {
    "mse": "mean",
    "rmse": "mean",
    "r2": "mean",
    "pearson": "mean",
    "spearman": "mean",
    "mae": "median",
    "mse_days": "mean",
    "rmse_days": "mean",
    "mae_days": "median",
    "within_7_days": "median",
    "mse_log10": "geometric_mean",
    "exact_match": "mode",
}
# What rounding may take from a sum of probabilities.
ROUNDING = 1e-9


@dataclass(frozen=True)
class NumberDistribution:
    """The probability of each number, row by row.

    Attributes:
        numbers: ascending; a row with fewer numbers than others is padded with numbers of probability 0.
        probabilities: of each; each row's sum is 1.
        covered: the share of the probability that was scored number by number. The rest is known for ranges of numbers
            alone, and stands at their middle. 1 where every number was scored.
    """

    numbers: Float[Tensor, "row number"]
    probabilities: Float[Tensor, "row number"]
    covered: Float[Tensor, " row"]

    @classmethod
    def of_all(
        cls,
        log_probabilities: Float[Tensor, "row number"],
        numbers: Float[Tensor, " number"],
        covered: Float[Tensor, " row"] | None = None,
    ) -> "NumberDistribution":
        """Returns the distribution of scores of all numbers, up to a constant of each row.

        Args:
            log_probabilities: of each number.
            numbers: ascending.
            covered: the share of the probability that was scored number by number; all if not given.
        """
        probabilities = log_probabilities.double().softmax(dim=-1)
        if covered is None:
            covered = torch.ones_like(probabilities[:, 0])
        return cls(numbers.expand_as(probabilities), probabilities, covered.double())

    @classmethod
    def joined(cls, batches: "Sequence[NumberDistribution]") -> "NumberDistribution":
        """Returns the rows of several distributions as one."""
        most = max(batch.numbers.shape[1] for batch in batches)

        def filled(table: Tensor, last: Tensor) -> Tensor:
            return torch.cat([table, last.expand(-1, most - table.shape[1])], dim=1)

        return cls(
            torch.cat([filled(batch.numbers, batch.numbers[:, -1:]) for batch in batches]),
            torch.cat([filled(batch.probabilities, torch.zeros_like(batch.numbers[:, -1:])) for batch in batches]),
            torch.cat([batch.covered for batch in batches]),
        )

    def mean(self) -> Float[Tensor, " row"]:
        """Returns the expected value."""
        return (self.probabilities * self.numbers).sum(dim=1)

    def geometric_mean(self) -> Float[Tensor, " row"]:
        """Returns 10 to the expected decimal logarithm, the best answer to its squared error; of numbers above 0."""
        return torch.pow(10.0, (self.probabilities * self.numbers.log10()).sum(dim=1))

    def deviation(self) -> Float[Tensor, " row"]:
        """Returns the standard deviation, in the target's unit."""
        squares = (self.numbers - self.mean().unsqueeze(1)) ** 2
        return (self.probabilities * squares).sum(dim=1).sqrt()

    def mode(self) -> Float[Tensor, " row"]:
        """Returns the likeliest number, the smallest of several."""
        return self._at(self.probabilities.argmax(dim=1))

    def quantile(self, share: float) -> Float[Tensor, " row"]:
        """Returns the smallest number that at least this share of the probability does not exceed.

        Args:
            share: in (0, 1); 0.5 is the median.
        """
        return self.quantiles_at([share])[:, 0]

    def quantiles(self, number: int) -> Float[Tensor, "row share"]:
        """Returns the quantiles at the shares (i + ½) / number."""
        return self.quantiles_at([(index + 0.5) / number for index in range(number)])

    def quantiles_at(self, shares: Sequence[float]) -> Float[Tensor, "row share"]:
        """Returns `quantile` of several shares; NaN in a row whose probabilities are no numbers.

        Args:
            shares: in (0, 1), in any order.
        """
        wanted = torch.tensor(shares, dtype=torch.float64, device=self.numbers.device) - ROUNDING
        reached = torch.searchsorted(self.probabilities.cumsum(dim=1), wanted.repeat(len(self.numbers), 1))
        found = self.numbers.gather(1, reached.clamp(max=self.numbers.shape[1] - 1)).double()
        return found.masked_fill(self.probabilities.isnan().any(dim=1, keepdim=True), math.nan)

    def estimate(self, name: str) -> Float[Tensor, " row"]:
        """Returns the point estimate of a name: mode, mean, geometric_mean, median, or a quantile such as 0.9."""
        if name == "mean":
            return self.mean()
        if name == "geometric_mean":
            return self.geometric_mean()
        if name == "mode":
            return self.mode()
        return self.quantile(0.5 if name == "median" else float(name))

    def _at(self, positions: Tensor) -> Float[Tensor, " row"]:
        return self.numbers.gather(1, positions.unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class PredictiveDistribution:
    """The Writer's probabilities of one field.

    Attributes:
        distribution: of a number; None for labels.
        probabilities: of each label, or of each label's being in the set; None for a number.
    """

    distribution: NumberDistribution | None
    probabilities: Float[Tensor, "row label"] | None = None

    @classmethod
    def joined(cls, batches: "Sequence[PredictiveDistribution]") -> "PredictiveDistribution":
        """Returns the rows of several distributions of one field as one."""
        numbers = [batch.distribution for batch in batches if batch.distribution is not None]
        if numbers:
            return cls(NumberDistribution.joined(numbers))
        return cls(None, torch.cat([batch.probabilities for batch in batches if batch.probabilities is not None]))


def indicators(positions: Sequence[int], number: int) -> Float[Tensor, "value position"]:
    """Returns for each value a 1 at its position."""
    return torch.nn.functional.one_hot(torch.tensor(positions), number).double()
