"""The automaton of each kind of field, by the kind's name."""

import math
from typing import Any

from predgen.codec.base import Paths, TargetVocabulary
from predgen.codec.date import DatePaths
from predgen.codec.distribution import DistributionPaths
from predgen.codec.label import LabelPaths
from predgen.codec.label_set import LabelSetPaths
from predgen.codec.number import NumberPaths
from predgen.codec.ordinal import OrdinalPaths
from predgen.targets.field import Field
from predgen.targets.record import Target

PATHS: dict[str, type[Paths[Any]]] = {
    "number": NumberPaths,
    "date": DatePaths,
    "label": LabelPaths,
    "ordinal": OrdinalPaths,
    "set": LabelSetPaths,
    "distribution": DistributionPaths,
}
# Records of more values are not unrolled.
MAX_RECORDS = 10_000


def paths_of(field: Field, vocabulary: TargetVocabulary, end_id: int) -> Paths[Any]:
    """Returns the automaton of a field over a backbone's tokens.

    Raises:
        TargetError: the tokens of two labels cannot be told apart.
    """
    return PATHS[field.kind](field, vocabulary, end_id)


def most_values(target: Target) -> int:
    """Returns the most values that a target may have if all of them are to be scored."""
    limits = [PATHS[field.kind].MOST_VALUES for field in target.fields.values()]
    return min(limit for limit in [*limits, MAX_RECORDS] if limit is not None)


def num_values(target: Target) -> int:
    """Returns how many values a target has."""
    return math.prod(field.num_values for field in target.fields.values())


def is_enumerable(target: Target) -> bool:
    """Returns whether a target's values are few enough to score all of them; labels always are."""
    fields = target.fields.values()
    if len(fields) > 1 and num_values(target) > MAX_RECORDS:
        return False
    limits = [(field.num_values, PATHS[field.kind].MOST_VALUES) for field in fields]
    return all(limit is None or number <= limit for number, limit in limits)
