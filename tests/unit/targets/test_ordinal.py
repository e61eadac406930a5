"""Labels of a declared order: their order, their cumulative head, and the metrics of their ranks."""

import math

import numpy as np
import pytest
import torch

from predgen.errors import ConfigError
from predgen.measures.kinds import measure_of
from predgen.methods.heads import field_heads, scale_of, truth_of
from predgen.targets.declared import Declared
from predgen.targets.kinds import field_from_json
from predgen.targets.ordinal import Ordinal

GRADES = Ordinal(("poor", "fair", "good", "best"), ("poor", "fair", "good", "best"))


def test_the_order_is_the_declared_one_and_values_are_those_of_the_cells() -> None:
    field = Ordinal.infer([3, 1, 3], Declared(labels=("3", "2", "1"), label_text={"1": "low"}))
    assert field.values == (3, "2", 1)  # no cell says that 2 is a number
    assert field.words == ("3", "2", "low")
    assert field_from_json(field.to_json()) == field
    codes = Ordinal.infer(["b", "a"], Declared(labels=("b", "a"), label_codes=True))
    assert (codes.values, codes.words) == (("b", "a"), ("A", "B"))
    with pytest.raises(ConfigError, match=r"labels of an ordinal target in their order, found none\. .*--labels"):
        Ordinal.infer(["b", "a"], Declared())


def test_probabilities_are_differences_of_falling_shares() -> None:
    (head,) = field_heads(GRADES, [scale_of(GRADES, ["poor", "good"])])
    assert head.num_outputs(GRADES) == 3
    outputs = torch.tensor([[0.5, -1.0, 2.0], [-3.0, 0.0, 0.3]], dtype=torch.float64)
    probabilities = head.predictions(outputs)
    for row, (first, *steps) in zip(probabilities.tolist(), outputs.tolist(), strict=True):
        logits = [first]
        for step in steps:
            logits.append(logits[-1] - math.log1p(math.exp(step)))
        above = [1.0, *(1 / (1 + math.exp(-logit)) for logit in logits), 0.0]
        assert row == pytest.approx([above[rank] - above[rank + 1] for rank in range(4)], abs=1e-12)
    truth = truth_of(GRADES, ["fair", "best"], [head.scale])
    expected = [-math.log(probabilities[0, 1]), -math.log(probabilities[1, 3])]
    assert head.loss(outputs, truth).tolist() == pytest.approx(expected)


def test_extreme_outputs_have_finite_losses_and_gradients() -> None:
    (head,) = field_heads(GRADES, [scale_of(GRADES, ["poor", "good"])])
    outputs = torch.tensor([[200.0, -200.0, 200.0]] * 4 + [[-200.0, 200.0, -200.0]] * 4, requires_grad=True)
    loss = head.loss(outputs, truth_of(GRADES, list(GRADES.values) * 2, [head.scale])).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(loss.detach()))
    assert outputs.grad is not None
    assert bool(outputs.grad.isfinite().all())
    assert torch.autograd.gradcheck(
        lambda free: head.loss(free, truth_of(GRADES, ["fair", "best"], [head.scale]).double()),
        torch.randn(2, 3, dtype=torch.float64, requires_grad=True),
    )


def test_the_answer_is_the_median_rank() -> None:
    (head,) = field_heads(GRADES, [scale_of(GRADES, ["poor", "good"])])
    shares = torch.tensor([[0.4, 0.2, 0.15, 0.25], [0.1, 0.1, 0.2, 0.6], [0.5, 0.0, 0.0, 0.5]])
    assert head.values(shares) == ["fair", "best", "poor"]


def test_metrics_of_ranks() -> None:
    measure = measure_of(GRADES)
    truth, answers = (
        measure.as_array(["poor", "fair", "good", "best"]),
        measure.as_array(["poor", "good", None, "poor"]),
    )
    metrics = measure.metrics(truth, answers, None, None)
    # An invalid answer is as far off as can be.
    assert metrics["mae_ranks"] == (0 + 1 + 3 + 3) / 4
    assert metrics["accuracy"] == 0.25
    # Weights (i − j)² over the valid answers: ranks 0, 1, 3 answered by 0, 2, 0.
    observed = (0 + 1 + 9) / 3
    expected = np.mean([(i - j) ** 2 for i in (0, 1, 3) for j in (0, 2, 0)])
    assert metrics["quadratic_kappa"] == pytest.approx(1 - observed / expected)
    same = measure.as_array(["fair", "fair"])
    assert math.isnan(measure.metrics(same, same, None, None)["quadratic_kappa"])
    assert tuple(measure.metrics(truth, truth, np.eye(4), None)) == measure.names
