"""What a head's outputs mean, for each kind of field: a number, the logits of labels."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.methods.heads.base import Head, Scale
from predgen.methods.heads.date import DateHead
from predgen.methods.heads.distribution import DistributionHead
from predgen.methods.heads.label import LabelHead
from predgen.methods.heads.label_set import LabelSetHead
from predgen.methods.heads.number import NumberHead
from predgen.methods.heads.ordinal import OrdinalHead
from predgen.targets.field import Field
from predgen.targets.record import Target, field_values

HEADS: dict[str, type[Head[Any]]] = {
    "number": NumberHead,
    "date": DateHead,
    "label": LabelHead,
    "ordinal": OrdinalHead,
    "set": LabelSetHead,
    "distribution": DistributionHead,
}


def scale_of(field: Field, values: Sequence[Any], *, standardize: bool = True) -> Scale:
    """Returns what training values say of a field's head.

    Args:
        field: what the values are.
        values: the training values.
        standardize: let heads of numbers learn standardized ones.
    """
    return HEADS[field.kind].scale_of(field, values, standardize=standardize)


def field_heads(target: Target, scales: Sequence[Scale], number_loss: str = "squared_error") -> tuple[Head[Any], ...]:
    """Returns the head of each field, their columns side by side.

    Args:
        target: what is predicted.
        scales: what training values say of each field.
        number_loss: what heads of numbers learn.
    """
    heads: list[Head[Any]] = []
    output = column = 0
    for field, scale in zip(target.fields.values(), scales, strict=True):
        kind = HEADS[field.kind]
        given = {"number_loss": number_loss} if issubclass(kind, NumberHead) else {}
        last_output, last_column = output + kind.num_outputs(field, **given), column + kind.num_columns(field)
        heads.append(kind(field, scale, slice(output, last_output), slice(column, last_column), **given))
        output, column = last_output, last_column
    return tuple(heads)


def truth_of(target: Target, values: Sequence[Any], scales: Sequence[Scale]) -> Float[Tensor, "row column"]:
    """Returns what heads are trained on, the columns of the fields side by side.

    Args:
        target: what is predicted.
        values: its values.
        scales: of its fields.
    """
    names = target.fields
    heads = zip(names, field_heads(target, scales), strict=True)
    return torch.cat([head.truth_of(field_values(target, values, name)) for name, head in heads], dim=1)


__all__ = ["HEADS", "Head", "Scale", "field_heads", "scale_of", "truth_of"]
