"""Bounds, nearest neighbours and critics: against their definitions, another library, and known information."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from torch import Tensor

from predgen.errors import DataError, UnknownNameError
from predgen.information import BOUNDS, ESTIMATORS, Pairs, estimate, estimators, summary
from predgen.information.bounds import (
    CLIP,
    donsker_varadhan,
    even_weights,
    infonce,
    jensen_shannon,
    mine_gain,
    nwj,
    smile,
)
from predgen.information.critics import Critic
from predgen.information.exact import correlation_of
from predgen.information.neighbours import NEIGHBOURS, ksg, ross


def scores_of(rows: int, seed: int) -> Tensor:
    return 3 * torch.randn(rows, rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussians(rows: int, information: float, dimension: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    states, noise = (torch.randn(rows, dimension, generator=generator) for _ in range(2))
    correlation = correlation_of(information, dimension)
    return Pairs.of_vectors(states, correlation * states + math.sqrt(1 - correlation**2) * noise)


@given(st.integers(2, 9), st.integers(0, 99))
def test_the_bounds_are_those_of_their_papers(rows: int, seed: int) -> None:
    scores = scores_of(rows, seed)
    even = even_weights(scores)
    own = [float(scores[i, i]) for i in range(rows)]
    others = [float(scores[i, j]) for i in range(rows) for j in range(rows) if i != j]
    joint, apart = np.mean(own), np.mean(np.exp(others))
    assert float(donsker_varadhan(scores, even)) == pytest.approx(joint - np.log(apart))
    assert float(nwj(scores, even)) == pytest.approx(np.mean(np.array(own) + 1) - apart)
    clipped = np.mean(np.exp(np.clip(others, -CLIP, CLIP)))
    assert float(smile(scores, even)) == pytest.approx(joint - np.log(clipped))
    each = [own[i] - math.log(np.mean(np.exp(scores[i].numpy()))) for i in range(rows)]
    assert float(infonce(scores, even)) == pytest.approx(np.mean(each))
    softplus = np.mean(np.log1p(np.exp(-np.array(own)))) + np.mean(np.log1p(np.exp(others)))
    assert float(jensen_shannon(scores, even)) == pytest.approx(2 * math.log(2) - softplus)


@pytest.mark.parametrize("name", BOUNDS)
@given(rows=st.integers(2, 8), seed=st.integers(0, 99))
def test_every_bound_is_0_where_the_critic_says_nothing(name: str, rows: int, seed: int) -> None:
    bound, nothing = BOUNDS[name], torch.zeros(rows, rows, dtype=torch.float64)
    assert float(bound.value(nothing, even_weights(nothing))) == pytest.approx(0, abs=1e-12)
    assert float(bound.chosen_by(nothing, even_weights(nothing))) == pytest.approx(0, abs=1e-12)
    # No bound sees the order of the rows, nor how heavy all of them are together.
    scores, order = scores_of(rows, seed), torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    value = bound.value(scores, even_weights(scores))
    torch.testing.assert_close(bound.value(scores[order][:, order], even_weights(scores)), value)
    torch.testing.assert_close(bound.value(scores, 3 * even_weights(scores)), value)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_row_of_weight_two_counts_twice(name: str) -> None:
    scores = scores_of(5, 0)
    weights = torch.tensor([[2.0, 1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    # Its two copies are no pair apart: their answers belong together.
    total = weights.sum()
    joint = (weights[0] * scores.diagonal()).sum() / total
    seen = scores.clamp(-CLIP, CLIP) if name == "smile" else scores
    apart = sum(
        float(weights[0, i] * weights[0, j] * seen[i, j].exp()) for i in range(5) for j in range(5) if i != j
    ) / float(total**2 - (weights**2).sum())
    expected = joint + 1 - apart if name == "nwj" else joint - math.log(apart)
    if name == "infonce":  # a row's own answer once, and those of the others for the rest of the rows
        each = []
        for i in range(5):
            others = [(float(weights[0, j]), float(scores[i, j].exp())) for j in range(5) if j != i]
            mean = sum(weight * value for weight, value in others) / sum(weight for weight, _ in others)
            each.append(float(scores[i, i]) - math.log((float(scores[i, i].exp()) + 4 * mean) / 5))
        expected = sum(float(weights[0, i]) * each[i] for i in range(5)) / float(total)
    assert float(BOUNDS[name].value(scores, weights)) == pytest.approx(float(expected))


@given(st.integers(2, 30), st.integers(0, 99))
def test_infonce_cannot_pass_the_log_of_the_rows(rows: int, seed: int) -> None:
    scores = scores_of(rows, seed) + 1e3 * torch.eye(rows, dtype=torch.float64)
    assert float(infonce(scores, even_weights(scores))) <= math.log(rows) + 1e-9


def test_the_best_critic_gives_the_information() -> None:
    correlation = 0.8
    pairs = gaussians(1_500, -0.5 * math.log(1 - correlation**2), 1, 0)
    x, y = pairs.states[:, 0].double(), pairs.answers.double().T
    scores = -0.5 * math.log(1 - correlation**2) - (correlation**2 * (x**2 + y**2) - 2 * correlation * x * y) / (
        2 * (1 - correlation**2)
    )
    for name, bound in BOUNDS.items():
        value = float(bound.value(scores, even_weights(scores)))
        assert value == pytest.approx(-0.5 * math.log(1 - correlation**2), abs=0.06), name


def test_mines_gradient_has_the_mean_over_steps_in_its_denominator() -> None:
    scores = scores_of(6, 1).requires_grad_()
    log_average = 1.7
    (gradient,) = torch.autograd.grad(mine_gain(scores, log_average), scores)
    eye = torch.eye(6, dtype=torch.bool)
    expected = torch.where(eye, torch.tensor(1 / 6, dtype=torch.float64), -scores.exp() / 30 / math.exp(log_average))
    torch.testing.assert_close(gradient, expected.detach())


def test_neighbours_agree_with_another_library() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 1))
    y = x + 0.5 * rng.standard_normal((400, 1))
    theirs = mutual_info_regression(x, y[:, 0], n_neighbors=NEIGHBOURS, random_state=0)[0]
    assert ksg(x, y, rng) == pytest.approx(theirs, abs=1e-3)
    labels = (x[:, 0] + rng.standard_normal(400) > 0).astype(int)
    labels[0] = 7  # a label of one row has no neighbour
    theirs = mutual_info_classif(x, labels, n_neighbors=NEIGHBOURS, random_state=0)[0]
    assert ross(x, labels, rng) == pytest.approx(theirs, abs=1e-3)


def test_a_sequence_and_a_vector_have_the_same_critic() -> None:
    one, many = Critic(8, 2), Critic(8, 2)
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in many.parameters())
    states, answers = torch.randn(5, 3, 8), torch.randn(4, 2)
    mask = torch.tensor([[True] * 3, [True, True, False]] + [[True, False, False]] * 3)
    assert (one(states, mask, answers) == 0).all()  # a new critic says nothing
    for part in one.parameters():
        torch.nn.init.normal_(part, std=0.5)
    scores = one(states, mask, answers)
    assert scores.shape == (5, 4)
    changed = states.masked_fill(~mask.unsqueeze(2), 9.0)
    torch.testing.assert_close(one(changed, mask, answers), scores)  # padding is not read
    alone = one(states[2:, :1], mask[2:, :1], answers)
    torch.testing.assert_close(one(states[2:], mask[2:], answers), alone, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_find_what_is_there_and_nothing_where_nothing_is(name: str) -> None:
    learn, held_out = gaussians(4_000, 1.0, 2, 0), gaussians(1_500, 1.0, 2, 1)
    found = estimate(name, learn, held_out, 0)
    assert found.value == pytest.approx(1.0, abs=0.12)
    assert estimate(name, learn, held_out, 0, shuffle=True).value == pytest.approx(0, abs=0.05)
    assert estimate(name, learn, held_out, 0).value == found.value  # the same seed, the same estimate


@pytest.mark.parametrize("name", ["infonce", "neighbours"])
def test_labels_are_found_and_bounded_by_their_entropy(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(900, 3, generator=generator)
    pairs = Pairs(states.unsqueeze(1), torch.ones(900, 1, dtype=torch.bool), _one_hot(states[:, 1] > 0), labels=True)
    learn, held_out = pairs.rows(torch.arange(600)), pairs.rows(torch.arange(600, 900))
    value = estimate(name, learn, held_out, 0, max_steps=300).value
    assert 0.35 < value <= math.log(2) + 0.02
    assert estimate(name, learn, held_out, 0, shuffle=True).value == pytest.approx(0, abs=0.08)


def test_a_critic_finds_the_position_that_matters() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1_200, 4, 2, generator=generator)
    lengths = torch.randint(3, 5, (1_200,), generator=generator)
    mask = torch.arange(4) < lengths.unsqueeze(1)
    pairs = Pairs(states, mask, _one_hot(states[:, 2, 0] > 0), labels=True)
    learn, held_out = pairs.rows(torch.arange(800)), pairs.rows(torch.arange(800, 1_200))
    whole = estimate("infonce", learn, held_out, 0, max_steps=400).value
    means = [
        Pairs((part.states * part.mask.unsqueeze(2)).sum(dim=1, keepdim=True), part.mask[:, :1], part.answers, True)
        for part in (learn, held_out)
    ]
    assert (
        whole > 0.4 > estimate("infonce", means[0], means[1], 0, max_steps=400).value
    )  # a pooled vector has lost a part of it


def test_one_position_at_a_time_is_one_that_is_there() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, False, False], [False, True, True]])
    states = torch.arange(3.0).expand(3, 3).unsqueeze(2)
    pairs = Pairs(states, mask, torch.zeros(3, 1), one_position=True)
    drawn = torch.stack([pairs.seen(generator)[0][:, 0, 0] for _ in range(60)])
    assert [sorted(set(column.tolist())) for column in drawn.T] == [[0, 1], [0], [1, 2]]


def test_a_summary_has_spread_and_interval() -> None:
    learn, held_out = gaussians(300, 0.5, 1, 0), gaussians(200, 0.5, 1, 1)
    found = summary("infonce", [estimate("infonce", learn, held_out, seed, max_steps=100) for seed in range(2)])
    low, high = found["ci95"]
    assert low < found["value"] < high
    seeds = found["seeds"]
    assert isinstance(seeds, list)
    assert found["standard_error"] == pytest.approx(abs(seeds[0] - seeds[1]) / 2)
    alone = summary("infonce", [estimate("infonce", learn, held_out, 0, max_steps=100)])
    assert alone["standard_error"] is None
    assert alone["ci95"] is not None


def test_rows_in_any_order_and_of_any_length_are_measured_alike() -> None:
    # Sorted by label, as tables often are: what is scored is a random part of the rows.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4_400) >= 2_200
    states = labels.float().unsqueeze(1) + 0.1 * torch.randn(4_400, 1, generator=generator)
    every = Pairs(states.unsqueeze(1), torch.ones(4_400, 1, dtype=torch.bool), _one_hot(labels), labels=True)
    learn = every.rows(torch.arange(0, 4_400, 11))
    assert estimate("infonce", learn, every, 0, max_steps=150).value == pytest.approx(math.log(2), abs=0.1)
    # Nearest neighbours see no padding, however long the longest row of a part is.
    rows = [torch.randn(length, 6, generator=generator) for length in torch.randint(1, 9, (200,), generator=generator)]
    answers = torch.stack([row.mean(dim=0)[:1] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])

    def padded_to(width: int) -> Pairs:
        states = torch.nn.utils.rnn.pad_sequence([*rows, torch.zeros(width, 6)], batch_first=True)[:-1]
        return Pairs(states, torch.arange(width) < lengths.unsqueeze(1), answers)

    found = estimate("neighbours", padded_to(9), padded_to(9), 0).value
    assert found > 0.1
    assert estimate("neighbours", padded_to(9), padded_to(14), 0).value == pytest.approx(found, abs=1e-6)


def test_a_coordinate_that_never_varied_before_does_no_harm() -> None:
    learn, held_out = gaussians(600, 0.5, 1, 0), gaussians(300, 0.5, 1, 1)
    constant = [
        Pairs.of_vectors(torch.cat([part.states[:, 0], torch.full((len(part), 1), 5.0)], dim=1), part.answers)
        for part in (learn, held_out)
    ]
    constant[1].states[7, 0, 1] = 6.0
    for name in ("infonce", "smile"):
        assert estimate(name, constant[0], constant[1], 0, max_steps=200).value == pytest.approx(0.5, abs=0.25)


def test_noise_beside_the_signal_does_not_hide_it_from_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(800, 1, generator=generator)
    states = signal @ torch.randn(1, 64, generator=generator) + 0.01 * torch.randn(800, 64, generator=generator)
    pairs = Pairs.of_vectors(states, signal + 0.3 * torch.randn(800, 1, generator=generator))
    expected = 0.5 * math.log(1 + 1 / 0.09)
    assert estimate("neighbours", pairs, pairs, 0).value == pytest.approx(expected, abs=0.2)


def test_the_error_of_neighbours_is_that_of_other_rows() -> None:
    found = [
        summary("neighbours", [estimate("neighbours", part, part, 0)])
        for part in (gaussians(300, 0.5, 1, seed) for seed in range(12))
    ]
    spread = np.std([one["value"] for one in found], ddof=1)
    assert spread / 2 < np.mean([one["standard_error"] for one in found]) < 2 * spread
    assert sum(one["ci95"][0] <= 0.5 <= one["ci95"][1] for one in found) >= 9


def test_too_few_rows_tell_no_error_of_neighbours() -> None:
    few = gaussians(130, 0.5, 1, 0).rows(torch.arange(70))
    found = summary("neighbours", [estimate("neighbours", gaussians(130, 0.5, 1, 1), few, 0)])
    assert (found["standard_error"], found["ci95"]) == (None, None)


def test_what_is_not_finite_is_none() -> None:
    endless = estimators.Estimate(-math.inf, scores=torch.full((40, 40), 800.0, dtype=torch.float64))
    found = summary("nwj", [endless])
    assert (found["value"], found["seeds"], found["ci95"]) == (None, [None], [None, None])


def test_wrong_requests_are_refused() -> None:
    pairs = gaussians(130, 0.5, 1, 0)
    with pytest.raises(UnknownNameError, match="estimator"):
        estimate("mime", pairs, pairs, 0)
    with pytest.raises(DataError, match="at least 30 rows to estimate on, found 5"):
        estimate("mine", pairs, pairs.rows(torch.arange(5)), 0)
    with pytest.raises(DataError, match="at least 100 rows to learn from, found 99"):
        estimate("neighbours", pairs.rows(torch.arange(99)), pairs, 0)


def _one_hot(held: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(held.long(), 2).float()
