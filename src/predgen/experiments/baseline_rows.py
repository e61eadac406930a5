"""What every baseline of a comparison is given, and what becomes of it: a row beside the methods, or left out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from predgen.config import RunConfig
from predgen.experiments.baselines import BaselineResult, Texts, mean_or_majority, tfidf_linear
from predgen.experiments.results import MethodResult
from predgen.measures.base import Measure
from predgen.measures.kinds import measure_of
from predgen.models.model import Model
from predgen.models.scored import Scored, ScoredField
from predgen.names import BASELINES
from predgen.targets.record import field_values
from predgen.training.preparing import Prepared
from predgen.training.runs import Finished
from predgen.training.training_run import untrained_config, untrained_model

log = logging.getLogger("predgen")


class LeftOut(Exception):
    """A baseline does not apply; its text says why."""


@dataclass(frozen=True)
class Given:
    """What every baseline is given. It lives as long as the baselines are computed.

    Attributes:
        config: the settings that all methods share.
        prepared: the table.
        table: the rows that figures are of.
        truth: their values.
        finished: the figures that are finished.
    """

    config: RunConfig
    prepared: Prepared
    table: pd.DataFrame
    truth: list[Any]
    finished: Finished

    @cached_property
    def untrained_config(self) -> RunConfig:
        """The settings of the language model as it is."""
        return untrained_config(self.config, self.prepared.target)

    @cached_property
    def untrained(self) -> Model:
        """The language model as it is, loaded once for all baselines that ask it."""
        return untrained_model(self.untrained_config, self.prepared)


def baseline_results(given: Given, names: Sequence[str]) -> dict[str, MethodResult]:
    """Returns the results of some baselines; one that does not apply is left out, and it is said why.

    Args:
        given: what they are given.
        names: some of `predgen.names.BASELINES`.

    Raises:
        UnknownNameError: there is no such baseline.
        BackboneError: one asks the language model, which cannot be loaded.
    """
    results: dict[str, MethodResult] = {}
    for name in names:
        row: Callable[[Given], MethodResult] = BASELINES.load(name)
        try:
            results[name] = row(given)
        except LeftOut as reason:
            log.warning("Left out the baseline '%s': %s", name, reason)
    return results


def mean_or_majority_row(given: Given) -> MethodResult:
    """Returns the result of the best answer that is the same for every row."""
    num_rows, weights = len(given.table), given.prepared.train_weights
    return _by_field(given, lambda measure, train, _: mean_or_majority(measure, train, weights, num_rows=num_rows))


def tfidf_linear_row(given: Given) -> MethodResult:
    """Returns the result of a linear model on TF-IDF features, tuned on the validation part."""
    columns, splits = list(given.prepared.template.fields), given.prepared.splits
    texts: list[Texts] = [
        [tuple(map(str, row)) for row in part.loc[:, columns].itertuples(index=False)]
        for part in (splits.train, splits.validation, given.table)
    ]
    seed, weights = given.config.train.seed, given.prepared.train_weights

    def answer(measure: Measure[Any], train: np.ndarray, validation: np.ndarray) -> BaselineResult:
        return tfidf_linear(measure, texts[0], train, texts[1], validation, texts[2], weights, seed=seed)

    return _by_field(given, answer)


def _by_field(given: Given, answer: Callable[[Measure[Any], np.ndarray, np.ndarray], BaselineResult]) -> MethodResult:
    """Returns the result of a baseline that answers a record's fields one by one.

    Args:
        given: what it is given.
        answer: answers the test rows from a field's measure, its training values and its validation values, both as
            `Measure.learned` returns them.
    """
    prepared, target = given.prepared, given.prepared.target
    fields: dict[str, ScoredField] = {}
    train_seconds = predict_seconds = 0.0
    for name, field in target.fields.items():
        measure = measure_of(field)
        train, validation, truth = (
            measure.as_array(field_values(target, values, name))
            for values in (prepared.train_values, prepared.validation_values, given.truth)
        )
        result = answer(measure, measure.learned(train), measure.learned(validation))
        fields[name] = ScoredField.of(field, truth, measure.unlearned(result.values), result.probabilities)
        train_seconds += result.train_seconds
        predict_seconds += result.predict_seconds
    return MethodResult([Scored(fields)], train_seconds, len(given.table) / max(predict_seconds, 1e-9))
