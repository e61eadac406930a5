"""The head of a number: a standardized output, or several whose mean is the answer."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.trie import Trie
from predgen.errors import ConfigError
from predgen.measures.choices import Mix
from predgen.measures.distributions import NumberDistribution, PredictiveDistribution
from predgen.methods.heads.base import Head, Scale
from predgen.names import NUMBER_LOSSES
from predgen.targets.number import Number
from predgen.warning_kinds import FarNumbersWarning, warn

# In interquartile ranges beyond the quartiles: far enough that none of a usual distribution lies there.
FAR = 100.0


@dataclass(frozen=True)
class NumberHead(Head[Number]):
    """A number, or its decimal logarithm, standardized by the training rows.

    Attributes:
        number_loss: what is learned, a name in `predgen.names.NUMBER_LOSSES`.
    """

    problem_type = "regression"

    number_loss: str = "squared_error"

    @property
    def squared_error(self) -> bool:
        """Whether its loss is a squared error, of small errors at least."""
        return self.number_loss != "quantiles"

    @classmethod
    def scale_of(cls, field: Number, values: Sequence[Any], *, standardize: bool) -> Scale:
        """Returns the mean and the deviation of the learned numbers; a constant column has the deviation 1."""
        column = np.array([field.learned(float(value)) for value in values], dtype=np.float64)
        low, high = _bounds(column) if standardize else (None, None)
        column = np.clip(column, -np.inf if low is None else low, np.inf if high is None else high)
        deviation = float(column.std())
        deviation = deviation if deviation > 0 else 1.0
        if not standardize:
            return Scale(constant_loss=deviation**2)
        return Scale(float(column.mean()), deviation, low=low, high=high)

    @classmethod
    def num_outputs(cls, field: Number, number_loss: str = "squared_error") -> int:
        """Returns 1, or the number of quantiles."""
        return NUMBER_LOSSES[number_loss].num_outputs

    def truth_of(self, values: Sequence[Any]) -> Float[Tensor, "row 1"]:
        """Returns the standardized numbers."""
        column = torch.tensor([[self.field.learned(float(value))] for value in values], dtype=torch.float64)
        if self.scale.low is not None or self.scale.high is not None:
            column = column.clamp(self.scale.low, self.scale.high)
        return ((column - self.scale.mean) / self.scale.deviation).float()

    def loss(self, outputs: Float[Tensor, "batch output"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Returns the loss of each standardized number."""
        loss: Tensor = NUMBER_LOSSES.load(self.number_loss)(outputs, truth)
        return loss

    def predictions(self, outputs: Float[Tensor, "batch output"]) -> Float[Tensor, " batch"]:
        """Returns numbers in the target's unit."""
        numbers: Tensor = outputs.double().mean(dim=-1) * self.scale.deviation + self.scale.mean
        # An infinite output is a fault; a finite one whose power is beyond all floats lies beyond the range.
        return self._powers(numbers) if self.field.logarithmic else numbers

    def _powers(self, exponents: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return torch.pow(10.0, exponents.masked_fill(exponents.isinf(), torch.nan).clamp(max=sys.float_info.max_10_exp))

    def score(self, predictions: Float[Tensor, " batch"], position: int = 0) -> Float[Tensor, " batch"]:
        """Returns the numbers themselves, not clipped to the target's range: clipped ones would have no gradient."""
        return predictions

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[float]:
        """Returns the numbers inside the target's range."""
        return [self.field.clip(number) for number in predictions.tolist()]

    def logits(self, outputs: Float[Tensor, "batch output"]) -> Float[Tensor, "batch 1"]:
        """Returns the number in the target's unit, inside its range."""
        return self.predictions(outputs).clamp(self.field.low, self.field.high).float().unsqueeze(-1)

    def affine(self, matrix: Float[Tensor, "output size"]) -> tuple[Float[Tensor, "1 size"], Float[Tensor, " 1"]]:
        """Returns the map to the number in the target's unit.

        Raises:
            ConfigError: it is a power.
        """
        if self.field.logarithmic:
            raise ConfigError(
                "Expected a number that is a linear map of the states, found one whose logarithm was learned. Fit with "
                "--set logarithmic=false."
            )
        mean = matrix.double().mean(dim=0, keepdim=True) * self.scale.deviation
        return mean, mean.new_full((1,), self.scale.mean)

    def reading(self, threshold: Float[Tensor, " label"] | None = None) -> dict[str, Any]:
        """Returns the range that answers are clipped to."""
        return {"kind": self.field.kind, "low": self.field.low, "high": self.field.high}

    def learned(self, numbers: Tensor) -> Tensor:
        """Returns the numbers, or their decimal logarithms."""
        return numbers.log10() if self.field.logarithmic else numbers

    def mixed(self, mix: Mix, director: Tensor, writer: Tensor) -> Tensor:
        """Returns one number from two; of a logarithmic one, the logarithms are mixed."""
        if not self.field.logarithmic:
            return mix.of(director, writer)
        return torch.pow(10.0, mix.of(director.log10(), writer.log10()))

    def writer_outputs(self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"]) -> Float[Tensor, "batch 1"]:
        """Returns the standardized expected value of the learned number."""
        standardized = (self.learned(trie.numbers) - self.scale.mean) / self.scale.deviation
        return log_probabilities.softmax(dim=-1) @ standardized.to(log_probabilities.dtype).unsqueeze(1)

    def distribution(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"], covered: Float[Tensor, " batch"]
    ) -> PredictiveDistribution:
        """Returns the distribution of the numbers."""
        return PredictiveDistribution(NumberDistribution.of_all(log_probabilities, trie.numbers, covered))


def _bounds(column: Float[np.ndarray, " row"]) -> tuple[float | None, float | None]:
    """Returns the bounds at which training numbers are clipped; None where no number lies beyond.

    One answer of 1e8 among a thousand below 100 would give the others a standardized spread that float32 cannot hold.
    """
    first, third = np.quantile(column, [0.25, 0.75])
    clip_distance = FAR * (third - first)
    if clip_distance == 0:  # half of the rows have one number: there is no spread to measure by
        return None, None
    low = float(first - clip_distance) if column.min() < first - clip_distance else None
    high = float(third + clip_distance) if column.max() > third + clip_distance else None
    if low is not None or high is not None:
        num_far = int(((column < first - clip_distance) | (column > third + clip_distance)).sum())
        ends = " and ".join(f"{bound:.6g}" for bound in (low, high) if bound is not None)
        warn(
            FarNumbersWarning(
                f"{num_far} of {len(column)} training answers are more than {FAR:g} interquartile ranges from the "
                f"others; heads learn them as if they lay at {ends}. If the numbers spread over magnitudes, "
                "logarithmic=true may fit them."
            )
        )
    return low, high
