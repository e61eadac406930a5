"""Answers beside the truth, as metrics and tests take them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from predgen.measures.metrics import (
    EXACT_MATCH,
    RELATIVE_ERROR,
    json_number,
    label_metrics,
    log_metrics,
    metric_of,
    number_metrics,
    per_row_losses,
    relative_error,
    set_metrics,
)
from predgen.measures.statistics import bootstrap_interval
from predgen.methods import Answers
from predgen.targets.label import Label
from predgen.targets.label_set import member_table
from predgen.targets.number import Number
from predgen.targets.record import ALONE, Field, Record, Target, field_values, metric_kind

BOOTSTRAP_SEED = 0
# The loss of `exact_match`: 1 where an answer is not the truth.
INEXACT = "inexact"
# The metrics that are means of per-row losses, the loss of each, and the sign that turns the loss into the metric.
TESTED: dict[str, dict[str, tuple[str, int]]] = {
    "number": {"mse": ("squared_error", 1), "mae": ("absolute_error", 1), EXACT_MATCH: (INEXACT, -1)},
    "logarithmic": {"mse_log10": ("squared_log_error", 1), "mae": ("absolute_error", 1), EXACT_MATCH: (INEXACT, -1)},
    "label": {"accuracy": ("error", -1), "log_loss": ("log_loss", 1)},
    "set": {"jaccard": ("jaccard_error", -1), "hamming_loss": ("hamming", 1)},
}
# The metrics that are no means over rows: tested by a paired bootstrap.
CORRELATIONS: dict[str, tuple[str, ...]] = {
    "number": ("pearson", "spearman"),
    "logarithmic": ("spearman",),
    "label": (),
    "set": (),
}
NUMBERS: dict[str, Callable[..., dict[str, float]]] = {"number": number_metrics, "logarithmic": log_metrics}
LABELS: dict[str, Callable[..., dict[str, float]]] = {"label": label_metrics, "set": set_metrics}


@runtime_checkable
class AnyScored(Protocol):
    """The answers of a target of any kind beside the truth."""

    @property
    def num_rows(self) -> int:
        """How many rows."""
        ...

    @property
    def invalid_fraction(self) -> float:
        """The share of invalid answers."""
        ...

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The metrics that paired tests compare: for each its loss, and the sign that makes the metric of it."""
        ...

    @property
    def correlations(self) -> tuple[str, ...]:
        """The metrics that are correlations."""
        ...

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, of some rows or of all."""
        ...

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns the answers as JSON holds them."""
        ...


@dataclass(frozen=True)
class Scored:
    """The answers of one field as arrays beside the truth.

    Attributes:
        kind: `number`, `logarithmic`, `label` or `set`.
        truth: numbers; label positions with −1 for a label never seen in training; or sets as `set_metrics` takes them.
            The first axis is the row.
        predicted: the same with NaN, −1, or 1 in the last column, for an invalid answer.
        probabilities: of each label, shape (row, label), or None.
        right: of a number: whether the answer is the truth as far as the target's decimals go, shape (row,).
    """

    kind: str
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None
    right: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.truth)

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, of some rows or of all."""
        part = slice(None) if rows is None else rows
        if self.kind in NUMBERS:
            right = None if self.right is None else self.right[part]
            return NUMBERS[self.kind](self.truth[part], self.predicted[part], right)
        probabilities = None if self.probabilities is None else self.probabilities[part]
        return LABELS[self.kind](self.truth[part], self.predicted[part], probabilities)

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row."""
        losses = per_row_losses(self.kind, self.truth, self.predicted, self.probabilities)
        return losses if self.right is None else losses | {INEXACT: 1.0 - self.right}

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The metrics that paired tests compare: for each its loss, and the sign that makes the metric of it."""
        return {name: one for name, one in TESTED[self.kind].items() if name != EXACT_MATCH or self.right is not None}

    @property
    def correlations(self) -> tuple[str, ...]:
        """The metrics that are correlations."""
        return CORRELATIONS[self.kind]

    @property
    def invalid(self) -> np.ndarray:
        """Which answers are invalid, shape (row,)."""
        if self.kind == "set":
            return np.asarray(self.predicted[:, -1] > 0)
        return np.isnan(self.predicted) if self.kind in NUMBERS else np.asarray(self.predicted < 0)

    @property
    def invalid_fraction(self) -> float:
        """The share of invalid answers."""
        return float(self.invalid.mean())

    def to_json(self) -> dict[str, Any]:
        """Returns the answers as JSON holds them."""
        predicted = self.predicted.tolist()
        return {
            "predicted": predicted if self.kind == "set" else [json_number(float(value)) for value in predicted],
            "probabilities": None if self.probabilities is None else self.probabilities.tolist(),
        }


@dataclass(frozen=True)
class ScoredRecord:
    """The answers of a record beside the truth.

    Attributes:
        fields: those of each field by its name.
    """

    fields: Mapping[str, Scored]

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return next(iter(self.fields.values())).num_rows

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns each field's metrics after its name and a point, and first `relative_error`.

        That is the mean over the fields of `predgen.measures.metrics.relative_error`, those left out whose truth is
        constant.
        """
        part = slice(None) if rows is None else rows
        relative = [relative_error(one.kind, one.truth[part], one.predicted[part]) for one in self.fields.values()]
        defined = [value for value in relative if np.isfinite(value)]
        found = {RELATIVE_ERROR: float(np.mean(defined)) if defined else float("nan")}
        for name, one in self.fields.items():
            found |= {metric_of(name, metric): value for metric, value in one.metrics(rows).items()}
        return found

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row, each after its field's name."""
        return {metric_of(name, loss): rows for name, one in self.fields.items() for loss, rows in one.losses().items()}

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The metrics that paired tests compare: for each its loss, and the sign that makes the metric of it."""
        return {
            metric_of(name, metric): (metric_of(name, loss), sign)
            for name, one in self.fields.items()
            for metric, (loss, sign) in one.tested.items()
        }

    @property
    def correlations(self) -> tuple[str, ...]:
        """The metrics that are correlations."""
        return tuple(metric_of(name, metric) for name, one in self.fields.items() for metric in one.correlations)

    @property
    def invalid_fraction(self) -> float:
        """The share of rows with an invalid answer."""
        return float(np.any([one.invalid for one in self.fields.values()], axis=0).mean())

    def to_json(self) -> dict[str, Any]:
        """Returns the answers as JSON holds them."""
        return {"fields": {name: one.to_json() for name, one in self.fields.items()}}


def intervals(scored: AnyScored) -> dict[str, tuple[float, float]]:
    """Returns the 95 % interval of each metric, from a bootstrap over the rows."""
    return bootstrap_interval(scored.metrics, scored.num_rows, seed=BOOTSTRAP_SEED)


def score(target: Target, truth: Sequence[Any], answers: Answers) -> Scored | ScoredRecord:
    """Returns answers and truth as arrays.

    Args:
        target: what is predicted.
        truth: the true values; None for a label never seen in training.
        answers: the answers, in the order of the truth.
    """
    if isinstance(target, Record):
        return ScoredRecord(
            {
                name: score_field(field, field_values(target, truth, name), one)
                for (name, field), one in zip(target.fields.items(), answers.fields, strict=True)
            }
        )
    return score_field(target, truth, answers)


def score_field(field: Field, truth: Sequence[Any], answers: Answers) -> Scored:
    """Returns the answers of one field as arrays; the arguments are those of `score`."""
    probabilities = None if answers.probabilities is None else answers.probabilities.double().numpy()
    return scored_field(field, encoded(field, truth), encoded(field, answers.values), probabilities)


def scored_field(field: Field, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> Scored:
    """Returns the answers of one field beside the truth.

    Args:
        field: what is predicted.
        truth: as `Scored` holds it, like all that follow.
        predicted: see there.
        probabilities: see there.
    """
    right = None
    if isinstance(field, Number):
        # What would be written of both: the same digits, whatever the form and the range.
        pairs = zip(truth.tolist(), predicted.tolist(), strict=True)
        right = np.array([np.isfinite(b) and field.to_text(a) == field.to_text(b) for a, b in pairs], dtype=bool)
    return Scored(metric_kind(field), truth, predicted, probabilities, right)


def encoded(field: Field, values: Sequence[Any]) -> np.ndarray:
    """Returns a field's values as `Scored` holds them; None is an unseen label or an invalid answer."""
    if isinstance(field, Number):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if isinstance(field, Label):
        found = [None if value is None else field.index(value) for value in values]
        return np.array([-1 if position is None else position for position in found], dtype=np.int64)
    last = np.array([value is None or None in value for value in values], dtype=np.float64)
    return np.column_stack([member_table(field, [value or () for value in values]), last])


def scored_from_json(target: Target, truth: Sequence[Any], data: Mapping[str, Any]) -> Scored | ScoredRecord:
    """Returns what `to_json` described, beside the truth."""

    def one(field: Field, values: Sequence[Any], found: Mapping[str, Any]) -> Scored:
        predicted = [np.nan if value is None else value for value in found["predicted"]]
        probabilities = found["probabilities"]
        return scored_field(
            field,
            encoded(field, values),
            np.array(predicted, dtype=np.int64 if isinstance(field, Label) else np.float64),
            None if probabilities is None else np.array(probabilities, dtype=np.float64),
        )

    if not isinstance(target, Record):
        return one(target, truth, data)
    return ScoredRecord(
        {
            name: one(field, field_values(target, truth, name), data["fields"][name])
            for name, field in target.fields.items()
        }
    )


def fields_scored(scored: Scored | ScoredRecord) -> dict[str, Scored]:
    """Returns the answers of each field by its name."""
    return dict(scored.fields) if isinstance(scored, ScoredRecord) else {ALONE: scored}


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
