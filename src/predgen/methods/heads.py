"""What a head's outputs mean: for each field of the target a standardized number, or the logits of labels."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.measures.choices import Mix
from predgen.methods.losses import label_loss, number_loss, set_loss
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet, member_table
from predgen.targets.number import Number
from predgen.targets.record import Field, Record, Target, field_values, fields_of

log = logging.getLogger("predgen")

# In interquartile ranges beyond the quartiles: far enough that none of a usual distribution lies there.
FAR = 100.0


@dataclass(frozen=True)
class Scale:
    """What the training values say of a field's head.

    Attributes:
        mean: of what is learned of a number (`Number.learned`).
        deviation: of the same; heads predict standardized ones.
        constant_loss: the least loss of a head that answers the same for every row, by which the loss of a record's
            field is divided, so that fields of different kinds weigh alike.
        low: a training number below it is learned as this one; None if there is none.
        high: a training number above it likewise.
    """

    mean: float = 0.0
    deviation: float = 1.0
    constant_loss: float = 1.0
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, field: Field, values: Sequence[Any], *, standardize: bool = True) -> "Scale":
        """Returns the scale of a column; a constant column keeps its unit.

        Args:
            field: what the values are.
            values: the training values.
            standardize: let heads of numbers learn standardized ones.
        """
        if isinstance(field, Number):
            column = np.array([field.learned(float(value)) for value in values], dtype=np.float64)
            low, high = _bounds(column) if standardize else (None, None)
            column = np.clip(column, -np.inf if low is None else low, np.inf if high is None else high)
            deviation = float(column.std())
            deviation = deviation if deviation > 0 else 1.0
            if not standardize:
                return cls(constant_loss=deviation**2)
            return cls(float(column.mean()), deviation, low=low, high=high)
        if isinstance(field, Label):
            shares = np.bincount([_index(field, value) for value in values]) / len(values)
            shares = shares[shares > 0]
            loss = float(-(shares * np.log(shares)).sum())
        else:
            shares = member_table(field, values).mean(axis=0).clip(1e-12, 1 - 1e-12)
            loss = float(-(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean())
        return cls(constant_loss=loss if loss > 1e-6 else 1.0)  # one label for all rows


@dataclass(frozen=True)
class FieldHead:
    """One field's part of the heads.

    Attributes:
        field: what is predicted.
        scale: of its training values.
        outputs: its columns among the outputs.
        truth: its columns in the truth of a record.
    """

    field: Field
    scale: Scale
    outputs: slice
    truth: slice

    def loss(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> Float[Tensor, ""]:
        """Returns the loss: squared error of a standardized number, cross-entropy of labels, in nats.

        Args:
            outputs: this field's.
            truth: as `truth_of` returns it.
        """
        if truth.dim() == 2:
            truth = truth[:, self.truth]
        if isinstance(self.field, LabelSet):
            return set_loss(outputs, truth)
        truth = truth.reshape(len(outputs))
        return (
            number_loss(outputs.squeeze(-1), truth)
            if isinstance(self.field, Number)
            else label_loss(outputs, truth.long())
        )

    def predictions(self, outputs: Float[Tensor, "batch output"]) -> Tensor:
        """Returns numbers in the target's unit, shape (batch,), or the probability of each label, (batch, label)."""
        if isinstance(self.field, LabelSet):
            return torch.sigmoid(outputs)
        if isinstance(self.field, Label):
            return torch.softmax(outputs, dim=-1)
        numbers: Tensor = outputs.squeeze(-1).double() * self.scale.deviation + self.scale.mean
        return torch.pow(10.0, numbers) if self.logarithmic else numbers

    @property
    def logarithmic(self) -> bool:
        """Whether the head learns a number's logarithm."""
        return isinstance(self.field, Number) and self.field.logarithmic

    def mixed(self, mix: Mix, director: Tensor, writer: Tensor) -> Tensor:
        """Returns one answer from two, mixed as the head learns them: logarithms of a logarithmic number.

        Args:
            mix: the shares.
            director: the Director's numbers or probabilities.
            writer: the Writer's.
        """
        if not self.logarithmic:
            return mix.of(director, writer)
        return torch.pow(10.0, mix.of(director.log10(), writer.log10()))


def field_heads(target: Target, scales: Sequence[Scale]) -> tuple[FieldHead, ...]:
    """Returns the head of each field, their columns side by side."""
    heads = []
    output = column = 0
    for field, scale in zip(fields_of(target).values(), scales, strict=True):
        num_outputs = 1 if isinstance(field, Number) else len(field.values)
        num_columns = num_outputs if isinstance(field, LabelSet) else 1
        heads.append(FieldHead(field, scale, slice(output, output + num_outputs), slice(column, column + num_columns)))
        output, column = output + num_outputs, column + num_columns
    return tuple(heads)


def truth_of(target: Target, values: Sequence[Any], scales: Sequence[Scale]) -> Tensor:
    """Returns what heads are trained on.

    Args:
        target: what is predicted.
        values: its values.
        scales: of its fields.

    Returns:
        Standardized numbers or label positions, shape (row,); which labels are in a set, shape (row, label); for a
        record the columns of its fields side by side, shape (row, column).
    """
    if isinstance(target, Label):
        return torch.tensor([_index(target, value) for value in values], dtype=torch.long)
    columns = []
    for (name, field), scale in zip(fields_of(target).items(), scales, strict=True):
        own = field_values(target, values, name)
        if isinstance(field, Number):
            column = torch.tensor([field.learned(float(value)) for value in own], dtype=torch.float64)
            if scale.low is not None or scale.high is not None:
                column = column.clamp(scale.low, scale.high)
            columns.append(((column - scale.mean) / scale.deviation).float())
        elif isinstance(field, Label):
            columns.append(torch.tensor([_index(field, value) for value in own], dtype=torch.float32))
        else:
            columns.append(torch.from_numpy(member_table(field, own)).float())
    if not isinstance(target, Record):
        return columns[0]
    return torch.cat([column.reshape(len(values), -1) for column in columns], dim=1)


def _bounds(column: Float[np.ndarray, " row"]) -> tuple[float | None, float | None]:
    """Returns between which numbers a head learns; None where no training number lies beyond.

    One answer of 1e8 among a thousand below 100 would give the others a standardized spread that float32 cannot hold.
    """
    first, third = np.quantile(column, [0.25, 0.75])
    reach = FAR * (third - first)
    if reach == 0:  # half of the rows have one number: there is no spread to measure by
        return None, None
    low = float(first - reach) if column.min() < first - reach else None
    high = float(third + reach) if column.max() > third + reach else None
    if low is not None or high is not None:
        num_far = int(((column < first - reach) | (column > third + reach)).sum())
        log.warning(
            "%d of %d training answers are more than %g interquartile ranges from the others; heads learn them as if "
            "they lay at %s. If the numbers spread over magnitudes, logarithmic=true may fit them.",
            num_far,
            len(column),
            FAR,
            " and ".join(f"{bound:.6g}" for bound in (low, high) if bound is not None),
        )
    return low, high


def _index(field: Label, value: Any) -> int:
    position = field.index(value)
    assert position is not None  # training values are known
    return position
