"""What a head's outputs mean for one field: the interface of every kind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.trie import Trie
from predgen.measures.choices import Mix
from predgen.measures.distributions import PredictiveDistribution
from predgen.targets.cells import label_key
from predgen.targets.field import Field

FieldKind = TypeVar("FieldKind", bound=Field)
# If the best constant answer has a lower loss than this, the column is constant: nothing is divided by that loss.
LEAST_LOSS = 1e-6


@dataclass(frozen=True)
class Scale:
    """The statistics of the training values that a field's head is scaled by.

    Attributes:
        mean: the mean of the learned number (its value or logarithm, `Number.learned`).
        deviation: the standard deviation of the learned number; heads predict standardized numbers.
        constant_loss: the least loss of a head that answers the same for every row, by which the loss of a record's
            field is divided, so that fields of different kinds weigh alike.
        low: a training number below it is learned as this one; None if there is none.
        high: a training number above it is learned as this one; None if there is none.
    """

    mean: float = 0.0
    deviation: float = 1.0
    constant_loss: float = 1.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Head(ABC, Generic[FieldKind]):
    """One field's columns of the heads: what they learn, and what they answer.

    Attributes:
        problem_type: what transformers calls a model whose logits are `logits`.
        tempers_logits: whether answers that are read from logits stay the same where a calibration tempers these.
        field: what is predicted.
        scale: of its training values.
        outputs: its columns among the outputs.
        truth: its columns among what heads are trained on.
    """

    problem_type: ClassVar[str]
    tempers_logits: ClassVar[bool] = True

    field: FieldKind
    scale: Scale
    outputs: slice
    truth: slice

    @property
    def squared_error(self) -> bool:
        """Whether its loss is a squared error; else it is a cross-entropy in nats, or a loss of quantiles."""
        return False

    @classmethod
    @abstractmethod
    def scale_of(cls, field: FieldKind, values: Sequence[Any], *, standardize: bool) -> Scale:
        """Returns the scale of a column.

        Args:
            field: what the values are.
            values: the training values.
            standardize: let heads of numbers learn standardized ones.
        """

    @classmethod
    @abstractmethod
    def num_outputs(cls, field: FieldKind) -> int:
        """Returns how many outputs the head of a field has."""

    @classmethod
    def num_columns(cls, field: FieldKind) -> int:
        """Returns how many columns the head of a field learns."""
        return 1

    @abstractmethod
    def truth_of(self, values: Sequence[Any]) -> Float[Tensor, "row column"]:
        """Returns the head's training targets."""

    @abstractmethod
    def loss(
        self, outputs: Float[Tensor, "batch output"], truth: Float[Tensor, "batch column"]
    ) -> Float[Tensor, " batch"]:
        """Returns the loss of each row.

        Args:
            outputs: this field's.
            truth: this field's columns, as `truth_of` returns them.
        """

    @abstractmethod
    def predictions(self, outputs: Float[Tensor, "batch output"]) -> Tensor:
        """Returns numbers in the target's unit, shape (batch,), or the probability of each label, (batch, label)."""

    @abstractmethod
    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the values that numbers, or the probabilities of labels, stand for.

        Args:
            predictions: as `predictions` returns them.
            threshold: the probability from which on each label is in a set, or answered of two; one half if not given.
        """

    def mixed(self, mix: Mix, director: Tensor, writer: Tensor) -> Tensor:
        """Returns one answer from two, mixed as the head learns them.

        Args:
            mix: the shares.
            director: the Director's numbers or probabilities.
            writer: the Writer's.
        """
        return mix.of(director, writer)

    @abstractmethod
    def score(self, predictions: Tensor, position: int) -> Tensor:
        """Returns what an explanation is of, as a smooth function: a number itself, or the log-odds of a label in nats.

        Args:
            predictions: as `predictions` returns them, in float64.
            position: of the label; nothing of a number.
        """

    def learned(self, numbers: Tensor) -> Tensor:
        """Returns numbers in the target's unit as the head learns them; for heads of numbers only."""
        return numbers

    # ---- outside of this package

    def logits(self, outputs: Float[Tensor, "batch output"]) -> Float[Tensor, "batch logit"]:
        """Returns what a model gives that leaves this package: a number in the target's unit, or logits of labels.

        They are the outputs themselves where a kind says nothing else.
        """
        return outputs

    def affine(
        self, matrix: Float[Tensor, "output size"]
    ) -> tuple[Float[Tensor, "logit size"], Float[Tensor, " logit"]]:
        """Returns the matrix and the shift from a state to its logits, but for a range that numbers are clipped to.

        Args:
            matrix: from a state to the outputs.

        Raises:
            ConfigError: the logits are no such map of the outputs.
        """
        return matrix, torch.zeros_like(matrix[:, 0])

    def reading(self, threshold: Float[Tensor, " label"] | None = None) -> dict[str, Any]:
        """Returns how answers are read from logits, as JSON holds it.

        Args:
            threshold: as in `values`.
        """
        return {"kind": self.field.kind, "labels": list(self.field.labels)}

    # ---- the Writer's distribution

    @abstractmethod
    def writer_outputs(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"]
    ) -> Float[Tensor, "batch output"]:
        """Returns the outputs by which this head would say what the Writer's distribution says, with gradients.

        Args:
            trie: all values as a tree.
            log_probabilities: of each value, in nats.
        """

    @abstractmethod
    def distribution(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"], covered: Float[Tensor, " batch"]
    ) -> PredictiveDistribution:
        """Returns the predictive distribution of the field from the scores of all values.

        Args:
            trie: all values as a tree.
            log_probabilities: of each value, in nats.
            covered: the share of the probability that was scored value by value.
        """


def shares_loss(shares: np.ndarray) -> float:
    """Returns the entropy in nats of the labels' shares: the loss of the best constant answer."""
    present = shares[shares > 0]
    loss = float(-(present * np.log(present)).sum())
    return loss if loss > LEAST_LOSS else 1.0  # one label for all rows


def positions_of(field: Field, values: Sequence[Any]) -> torch.Tensor:
    """Returns the positions of labels that are known, shape (row, 1)."""
    positions = {label_key(value): position for position, value in enumerate(field.labels)}
    return torch.tensor([[positions[label_key(value)]] for value in values], dtype=torch.float32)
