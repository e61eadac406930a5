"""Answers beside the truth, as metrics and tests take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from predgen.measures.base import Measure, json_number, metric_of
from predgen.measures.kinds import measure_of
from predgen.measures.metrics import RELATIVE_ERROR
from predgen.measures.number import INEXACT
from predgen.measures.statistics import bootstrap_interval
from predgen.methods import Answers
from predgen.targets.field import ALONE, Field
from predgen.targets.record import Target, field_values

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class ScoredField:
    """The answers of one field as arrays beside the truth.

    Attributes:
        measure: what the field's answers are worth.
        truth: as `Measure.as_array` returns it; the first axis is the row.
        predicted: the same for the answers.
        probabilities: of each label, shape (row, label), or None.
        exact: as `Measure.exact` returns it.
    """

    measure: Measure[Any]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    exact: np.ndarray | None = None

    @classmethod
    def of(
        cls, field: Field, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> "ScoredField":
        """Returns the answers of a field beside the truth; the arguments are the attributes."""
        measure = measure_of(field)
        return cls(measure, truth, predicted, probabilities, measure.exact(truth, predicted))

    @property
    def answers(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The answers and their probabilities."""
        return self.predicted, self.probabilities

    def metrics(self, rows: np.ndarray | None = None, weights: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, of some rows or of all.

        Args:
            rows: which ones; None for all.
            weights: of all rows; None where all count alike.
        """
        chosen = slice(None) if rows is None else rows
        arrays = (self.truth, self.predicted, self.probabilities, self.exact, weights)
        truth, predicted, probabilities, exact, counted = (None if array is None else array[chosen] for array in arrays)
        assert truth is not None
        assert predicted is not None
        return self.measure.metrics(truth, predicted, probabilities, exact, counted)

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row."""
        losses = self.measure.losses(self.truth, self.predicted, self.probabilities)
        return losses if self.exact is None else losses | {INEXACT: 1.0 - self.exact}

    @property
    def invalid(self) -> np.ndarray:
        """Which answers are invalid, shape (row,)."""
        return self.measure.invalid(self.predicted)

    def to_json(self) -> dict[str, Any]:
        """Returns the answers as JSON holds them."""
        return {
            "predicted": self.measure.to_json(self.predicted),
            "probabilities": None if self.probabilities is None else self.probabilities.tolist(),
        }


@dataclass(frozen=True)
class Scored:
    """The answers of a target beside the truth, field by field.

    Attributes:
        fields: those of each field by its name.
        weights: of the rows, above 0, which metrics are means by; None where all count alike.
    """

    fields: Mapping[str, ScoredField]
    weights: Float[np.ndarray, " row"] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.fields.values())).truth)

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, of some rows or of all; those of a record's field after its name and a point.

        Of a record `relative_error` comes first: the mean over the fields of `Measure.relative_error`, those left out
        whose truth is constant.
        """
        metrics: dict[str, float] = {}
        if len(self.fields) > 1:
            chosen = slice(None) if rows is None else rows
            counted = None if self.weights is None else self.weights[chosen]
            errors = [
                field.measure.relative_error(field.truth[chosen], field.predicted[chosen], counted)
                for field in self.fields.values()
            ]
            defined = [error for error in errors if np.isfinite(error)]
            metrics[RELATIVE_ERROR] = float(np.mean(defined)) if defined else float("nan")
        for name, field in self.fields.items():
            metrics |= {metric_of(name, metric): value for metric, value in field.metrics(rows, self.weights).items()}
        return metrics

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row; those of a record's field after its name and a point."""
        return {
            metric_of(name, loss): rows for name, field in self.fields.items() for loss, rows in field.losses().items()
        }

    def rows_behind(self) -> dict[str, int]:
        """Returns how many rows each metric is over that leaves some out, by the metric's name."""
        return {
            metric_of(name, metric): rows
            for name, field in self.fields.items()
            for metric, rows in field.measure.rows_behind(field.truth, field.predicted, field.probabilities).items()
            if rows < self.num_rows
        }

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """For each metric that paired tests compare: the row's loss, and the sign that turns it into the metric."""
        return {
            metric_of(name, metric): (metric_of(name, loss), sign)
            for name, field in self.fields.items()
            for metric, (loss, sign) in field.measure.tested.items()
        }

    @property
    def correlations(self) -> tuple[str, ...]:
        """The metrics that paired tests compare by a bootstrap."""
        return tuple(
            metric_of(name, metric) for name, field in self.fields.items() for metric in field.measure.correlations
        )

    @property
    def invalid_fraction(self) -> float:
        """The share of rows with an invalid answer."""
        return float(np.any([field.invalid for field in self.fields.values()], axis=0).mean())

    def reliability(self) -> tuple[dict[str, Any], ...]:
        """Returns confidence beside accuracy of the fields that are labels, with a record's `field`."""
        return tuple(
            {**({"field": name} if name != ALONE else {}), **line}
            for name, field in self.fields.items()
            for line in field.measure.reliability(field.truth, field.probabilities, self.weights)
        )

    def per_label(self) -> tuple[dict[str, Any], ...]:
        """Returns a row of figures for each label of the fields that are labels or sets, with a record's `field`."""
        return tuple(
            {**({"field": name} if name != ALONE else {}), **line}
            for name, field in self.fields.items()
            for line in field.measure.per_label(field.truth, field.predicted, field.probabilities, self.weights)
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the answers as JSON holds them; a record's under `fields`."""
        fields = {name: field.to_json() for name, field in self.fields.items()}
        return dict(fields.get(ALONE, {"fields": fields}))


def intervals(scored: Scored) -> dict[str, tuple[float, float]]:
    """Returns the 95 % interval of each metric, from a bootstrap over the rows."""
    return bootstrap_interval(scored.metrics, scored.num_rows, seed=BOOTSTRAP_SEED)


def score(target: Target, truth: Sequence[Any], answers: Answers) -> Scored:
    """Returns answers and truth as arrays.

    Args:
        target: what is predicted.
        truth: the true values; None for a label never seen in training.
        answers: the answers, in the order of the truth.
    """
    fields = {}
    for (name, field), answer in zip(target.fields.items(), answers.by_field, strict=True):
        measure = measure_of(field)
        fields[name] = ScoredField.of(
            field,
            measure.as_array(field_values(target, truth, name)),
            measure.as_array(answer.values),
            None if answer.probabilities is None else answer.probabilities.double().numpy(),
        )
    return Scored(fields)


def scored_from_json(target: Target, truth: Sequence[Any], data: Mapping[str, Any]) -> Scored:
    """Returns what `Scored.to_json` described, beside the truth."""
    fields = {}
    for name, field in target.fields.items():
        answers = data if name == ALONE else data["fields"][name]
        measure, probabilities = measure_of(field), answers["probabilities"]
        fields[name] = ScoredField.of(
            field,
            measure.as_array(field_values(target, truth, name)),
            measure.from_json(answers["predicted"]),
            None if probabilities is None else np.array(probabilities, dtype=np.float64),
        )
    return Scored(fields)


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
        reliability: of labels, as `predgen.measures.label.reliability` returns it, with a record's `field`; empty
            for numbers.
        metric_rows: how many rows a metric is over that leaves some out: rows of a label never seen, or without a
            valid answer. The other metrics are over all rows.
        per_label: of labels and sets, as `predgen.measures.per_label.label_table` returns it, with a record's `field`;
            empty for numbers.
        facts: what the figures hang on besides: the column of weights, the threshold.
    """

    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    rows: int
    invalid_fraction: float
    examples_per_second: float
    warnings: tuple[str, ...] = ()
    reliability: tuple[dict[str, Any], ...] = ()
    metric_rows: dict[str, int] = dataclass_field(default_factory=dict)
    per_label: tuple[dict[str, Any], ...] = ()
    facts: dict[str, Any] = dataclass_field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each metric: `value`, the ends `low` and `high` of its 95 % interval, and its `rows`."""
        rows = {
            name: [value, *self.ci95.get(name, (np.nan, np.nan)), self.metric_rows.get(name, self.rows)]
            for name, value in self.metrics.items()
        }
        names = ["value", "low", "high", "rows"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("metric")

    def _repr_html_(self) -> str:
        """Returns the metrics as notebooks show them."""
        return str(self.to_frame().to_html(float_format="{:.4g}".format))

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
            "metric_rows": self.metric_rows,
            "per_label": list(self.per_label),
            **self.facts,
        }
