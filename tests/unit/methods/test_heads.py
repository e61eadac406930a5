"""What heads learn: standardized numbers, or their standardized logarithms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predgen.methods.heads import Scale, field_heads, scale_of, truth_of
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Record
from predgen.warning_kinds import FarNumbersWarning

PROPERTY = settings(max_examples=60)
WIDE = Number(1e-9, 1e12, 2, form="scientific", logarithmic=True)
PLAIN = Number(0.0, 1e12, 2)


@PROPERTY
@given(st.lists(st.floats(1e-9, 1e12), min_size=2, max_size=10), st.booleans())
def test_heads_learn_standardized_logarithms_and_answer_in_the_targets_unit(
    values: list[float], standardize: bool
) -> None:
    scale = scale_of(WIDE, values, standardize=standardize)
    assume(scale.low is None and scale.high is None)  # far answers have tests of their own, below
    logarithms = np.log10(values)
    if standardize:
        assert scale.mean == pytest.approx(logarithms.mean(), abs=1e-9)
        assert scale.deviation == pytest.approx(logarithms.std() or 1.0)
    else:
        assert (scale.mean, scale.deviation) == (0.0, 1.0)
        assert scale.constant_loss == pytest.approx(logarithms.std() ** 2 or 1.0)
    truth = truth_of(WIDE, values, [scale])
    expected = (logarithms - scale.mean) / scale.deviation
    np.testing.assert_allclose(truth[:, 0].numpy(), expected.astype(np.float32), rtol=1e-5, atol=1e-5)
    (head,) = field_heads(WIDE, [scale])
    answers = head.predictions(truth)
    assert answers.dtype == torch.float64
    np.testing.assert_allclose(answers.numpy(), values, rtol=1e-4)  # the truth is float32
    assert not head.loss(truth, truth).any()


def test_an_answer_beyond_all_floats_is_the_largest_power_and_clipped_later() -> None:
    (head,) = field_heads(WIDE, [Scale(0.0, 1.0)])
    found = head.predictions(torch.tensor([[400.0], [-400.0], [3.0]])).tolist()
    assert found == [1e308, 0.0, pytest.approx(1000.0)]
    assert [WIDE.clip(one) for one in found[:2]] == [1e12, 1e-9]
    assert WIDE.clip(WIDE.unlearned(400.0)) == 1e12
    assert found[1:] == pytest.approx([WIDE.unlearned(one) for one in (-400.0, 3.0)])


def test_an_output_that_is_no_number_has_no_answer() -> None:
    (head,) = field_heads(WIDE, [Scale(0.0, 1.0)])
    found = head.predictions(torch.tensor([[float("inf")], [float("nan")], [float("-inf")]])).tolist()
    assert all(math.isnan(one) for one in found)


def test_other_numbers_are_learned_as_they_are() -> None:
    scale = scale_of(PLAIN, [1.0, 3.0])
    assert (scale.mean, scale.deviation) == (2.0, 1.0)
    truth = truth_of(PLAIN, [1.0, 3.0], [scale])
    assert truth.tolist() == [[-1.0], [1.0]]
    assert field_heads(PLAIN, [scale])[0].predictions(truth).tolist() == [1.0, 3.0]


def test_the_mean_of_a_numbers_quantiles_is_its_answer() -> None:
    scale = scale_of(PLAIN, [1.0, 3.0])
    record = Record({"plain": PLAIN, "mood": Label(("a", "b"), ("bad", "good"))})
    plain, mood = field_heads(record, [scale, Scale()], "quantiles")
    assert (plain.outputs, mood.outputs) == (slice(0, 10), slice(10, 12))
    assert not plain.squared_error
    assert field_heads(PLAIN, [scale], "huber")[0].squared_error
    assert plain.predictions(torch.arange(-4.5, 5.5).unsqueeze(0) + 1).tolist() == [3.0]


def test_a_records_fields_are_learned_each_in_its_own_way() -> None:
    record = Record({"wide": WIDE, "mood": Label(("a", "b"), ("bad", "good")), "plain": PLAIN})
    values: list[dict[str, Any]] = [
        {"wide": 1e-3, "mood": "a", "plain": 1.0},
        {"wide": 1e5, "mood": "b", "plain": 3.0},
    ]
    scales = [scale_of(field, [value[name] for value in values]) for name, field in record.fields.items()]
    truth = truth_of(record, values, scales)
    assert truth.tolist() == [[-1.0, 0.0, -1.0], [1.0, 1.0, 1.0]]
    wide, _, plain = field_heads(record, scales)
    assert wide.predictions(truth[:, wide.truth]).tolist() == pytest.approx([1e-3, 1e5])
    assert plain.predictions(truth[:, plain.truth]).tolist() == [1.0, 3.0]


def test_heads_learn_small_numbers_beside_one_huge_one() -> None:
    values = [*range(1, 200), 100_000_000_000]
    with pytest.warns(FarNumbersWarning, match="1 of 200 training answers are more than 100 interquartile ranges"):
        scale = scale_of(PLAIN, values)
    truth = truth_of(PLAIN, values, [scale])
    assert float(truth[:, 0].diff()[:-1].min()) > 1e-3  # a step of 1 is far above float32's resolution
    # Quartiles 50.75 and 150.25: what lies beyond 150.25 + 100 · 99.5 is learned as if it lay there.
    assert (scale.low, scale.high) == (None, pytest.approx(10_100.25))
    (head,) = field_heads(PLAIN, [scale])
    np.testing.assert_allclose(head.predictions(truth), [*range(1, 200), 10_100.25], rtol=1e-4)


@PROPERTY
@given(st.lists(st.floats(1, 1000, allow_subnormal=False), min_size=4, max_size=30), st.integers(1, 20))
def test_usual_numbers_have_no_bounds(values: list[float], times: int) -> None:
    # Whatever half of the numbers does, the others are at most ten of its ranges away.
    spread = [*values, *np.linspace(1, 1000, 20 * len(values))] * times
    scale = scale_of(PLAIN, spread)
    assert (scale.low, scale.high) == (None, None)
    assert scale.mean == pytest.approx(np.mean(spread))


def test_numbers_of_which_half_are_one_keep_their_spread() -> None:
    scale = scale_of(PLAIN, [0.0] * 9 + [1e9])
    assert (scale.low, scale.high) == (None, None)
    assert scale.mean == pytest.approx(1e8)
