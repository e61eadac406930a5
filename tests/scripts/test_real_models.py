"""The tables of the three methods on real models, from finished cells."""

from typing import Any

import numpy as np
import pytest
from scripts.studies import real_models

from predgen import Label, Number
from predgen.models.scored import ScoredField


def cells(task: str, losses: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Two seeds of each method, whose rows' losses are given for the first seed and 1 more for the second."""
    return [
        {
            "backbone": "nano",
            "task": task,
            "method": method,
            "metrics": {name: float(seed) for name in real_models.SHOWN[task]},
            "losses": {real_models.LOSSES[task]: [value + seed for value in values]},
            "train_seconds": 2.0 + seed,
        }
        for method, values in losses.items()
        for seed in (0, 1)
    ]


def test_a_table_has_means_over_seeds_and_tests_over_rows() -> None:
    text = real_models.test_tables(cells("stsb", {"predictor": [1.0] * 20, "predgen": [3.0] * 20}))
    assert "| nano, stsb | mse | pearson | 95 % interval of mse | seconds |" in text
    assert "| predictor | 0.500 ± 0.707 | 0.500 ± 0.707 | 1.500 … 1.500 | 2.500 |" in text
    assert "| predictor − predgen | -2.000 | 0.0001 |" in text


@pytest.mark.parametrize("task", real_models.TASKS)
def test_each_task_is_tested_by_the_loss_whose_mean_its_metric_is(task: str) -> None:
    if "low" in real_models.TASKS[task]:
        field = ScoredField.of(Number(0.0, 5.0, decimals=1), np.array([1.0, 2.0]), np.array([1.5, 4.0]), None)
    else:
        answers = np.array([[0.9, 0.1], [0.6, 0.4]])
        field = ScoredField.of(Label(("no", "yes"), ("no", "yes")), np.array([0, 1]), np.array([0, 0]), answers)
    metric = field.metrics()[real_models.METRICS[task]]
    assert field.losses()[real_models.LOSSES[task]].mean() == pytest.approx(metric)
