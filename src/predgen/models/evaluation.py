"""How well a model does on rows whose answers are known."""

from dataclasses import dataclass
from typing import Any

from predgen.measures.metrics import json_number


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on rows whose answers are known.

    Attributes:
        metrics: by name, over the rows with a valid answer (an invalid label counts as wrong).
        ci95: the 95 % interval of each, from a bootstrap over the rows.
        rows: how many rows.
        invalid_fraction: the share of answers that are no value of the target.
        examples_per_second: rows answered per second, tokenization included.
        warnings: what a reader of the figures must know.
        reliability: of labels, as `predgen.measures.metrics.reliability` returns it, with a record's `field`; empty
            for numbers.
    """

    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    rows: int
    invalid_fraction: float
    examples_per_second: float
    warnings: tuple[str, ...] = ()
    reliability: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values; a metric that is not defined is null."""
        return {
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "ci95": {name: [json_number(low), json_number(high)] for name, (low, high) in self.ci95.items()},
            "rows": self.rows,
            "invalid_fraction": self.invalid_fraction,
            "examples_per_second": self.examples_per_second,
            "warnings": list(self.warnings),
            "reliability": list(self.reliability),
        }
