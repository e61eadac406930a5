"""The figures that the paper reports, as percent of right answers (Kowsher et al., ACL 2025, arXiv 2502.17817)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# What the average of a row is called among its figures; it is over the eight commonsense tasks.
AVERAGE = "average"
COMMONSENSE = (
    "boolq",
    "piqa",
    "social_i_qa",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
)


@dataclass(frozen=True)
class Reported:
    """One row of the paper's tables, as far as it is known here.

    Attributes:
        backbone: the hub id of the model.
        peft: how it was trained.
        method: predictor, generator or predgen.
        accuracy: percent by task, and `AVERAGE`.
    """

    backbone: str
    peft: str
    method: str
    accuracy: Mapping[str, float]


def _row(backbone: str, method: str, **accuracy: float) -> Reported:
    return Reported(backbone, "lora", method, MappingProxyType(accuracy))


_SMALLER, _LARGER = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf"
REPORTED: tuple[Reported, ...] = (
    _row(_SMALLER, "predictor", boolq=66.29, hellaswag=88.53, winogrande=70.49, arc_easy=75.27, average=73.49),
    _row(_SMALLER, "generator", boolq=68.09, hellaswag=90.86, winogrande=77.54, arc_easy=79.54, average=76.63),
    _row(_SMALLER, "predgen", boolq=73.82, hellaswag=93.14, winogrande=83.21, arc_easy=84.79, average=79.67),
    _row(_LARGER, "predictor", average=76.20),
    _row(_LARGER, "predgen", average=82.71),
)


def reported(backbone: str, peft: str, method: str) -> Mapping[str, float]:
    """Returns what the paper reports for a row; nothing where it reports none that is known here.

    Example:
        >>> reported("meta-llama/Llama-2-7b-hf", "lora", "predgen")["boolq"]
        73.82
    """
    for row in REPORTED:
        if (row.backbone, row.peft, row.method) == (backbone, peft, method):
            return row.accuracy
    return {}
