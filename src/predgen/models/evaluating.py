"""Metrics and calibrations from rows whose answers are known: each row is tokenized once."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from predgen.codec.kinds import is_enumerable
from predgen.errors import ConfigError, DataError
from predgen.measures.abstaining import is_wrong, risk_metrics
from predgen.measures.base import metric_of
from predgen.measures.calibration import Calibration, doubt_about
from predgen.measures.number import crps, spread_metrics
from predgen.measures.statistics import bootstrap_interval
from predgen.measures.weighted import mean_of
from predgen.methods import Answers
from predgen.models.abstention import abstaining_facts, errors_of, sureness, which_answered
from predgen.models.answer_warnings import warn_of_answers
from predgen.models.asked import Asked
from predgen.models.encoding import encode_rows
from predgen.models.scored import BOOTSTRAP_SEED, Evaluation, Scored, ScoredField, intervals, score
from predgen.models.thresholds import threshold_facts
from predgen.tables.joined import joined_table, spread_of_annotators
from predgen.tables.reading import TableLike, read_table
from predgen.tables.values import target_columns, unseen_labels, values_of, weights_in
from predgen.warning_kinds import UnseenLabelsWarning, warn

if TYPE_CHECKING:
    from predgen.models.model import Model

# Rows that are answered once more, to see how long the answers alone take.
TIMED_ROWS = 128


def evaluation_of(model: "Model", rows: TableLike, asked: Asked, *, weight: str | None = None) -> Evaluation:
    """Returns a model's metrics; see `Model.evaluate`, whose arguments these are.

    Args:
        model: the model.
        rows: the rows.
        asked: the level of intervals and sets, and the risk of the answered rows.
        weight: the column of the rows' weights; None where all count alike.
    """
    asked.check(model)
    read, weights = _weighed(read_table(rows), weight)
    spread = spread_of_annotators(model.config.data, read) if model.target.numeric else None
    table, columns = answered_table(model, read)
    truth = values_of(model.target, table, columns)
    unseen = unseen_labels(model.target, truth, table, columns)
    if unseen:
        warn(UnseenLabelsWarning(unseen))
    spreads = bool(_scored_distributions(model)) or asked.abstain_risk is not None
    untempered, answers, seconds = _timed(model, table, distributions=spreads)
    scored = replace(score(model.target, truth, answers), weights=weights)
    metrics, ci95 = scored.metrics(), intervals(scored)
    if answers.valid_mass is not None:
        metrics["valid_mass"] = mean_of(answers.valid_mass.double().numpy(), weights)
    by_row = _coverage_by_row(model, scored, asked.interval) | _crps_by_row(model, scored, answers)
    if by_row:
        metrics |= {name: mean_of(values, weights) for name, values in by_row.items()}
        ci95 |= bootstrap_interval(partial(_means, by_row, weights), len(truth), seed=BOOTSTRAP_SEED)
    facts = {**({} if weight is None else {"weight": weight}), **threshold_facts(model.contents)}
    metric_rows = scored.rows_behind()
    if asked.abstain_risk is not None:
        answered = which_answered(model, untempered, asked)
        wrong = is_wrong(errors_of(next(iter(scored.fields.values()))), asked.abstain_error)
        risks = partial(risk_metrics, wrong, answered, weights)
        metrics |= risks(np.arange(len(truth)))
        ci95 |= bootstrap_interval(risks, len(truth), seed=BOOTSTRAP_SEED)
        metric_rows |= {} if answered.all() else {"risk_answered": int(answered.sum())}
        facts |= abstaining_facts(model, asked)
    if spread is not None:
        deviations = answers.by_field[0].deviations
        of_spread = partial(spread_metrics, spread, None if deviations is None else deviations.numpy())
        metrics |= of_spread(np.arange(len(spread)))
        ci95 |= bootstrap_interval(of_spread, len(spread), seed=BOOTSTRAP_SEED)
    return Evaluation(
        metrics=metrics,
        ci95=ci95,
        rows=len(table),
        invalid_fraction=scored.invalid_fraction,
        examples_per_second=len(table) / seconds,
        warnings=(unseen,) if unseen else (),
        reliability=scored.reliability(),
        metric_rows=metric_rows,
        per_label=scored.per_label(),
        facts=facts,
    )


def _weighed(table: pd.DataFrame, column: str | None) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Returns the rows that count, and their weights; None where all count alike.

    Raises:
        DataError: a weight is none, or all are 0.
        UnknownNameError: there is no such column.
    """
    if column is None:
        return table, None
    weights = weights_in(table, column)
    counts = weights > 0
    if not counts.any():
        raise DataError(
            f"Expected a row with a weight above 0 in the column '{column}', found none. Give some of them one."
        )
    return table[counts], weights[counts]


def _means(by_row: Mapping[str, np.ndarray], weights: np.ndarray | None, drawn: np.ndarray) -> dict[str, float]:
    """Returns the means of what each row has, over some rows."""
    of_drawn = None if weights is None else weights[drawn]
    return {name: mean_of(values[drawn], of_drawn) for name, values in by_row.items()}


def timed_answers(model: "Model", table: pd.DataFrame, *, distributions: bool = False) -> tuple[Answers, float]:
    """Returns the answers for a table's rows, with the probabilities of labels, and the seconds they took.

    Rows are tokenized and answered once. Probabilities that cost more than the answers themselves are not in the
    seconds, as users of the answers do not wait for them: then the seconds are those that some rows take without them.

    Args:
        model: the model.
        table: the rows.
        distributions: also return the deviations and quantiles of the Writer's distributions of numbers.
    """
    _, answers, seconds = _timed(model, table, distributions=distributions)
    return answers, seconds


def _timed(model: "Model", table: pd.DataFrame, *, distributions: bool) -> tuple[Answers, Answers, float]:
    """Returns the answers before and after tempering, and the seconds, as `timed_answers`."""
    has_labels = any(not field.numeric for field in model.target.fields.values())
    start = time.perf_counter()
    encoded = encode_rows(model.method, model.contents, table)
    tokenized = time.perf_counter()
    asked = Asked(probabilities=has_labels or distributions)
    untempered = model.untempered_answers(encoded, asked)
    answers = model.tempered(untempered)
    seconds = time.perf_counter() - tokenized
    if asked.probabilities and not (has_labels and model.method.free_probabilities):
        some = encoded.some(TIMED_ROWS)
        begun = time.perf_counter()
        model.answers(some)
        seconds = (time.perf_counter() - begun) * len(table) / len(some.prompts)
    warn_of_answers(model, encoded, answers, asked)
    return untempered, answers, tokenized - start + seconds


def calibrations_from(model: "Model", rows: TableLike) -> dict[str, Calibration]:
    """Returns what calibration rows teach, by the field's name; see `Model.calibrate`.

    Args:
        model: the model.
        rows: rows that nothing was chosen on.

    Raises:
        ConfigError: there are only sets of labels.
        DataError: an input or an answer is missing, or there are too few rows.
    """
    table, columns = answered_table(model, read_table(rows))
    truth = values_of(model.target, table, columns)
    has_labels = any(not field.numeric for field in model.target.fields.values())
    encoded = encode_rows(model.method, model.contents, table)
    # Without an old temperature in them.
    spread = has_labels or model.method.writes
    (answers,) = model.answers_each(encoded, [model.contents.answering], Asked(probabilities=spread, std=spread))
    warn_of_answers(model, encoded, answers, Asked())
    scores = sureness(model, answers) if len(model.target.fields) == 1 else None
    by_field = {
        name: _with_pairs(field.measure.calibrate(field.truth, field.predicted, field.probabilities), scores, field)
        for name, field in score(model.target, truth, answers).fields.items()
    }
    calibrations = {name: calibration for name, calibration in by_field.items() if calibration is not None}
    if not calibrations:
        raise ConfigError(
            "Expected a number or a label to calibrate, found sets of labels alone, whose thresholds are tuned on "
            "the validation part. Leave the calibration out."
        )
    for name, calibration in calibrations.items():
        doubt = doubt_about(calibration)
        if doubt is not None:
            warn(type(doubt)(f"'{name}': {doubt}") if name else doubt)
    return calibrations


def _with_pairs(calibration: Calibration | None, scores: np.ndarray | None, field: ScoredField) -> Calibration | None:
    """Returns a calibration with how sure each answer was and how wrong, which abstaining needs."""
    if calibration is None or scores is None:
        return calibration
    return replace(calibration, sureness=tuple(scores.tolist()), errors=tuple(errors_of(field).tolist()))


def answered_table(model: "Model", table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns a table whose columns of one target are joined as they were in training, and the target's columns.

    Args:
        model: the model.
        table: rows whose answers are known.

    Raises:
        DataError: a cell of a target's columns is not what it must be.
        UnknownNameError: one is missing.
    """
    settings = model.config.data
    table = joined_table(settings, table, numeric=model.target.numeric)
    return table, target_columns(settings.target, table)


def _coverage_by_row(model: "Model", scored: Scored, level: float | None) -> dict[str, np.ndarray]:
    """Returns for each row whether its interval or set holds the truth, and how large it is, by the metric's name."""
    by_row: dict[str, np.ndarray] = {}
    for name, field in scored.fields.items():
        if level is not None and name in model.contents.calibrations:
            calibration = model.contents.calibrations[name]
            covered = field.measure.covered(calibration, level, field.truth, field.predicted, field.probabilities)
            by_row |= {metric_of(name, metric): rows for metric, rows in covered.items()}
    return by_row


def _scored_distributions(model: "Model") -> list[tuple[int, str]]:
    """Returns the index and the name of each field whose written distribution has a score of its own."""
    return [
        (field_index, name)
        for field_index, (name, field) in enumerate(model.target.fields.items())
        if field.numeric and model.method.writes and is_enumerable(field)
    ]


def _crps_by_row(model: "Model", scored: Scored, answers: Answers) -> dict[str, np.ndarray]:
    """Returns the score of the Writer's distribution in each row, by the metric's name."""
    by_row = {}
    for field_index, name in _scored_distributions(model):
        quantiles = answers.by_field[field_index].quantiles
        assert quantiles is not None  # asked for with the answers
        by_row[metric_of(name, "crps")] = crps(scored.fields[name].truth, quantiles.numpy())
    return by_row
