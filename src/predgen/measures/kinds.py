"""The measure of each kind of field, by the kind's name."""

from typing import Any

from predgen.measures.base import Measure
from predgen.measures.date import DateMeasure
from predgen.measures.distribution import DistributionMeasure
from predgen.measures.label import LabelMeasure
from predgen.measures.label_set import LabelSetMeasure
from predgen.measures.number import NumberMeasure
from predgen.measures.ordinal import OrdinalMeasure
from predgen.targets.field import Field

MEASURES: dict[str, type[Measure[Any]]] = {
    "number": NumberMeasure,
    "date": DateMeasure,
    "label": LabelMeasure,
    "ordinal": OrdinalMeasure,
    "set": LabelSetMeasure,
    "distribution": DistributionMeasure,
}


def measure_of(field: Field) -> Measure[Any]:
    """Returns what measures a field."""
    return MEASURES[field.kind](field)
