"""The results of a comparison: metrics with intervals, the spread over seeds, paired tests of every pair."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from predgen.config import RunConfig
from predgen.measures.base import json_number
from predgen.measures.statistics import (
    bootstrap,
    bootstrap_p_value,
    holm,
    paired_difference_interval,
    paired_permutation,
    percentile_interval,
)
from predgen.models.scored import BOOTSTRAP_SEED, Scored

# What a method cost, in the JSON of a comparison.
COSTS = ("train_seconds", "predict_examples_per_second", "invalid_fraction")


@dataclass(frozen=True)
class MethodResult:
    """One method's answers on the test rows, a list entry for each seed.

    Attributes:
        scored: answers and truth, for each seed.
        train_seconds: mean over the seeds; None where it is not known.
        predict_examples_per_second: median over the seeds; None where it is not known.
    """

    scored: Sequence[Scored]
    train_seconds: float | None
    predict_examples_per_second: float | None

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns the metrics, averaged over the seeds."""
        each = [scored.metrics(rows) for scored in self.scored]
        return {name: float(np.mean([metrics[name] for metrics in each])) for name in each[0]}

    def losses(self) -> dict[str, np.ndarray]:
        """Returns the losses of each row, averaged over the seeds: rows, not seeds, are the unit of the tests."""
        each = [scored.losses() for scored in self.scored]
        return {name: np.mean([losses[name] for losses in each], axis=0) for name in each[0]}

    @cached_property
    def resampled(self) -> dict[str, np.ndarray]:
        """The metrics over resamples of the rows, the same draws for all methods of a comparison."""
        return bootstrap(self.metrics, self.scored[0].num_rows, seed=BOOTSTRAP_SEED)

    @property
    def invalid_fraction(self) -> float:
        """The share of invalid answers, averaged over the seeds."""
        return float(np.mean([scored.invalid_fraction for scored in self.scored]))


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        methods: the result of each method, the baselines first.
        part: which rows the figures are of: `test`, or `validation` where there is no test part; `matched` of files.
        config: the settings that all methods shared; None of files.
        tuned: the settings that were chosen for each method, where they were tuned.
        against: the one method that all others are tested against; None tests every pair.
    """

    methods: dict[str, MethodResult]
    part: str
    config: RunConfig | None
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    against: str | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The methods that are tested against each other."""
        if self.against is None:
            return list(itertools.combinations(self.methods, 2))
        return [(name, self.against) for name in self.methods if name != self.against]

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each method: metrics, the ends of their intervals (`<metric>_low`, `_high`), and costs."""
        rows = {}
        for name, result in self.to_json()["methods"].items():
            cells: dict[str, Any] = {}
            for metric, value in result["metrics"].items():
                low, high = result["ci95"].get(metric, (None, None))
                cells |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
            rows[name] = cells | {cost: result[cost] for cost in COSTS}
        return pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis("method")

    def tests_frame(self) -> pd.DataFrame:
        """Returns a row for each paired test: `a`, `b`, `metric`, `difference`, `low`, `high`, `p_value`, `p_holm`."""
        tests = [
            {
                **{name: cell for name, cell in test.items() if name != "ci95"},
                "low": test["ci95"][0],
                "high": test["ci95"][1],
            }
            for test in self.to_json()["tests"]
        ]
        names = ["a", "b", "metric", "difference", "low", "high", "p_value", "p_holm"]
        return pd.DataFrame(tests, columns=names)

    def _repr_html_(self) -> str:
        """Returns the methods as notebooks show them."""
        return str(self.to_frame().to_html(float_format="{:.4g}".format))

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values: `methods` with their metrics, and the paired `tests`."""
        return {
            "methods": {
                name: _method_json(result) | ({"tuned": self.tuned[name]} if name in self.tuned else {})
                for name, result in self.methods.items()
            },
            "tests": _corrected(
                [test for a, b in self.pairs for test in _tests(a, self.methods[a], b, self.methods[b])]
            ),
            "rows": next(iter(self.methods.values())).scored[0].num_rows,
            "part": self.part,
            "config": self.config and self.config.model_dump(mode="json", exclude={"model": {"method"}}),
        }


def _method_json(result: MethodResult) -> dict[str, Any]:
    intervals = {name: percentile_interval(values) for name, values in result.resampled.items()}
    return {
        "metrics": {name: json_number(value) for name, value in result.metrics().items()},
        "ci95": {name: [json_number(low), json_number(high)] for name, (low, high) in intervals.items()},
        "train_seconds": result.train_seconds,
        "predict_examples_per_second": result.predict_examples_per_second,
        "invalid_fraction": result.invalid_fraction,
        "seed_deviation": _seed_deviation(result),
        "seeds": [{name: json_number(value) for name, value in scored.metrics().items()} for scored in result.scored],
    }


def _seed_deviation(result: MethodResult) -> dict[str, float | None]:
    """Returns the standard deviation of each metric over the seeds; None where one seed tells none."""
    each = [scored.metrics() for scored in result.scored]
    return {
        name: json_number(float(np.std([metrics[name] for metrics in each], ddof=1))) if len(each) > 1 else None
        for name in each[0]
    }


def _corrected(tests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the tests with `p_holm`: corrected over the pairs, for each metric apart."""
    for metric in {test["metric"] for test in tests}:
        of_metric = [test for test in tests if test["metric"] == metric]
        for test, corrected in zip(of_metric, holm([test["p_value"] for test in of_metric]), strict=True):
            test["p_holm"] = corrected
    return tests


def _tests(a: str, first: MethodResult, b: str, second: MethodResult) -> list[dict[str, Any]]:
    """Returns the paired tests of two methods over the rows that both answered validly."""
    losses_a, losses_b = first.losses(), second.losses()
    tests = []
    for metric, (loss, sign) in first.scored[0].tested.items():
        if loss not in losses_a or loss not in losses_b:
            continue
        both = np.isfinite(losses_a[loss]) & np.isfinite(losses_b[loss])
        if not both.any():
            continue
        valid_losses_a, valid_losses_b = sign * losses_a[loss][both], sign * losses_b[loss][both]
        low, high = paired_difference_interval(valid_losses_a, valid_losses_b, seed=BOOTSTRAP_SEED)
        tests.append(
            {
                "a": a,
                "b": b,
                "metric": metric,
                "difference": float((valid_losses_a - valid_losses_b).mean()),
                "ci95": [low, high],
                "p_value": paired_permutation(valid_losses_a, valid_losses_b, seed=BOOTSTRAP_SEED),
            }
        )
    for metric in first.scored[0].correlations:
        test = _correlation_test(a, first, b, second, metric)
        if test is not None:
            tests.append(test)
    return tests


def _correlation_test(a: str, first: MethodResult, b: str, second: MethodResult, metric: str) -> dict[str, Any] | None:
    """Returns the paired bootstrap of two methods' correlations; None where one is not defined."""
    observed = first.metrics()[metric] - second.metrics()[metric]
    if not np.isfinite(observed):
        return None
    drawn = first.resampled[metric] - second.resampled[metric]
    low, high = percentile_interval(drawn)
    return {
        "a": a,
        "b": b,
        "metric": metric,
        "difference": observed,
        "ci95": [low, high],
        "p_value": bootstrap_p_value(drawn),
    }
