"""The Writer's loss against a plain loop, and the joined losses against their closed forms and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.methods.losses import (
    TokenLoss,
    UncertaintyWeights,
    expected_value_loss,
    huber_loss,
    join_at_means,
    join_of,
    label_loss,
    number_loss,
    number_token_loss,
    quantile_loss,
    smoothed_digits,
    wdal_smooth,
    writer_loss,
)
from predgen.names import JOINS, WRITER_LOSSES

PROPERTY = settings(max_examples=200)
LOSS = st.floats(1e-6, 1e6)
# The losses of the package, whose closed forms stand below; what holds of any loss is asked of the whole table.
NAMES = ("wdal_stable", "wdal", "wdal_smooth", "sum", "uncertainty")
TOKEN_LOSSES = [name for name, loss in WRITER_LOSSES.items() if not loss.scores_all]


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)


def join_losses(name: str, writer: Tensor, director: Tensor) -> Tensor:
    join = join_of(name, squared_error=True)
    return join.to(writer.dtype)(writer, director) if isinstance(join, UncertaintyWeights) else join(writer, director)


def value_of(name: str, a: float, b: float, dtype: torch.dtype = torch.float64) -> float:
    return float(join_losses(name, scalar(a, dtype), scalar(b, dtype)).detach())


def gradients(name: str, writer: Tensor, director: Tensor) -> tuple[float, float]:
    first, second = torch.autograd.grad(join_losses(name, writer, director), (writer, director))
    return float(first), float(second)


# ── Joined losses ────────────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(a=LOSS, b=LOSS)
def test_wdal_is_the_papers_formula_and_the_product(a: float, b: float) -> None:
    papers = max(a**2, b**2) * math.exp(-abs(math.log(a) - math.log(b)))
    assert papers == pytest.approx(a * b, rel=1e-9)
    assert value_of("wdal", a, b) == pytest.approx(a * b, rel=1e-9)


@PROPERTY
@given(a=LOSS, b=LOSS, tie=st.booleans())
def test_wdal_weighs_each_part_by_the_other_loss(a: float, b: float, tie: bool) -> None:
    b = a if tie else b
    assert gradients("wdal", scalar(a), scalar(b)) == pytest.approx((b, a), rel=1e-9)


def test_a_part_whose_partner_is_gone_learns_nothing_by_wdal_but_by_the_stable_form() -> None:
    assert gradients("wdal", scalar(3.0), scalar(1e-12))[0] == pytest.approx(1e-12)
    assert gradients("wdal_stable", scalar(3.0), scalar(1e-12))[0] == pytest.approx(1.25)


@PROPERTY
@given(a=st.floats(0, 1e6), b=st.floats(0, 1e6))
def test_wdal_stable_is_its_closed_form_and_its_gradients_never_die(a: float, b: float) -> None:
    assert value_of("wdal_stable", a, b) == pytest.approx(
        math.log(1 + a) + math.log(1 + b) + (1 + a) * (1 + b), rel=1e-9
    )
    found = gradients("wdal_stable", scalar(a), scalar(b))
    assert min(found) >= 1
    assert found == pytest.approx((1 / (1 + a) + 1 + b, 1 / (1 + b) + 1 + a), rel=1e-9)


@PROPERTY
@given(a=st.floats(0, 1e6), b=st.floats(0, 1e6))
def test_sum(a: float, b: float) -> None:
    assert value_of("sum", a, b) == a + b
    assert gradients("sum", scalar(a), scalar(b)) == (1, 1)
    weighted = join_of("sum", squared_error=False, writer_weight=0.25)
    assert weighted(scalar(a), scalar(b)).item() == pytest.approx(0.25 * a + b)


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize(("a", "b"), [(0.3, 2.0), (2.0, 0.3), (1e-2, 1e-1), (5.0, 4.0), (20.0, 0.05)])
def test_gradients_are_those_of_finite_differences(name: str, a: float, b: float) -> None:
    assert torch.autograd.gradcheck(lambda *losses: join_losses(name, *losses), (scalar(a), scalar(b)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (1e-30, 1e-30), (1e-38, 30.0)])
def test_a_loss_of_zero_is_finite(name: str, a: float, b: float, dtype: torch.dtype) -> None:
    expected = {
        "sum": a + b,
        "uncertainty": a + b / 2,
        "wdal": a * b,
        "wdal_smooth": (a**2 + b**2) * min(a, b) / max(a, b, 1e-300),
        "wdal_stable": math.log1p(a) + math.log1p(b) + (1 + a) * (1 + b),
    }[name]
    assert value_of(name, a, b, dtype) == pytest.approx(expected, rel=1e-5, abs=1e-36)
    found = gradients(name, scalar(a, dtype), scalar(b, dtype))
    assert all(math.isfinite(one) for one in found)
    if name == "wdal_stable":
        assert min(found) >= 1


def test_the_names_are_different_losses() -> None:
    expected = [math.log(1.5) + math.log(3) + 4.5, 1.0, (0.25 + 4) / 4, 2.5, 1.5]
    assert [value_of(name, 0.5, 2.0) for name in NAMES] == pytest.approx(expected)


@PROPERTY
@given(a=st.floats(1e-3, 1e3), b=st.floats(1e-3, 1e3), sharpness=st.floats(0.5, 50))
def test_wdal_smooth_lies_above_wdal_by_at_most_its_bound(a: float, b: float, sharpness: float) -> None:
    smooth = float(wdal_smooth(scalar(a), scalar(b), sharpness=sharpness).detach())
    power = (a ** (2 * sharpness) + b ** (2 * sharpness)) ** (1 / sharpness) if sharpness <= 10 else None
    if power is not None:
        assert smooth == pytest.approx(power * min(a, b) / max(a, b), rel=1e-6)
    assert a * b * (1 - 1e-9) <= smooth <= a * b * 2 ** (1 / sharpness) * (1 + 1e-9)


@pytest.mark.parametrize("squared_error", [True, False])
def test_uncertainty_weights_settle_where_each_part_is_divided_by_its_loss(squared_error: bool) -> None:
    weights = UncertaintyWeights(squared_error=squared_error).double()
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weights(torch.tensor(0.3, dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64))
        loss.backward()
        return loss

    optimizer.step(closure)
    # Setting the derivative to zero gives exp(s) = 2 c L.
    expected = [2 * 0.3, 2 * 5.0 * (0.5 if squared_error else 1.0)]
    assert weights.log_variances.exp().tolist() == pytest.approx(expected, rel=1e-5)


@PROPERTY
@given(
    st.sampled_from(list(JOINS)),
    st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9), st.integers(1, 5)), min_size=1),
)
def test_joined_at_the_means_the_parts_add_up_to_the_whole_batchs_gradient(
    name: str, parts: list[tuple[float, float, int]]
) -> None:
    total = sum(count for *_, count in parts)
    whole = [scalar(sum(part[which] * part[2] for part in parts) / total) for which in (0, 1)]
    wanted = gradients(name, *whole)
    join = join_of(name, squared_error=True)
    if isinstance(join, UncertaintyWeights):
        join = join.double()
    found = [0.0, 0.0]
    for first, second, count in parts:
        writer, director = scalar(first), scalar(second)
        joined = join_at_means(join, writer, director, (whole[0], whole[1]))
        assert float(joined.detach()) == pytest.approx(
            value_of(name, *(float(one.detach()) for one in whole)), rel=1e-9
        )
        for which, one in enumerate(torch.autograd.grad(joined, (writer, director))):
            found[which] += float(one) * count / total
    assert found == pytest.approx(wanted, rel=1e-9)


@PROPERTY
@given(st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=2, max_size=4))
def test_linear_joins_alone_commute_with_averaging(parts: list[tuple[float, float]]) -> None:
    means = [sum(part[which] for part in parts) / len(parts) for which in (0, 1)]
    for name in (name for name, join in JOINS.items() if join.is_linear):
        averaged = sum(value_of(name, *part) for part in parts) / len(parts)
        assert averaged == pytest.approx(value_of(name, *means), rel=1e-9)
    averaged = (value_of("wdal_stable", 1.0, 3.0) + value_of("wdal_stable", 3.0, 1.0)) / 2
    assert averaged != pytest.approx(value_of("wdal_stable", 2.0, 2.0), rel=1e-3)


# ── The parts ────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def written(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Returns log-probabilities, gold symbols and which positions count; −inf stands where none counts."""
    batch, target, symbols = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    logits = 3 * torch.randn(batch, target, symbols, generator=generator, dtype=torch.float64)
    gold = torch.randint(symbols, (batch, target), generator=generator)
    counted = torch.rand(batch, target, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    log_probabilities = logits.log_softmax(-1)
    log_probabilities[~counted] = float("-inf")
    return log_probabilities, gold, counted


def writer_loss_by_rows(log_probabilities: Tensor, gold: Tensor, counted: Tensor) -> float:
    rows = []
    for probabilities, symbols, kept in zip(log_probabilities.tolist(), gold.tolist(), counted.tolist(), strict=True):
        losses = [-row[symbol] for row, symbol, one in zip(probabilities, symbols, kept, strict=True) if one]
        rows.append(sum(losses) / len(losses) if losses else 0.0)
    return sum(rows) / len(rows)


@PROPERTY
@given(written())
def test_writer_loss_is_the_mean_of_each_examples_mean(case: tuple[Tensor, Tensor, Tensor]) -> None:
    assert float(writer_loss(*case).mean()) == pytest.approx(writer_loss_by_rows(*case), rel=1e-12, abs=1e-12)


@PROPERTY
@given(written())
def test_writer_loss_of_a_batch_is_the_mean_of_its_parts(case: tuple[Tensor, Tensor, Tensor]) -> None:
    parts = [writer_loss(*(one[row : row + 1] for one in case)).mean() for row in range(len(case[1]))]
    assert float(writer_loss(*case).mean()) == pytest.approx(float(torch.stack(parts).mean()), rel=1e-12, abs=1e-12)


@PROPERTY
@given(written())
def test_writer_loss_moves_the_counted_gold_symbols_alone(case: tuple[Tensor, Tensor, Tensor]) -> None:
    log_probabilities, gold, counted = case
    log_probabilities.requires_grad_(True)
    (found,) = torch.autograd.grad(writer_loss(log_probabilities, gold, counted).mean(), log_probabilities)
    expected = torch.zeros_like(found)
    for row, position in counted.nonzero().tolist():
        expected[row, position, gold[row, position]] = -1 / (len(gold) * int(counted[row].sum()))
    torch.testing.assert_close(found, expected)


def test_number_loss_is_the_squared_error() -> None:
    found = number_loss(torch.tensor([[1.0], [-2.0], [0.5]]), torch.tensor([[0.0], [1.0], [0.5]]))
    assert found.tolist() == pytest.approx([1, 9, 0])


def test_huber_loss_is_squared_up_to_one_and_straight_beyond() -> None:
    found = huber_loss(torch.tensor([[0.5], [-2.0], [1.0]]), torch.tensor([[0.0], [1.0], [1.0]]))
    assert found.tolist() == pytest.approx([0.25, 2 * 3 - 1, 0])


def test_the_constant_with_the_least_quantile_loss_is_the_quantiles() -> None:
    numbers = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    levels = (torch.arange(10) + 0.5) / 10
    best = torch.quantile(numbers[:, 0], levels)
    loss = float(quantile_loss(best.expand(len(numbers), -1), numbers).mean())
    assert loss == pytest.approx(1.0, abs=0.01)  # of a normal distribution
    for level in range(10):
        for step in (-0.1, 0.1):
            other = best.clone()
            other[level] += step
            assert float(quantile_loss(other.expand(len(numbers), -1), numbers).mean()) > loss


def test_one_quantile_is_the_median() -> None:
    found = quantile_loss(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [-3.0]]))
    # ½ |e|, divided by the density of a normal distribution at its median.
    assert found.tolist() == pytest.approx([0.5 * math.sqrt(2 * math.pi), 1.5 * math.sqrt(2 * math.pi)])


def test_label_loss_is_the_cross_entropy() -> None:
    logits, truth = [[1.0, 2.0, -1.0], [0.0, 0.0, 3.0]], [1, 0]
    expected = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, truth, strict=True)]
    assert label_loss(torch.tensor(logits), torch.tensor(truth)).tolist() == pytest.approx(expected)


# ── Losses that know that digits are numbers ─────────────────────────────────────────────────────────────────

DIGITS = torch.tensor([math.nan, *map(float, range(10)), math.nan], dtype=torch.float64)  # a point, 0 … 9, the end
ALL = torch.ones(12, dtype=torch.bool)


def scores_of(*rows: dict[int, float]) -> Tensor:
    """Returns log-probabilities of one example, a position for each row; symbols that are not named have none."""
    table = torch.zeros(1, len(rows), 12, dtype=torch.float64)
    for position, row in enumerate(rows):
        for symbol, probability in row.items():
            table[0, position, symbol] = probability
    return table.log()


def test_number_token_loss_is_the_mean_distance_over_the_digit_positions() -> None:
    # Gold: 3 . 7 — half the mass on 3, half on 5; then on the point; then 0.2 on 7, 0.1 on 9, the rest on the end.
    scores = scores_of({4: 0.5, 6: 0.5}, {0: 1.0}, {8: 0.2, 10: 0.1, 11: 0.7})
    gold, counted = torch.tensor([[4, 0, 8]]), torch.tensor([[True, False, True]])
    found = number_token_loss(scores, gold, counted, DIGITS)
    assert float(found) == pytest.approx((0.5 * 2 + (1 / 3) * 2) / 2)
    loss = TokenLoss("number_token", weight=0.5)(scores, gold, counted, ALL.expand(1, 3, 12), DIGITS)
    assert float(loss) == pytest.approx(float(writer_loss(scores, gold, counted)) + 0.5 * float(found))


def test_number_token_loss_prefers_near_digits_where_the_cross_entropy_sees_no_difference() -> None:
    gold, counted = torch.tensor([[4]]), torch.tensor([[True]])
    near, far = scores_of({4: 0.4, 5: 0.6}), scores_of({4: 0.4, 10: 0.6})
    assert float(writer_loss(near, gold, counted)) == float(writer_loss(far, gold, counted))
    assert number_token_loss(near, gold, counted, DIGITS) < number_token_loss(far, gold, counted, DIGITS)


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_token_losses_have_finite_gradients_whatever_is_not_allowed(name: str) -> None:
    logits = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    allowed = torch.zeros(2, 3, 12, dtype=torch.bool)
    allowed[:, 0, 1:5], allowed[:, 1, 0], allowed[0, 2, [1, 11]], allowed[1, 2, :] = True, True, True, True
    gold = torch.tensor([[2, 0, 11], [4, 0, 0]])
    counted = torch.tensor([[True, False, True], [True, False, False]])
    logits.requires_grad_(True)
    scores = logits.masked_fill(~allowed, float("-inf")).log_softmax(-1)
    loss = TokenLoss(name)(scores, gold, counted, allowed, DIGITS).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(float(loss.detach()))
    assert bool(gradient.isfinite().all())
    assert bool((gradient[~allowed] == 0).all())
    assert bool((gradient[:, 1] == 0).all())
    assert float(gradient[0, 0].abs().max()) > 0


@PROPERTY
@given(st.integers(0, 9), st.sets(st.integers(0, 9)), st.floats(0.2, 5))
def test_smoothed_digits_are_a_gaussian_over_the_allowed_ones(gold: int, others: set[int], deviation: float) -> None:
    allowed = torch.zeros(1, 1, 12, dtype=torch.bool)
    for digit in {gold, *others}:
        allowed[0, 0, digit + 1] = True
    found = smoothed_digits(allowed, torch.tensor([[gold + 1]]), DIGITS, deviation=deviation)[0, 0].tolist()
    weights = {digit: math.exp(-((digit - gold) ** 2) / (2 * deviation**2)) for digit in {gold, *others}}
    for digit in range(10):
        assert found[digit + 1] == pytest.approx(weights.get(digit, 0.0) / sum(weights.values()), abs=1e-9)
    assert found[0] == found[11] == 0


def test_what_is_no_digit_is_not_smoothed_and_a_small_deviation_is_the_cross_entropy() -> None:
    allowed = ALL.expand(1, 2, 12)
    gold, counted = torch.tensor([[11, 4]]), torch.tensor([[True, True]])
    target = smoothed_digits(allowed, gold, DIGITS, deviation=0.5)[0, 0]
    assert target.tolist() == [0.0] * 11 + [1.0]
    scores = torch.randn(1, 2, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(-1)
    loss = TokenLoss("smoothed_digits", deviation=0.01)(scores, gold, counted, allowed, DIGITS)
    assert float(loss) == pytest.approx(float(writer_loss(scores, gold, counted)))


def test_expected_value_loss_is_the_squared_error_of_the_mean_whatever_the_spread() -> None:
    numbers = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)
    scores = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.25, 0.0, 0.75, 0.0]]).log() + 3.0  # up to a constant
    truth = torch.tensor([0.0, 1.0])
    found = expected_value_loss(scores, numbers, truth, mean=1.5, deviation=2.0)
    # Means 1.5 in both rows: 0 standardized.
    assert found.tolist() == pytest.approx([0.0, 1.0])
