"""Distributions of numbers: moments and quantiles equal those of a plain list of outcomes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from predgen.config import build_config
from predgen.errors import ConfigError
from predgen.measures.base import distribution_of_samples
from predgen.measures.date import DateMeasure
from predgen.measures.distributions import ESTIMATE_OF_METRIC, ROUNDING, NumberDistribution
from predgen.measures.kinds import measure_of
from predgen.measures.number import LOG_METRICS
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number


def distribution(*rows: dict[float, float]) -> NumberDistribution:
    """Returns the distribution of rows over the same numbers."""
    numbers = sorted({number for row in rows for number in row})
    table = torch.tensor([[row.get(number, 0.0) for number in numbers] for row in rows], dtype=torch.float64)
    return NumberDistribution.of_all(table.log(), torch.tensor(numbers, dtype=torch.float64))


def test_the_estimates_of_a_lopsided_distribution() -> None:
    found = distribution({0.0: 0.4, 1.0: 0.3, 2.0: 0.1, 10.0: 0.2}, {0.0: 0.0, 1.0: 1.0})
    assert found.mode().tolist() == [0.0, 1.0]
    assert found.mean().tolist() == pytest.approx([0.3 + 0.2 + 2.0, 1.0])
    assert found.estimate("median").tolist() == [1.0, 1.0]
    assert found.estimate("0.4").tolist() == [0.0, 1.0]  # reached exactly
    assert found.estimate("0.41").tolist() == [1.0, 1.0]
    assert found.estimate("0.85").tolist() == [10.0, 1.0]
    assert found.deviation().tolist() == pytest.approx([math.sqrt(0.3 * 1 + 0.1 * 4 + 0.2 * 100 - 2.5**2), 0.0])
    assert found.covered.tolist() == [1.0, 1.0]


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_each_estimate_is_the_best_answer_to_its_metric(scores: list[float], share: float) -> None:
    numbers = torch.linspace(-3, 4, len(scores), dtype=torch.float64)
    found = NumberDistribution.of_all(torch.tensor([scores], dtype=torch.float64), numbers)
    weights, values = found.probabilities[0].numpy(), numbers.numpy()

    def loss(answer: float, name: str) -> float:
        errors = values - answer
        losses = {
            "mean": errors**2,
            "median": np.abs(errors),
            "quantile": np.maximum(share * errors, (share - 1) * errors),
        }
        return float((weights * losses[name]).sum())

    for name, answer in (
        ("mean", float(found.mean())),
        ("median", float(found.estimate("median"))),
        ("quantile", float(found.quantile(share))),
    ):
        best = min(loss(float(other), name) for other in np.linspace(-3, 4, 141))
        assert loss(answer, name) <= best + 1e-9


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(1, 30))
def test_the_quantiles_are_those_of_each_share(scores: list[float], number: int) -> None:
    numbers = torch.linspace(-3, 4, len(scores), dtype=torch.float64)
    found = NumberDistribution.of_all(torch.tensor([scores, scores[::-1]], dtype=torch.float64), numbers)
    shares = [(one + 0.5) / number for one in range(number)]
    expected = [
        [float(numbers[np.argmax(row.cumsum() >= share - ROUNDING)]) for share in shares]
        for row in found.probabilities.numpy()
    ]
    assert found.quantiles(number).tolist() == expected
    assert found.quantiles_at(shares[::-1]).tolist() == [row[::-1] for row in expected]


def test_a_row_without_probabilities_has_no_quantiles() -> None:
    broken = torch.tensor([[0.25, 0.75], [math.nan, math.nan]]).double().log()
    found = NumberDistribution.of_all(broken, torch.tensor([1.0, 2.0]).double()).quantiles_at([0.2, 0.3])
    assert found[0].tolist() == [1.0, 2.0]
    assert found[1].isnan().all()


def test_the_geometric_mean_and_samples() -> None:
    found = NumberDistribution.of_all(
        torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([1.0, 100.0, 10000.0]).double()
    )
    assert found.estimate("geometric_mean").tolist() == [pytest.approx(10 ** (0.25 * 2 + 0.25 * 4))]
    rows = [[3.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 5.0]]
    drawn = distribution_of_samples(measure_of(Number(0.0, 5.0, 0)), rows, torch.device("cpu")).distribution
    assert drawn is not None
    assert drawn.mode().tolist() == [3.0, 1.0]
    assert drawn.mean().tolist() == [2.25, 2.0]
    labels = distribution_of_samples(
        measure_of(Label(("a", "b"), ("a", "b"))), [["a", "b", "a", "a"]], torch.device("cpu")
    )
    assert labels.probabilities is not None
    assert labels.probabilities.tolist() == [[0.75, 0.25]]
    sets = distribution_of_samples(
        measure_of(LabelSet(("a", "b"), ("a", "b"))), [[("a",), ("a", "b"), (), ("a",)]], torch.device("cpu")
    )
    assert sets.probabilities is not None
    assert sets.probabilities.tolist() == [[0.75, 0.25]]


def test_every_metric_of_numbers_has_its_estimate() -> None:
    assert set(ESTIMATE_OF_METRIC) == {*LOG_METRICS, *DateMeasure.NAMES}


@pytest.mark.parametrize(("given", "kept"), [("mean", "mean"), (0.9, "0.9"), ("0.25", "0.25"), ("text", "text")])
def test_an_estimate_is_a_name_or_a_quantile(given: object, kept: str) -> None:
    config = build_config({"data": "x.csv", "target": "y", "estimate": given})
    assert config.model.estimate == kept


@pytest.mark.parametrize("given", ["average", 0, 1, 1.5, -0.1, True, "nan"])
def test_what_is_no_estimate_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"estimate: .*or a quantile between 0 and 1"):
        build_config({"data": "x.csv", "target": "y", "estimate": given})
