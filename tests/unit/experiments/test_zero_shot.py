"""Contextual calibration, by hand."""

import pytest
import torch

from predgen.experiments.zero_shot import calibrated


def test_probabilities_are_divided_by_those_without_inputs_and_by_their_sum() -> None:
    with_inputs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], dtype=torch.float64)
    without = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    found = calibrated(with_inputs.log(), without.log()).exp()
    # 0.6/0.5, 0.3/0.25, 0.1/0.25 = 1.2, 1.2, 0.4 of 2.8; and 0.4, 0.8, 2.4 of 3.6.
    expected = [[1.2 / 2.8, 1.2 / 2.8, 0.4 / 2.8], [0.4 / 3.6, 0.8 / 3.6, 2.4 / 3.6]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_empty_input_itself_is_answered_with_equal_probabilities() -> None:
    without = torch.tensor([[0.5, 0.2, 0.2, 0.1]], dtype=torch.float64).log()
    torch.testing.assert_close(calibrated(without, without).exp(), torch.full((1, 4), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("shift", [-700.0, 0.0, 40.0])
def test_constants_of_a_row_and_far_values_change_nothing(shift: float) -> None:
    scores = torch.tensor([[-900.0, -901.0, -1000.0]], dtype=torch.float64)
    without = torch.tensor([[-2.0, -300.0, -3.0]], dtype=torch.float64)
    found = calibrated(scores + shift, without - shift)
    torch.testing.assert_close(found, calibrated(scores, without))
    assert found.logsumexp(dim=1).item() == pytest.approx(0)
    assert found.argmax().item() == 1
