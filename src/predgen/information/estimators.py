"""Estimators of I(Y; Z) behind one interface: learn on some pairs, estimate on others, in nats."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from predgen.errors import DataError, unknown_name
from predgen.information.bounds import BOUNDS, DECAY, Bound, even_weights, log_mean_exp, mine_gain
from predgen.information.critics import Critic
from predgen.information.neighbours import ksg, ross
from predgen.measures.base import json_number
from predgen.methods.poolings import Last, Mean

ESTIMATORS = (*BOUNDS, "neighbours")
# Fewer rows than these teach a critic nothing but themselves, and say nothing about another.
LEAST_TO_LEARN, LEAST_TO_ESTIMATE = 100, 30
BATCH = 256
MAX_STEPS = 2_000
LOOK_EVERY = 50
# Looks at the rows held back that may pass without a better one.
PATIENCE = 6
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
# Every `AVERAGE_EVERY` steps the moving average of the weights is updated, with this decay.
AVERAGE_EVERY, AVERAGED = 5, 0.9
# The fraction of the training rows that is held back for early stopping, and the least and the most such rows.
HELD_BACK, LEAST_HELD_BACK, MOST_HELD_BACK = 0.15, 30, 1_000
# The most rows that are scored against each other for an estimate.
MOST_SCORED = 2_000
# The least deviation of a coordinate, as a fraction of the mean deviation; values are clipped at `MOST_DEVIATIONS`.
LEAST_SPREAD, MOST_DEVIATIONS = 0.01, 10.0
# Coordinates that nearest neighbours are looked for in; states of more than twice as many are projected on their
# principal ones.
NEIGHBOUR_SIZE = 10
# The standard error comes from the spread over disjoint subsets of the rows: at most and at least this many subsets,
# each with at least `LEAST_IN_PART` rows.
MOST_PARTS, LEAST_PARTS, LEAST_IN_PART = 8, 3, 25
BOOTSTRAP_DRAWS = 200
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Pairs:
    """States with the answers that belong to them.

    Attributes:
        states: the states, padded; a pooled vector has one position.
        mask: which positions are not padding; each row has one.
        answers: numbers, shape (row, coordinate), or labels, one-hot.
        labels: whether the answers are labels.
        one_position: whether a critic sees one position of a row at a time, a random one in each step.
    """

    states: Float[Tensor, "row position size"]
    mask: Bool[Tensor, "row position"]
    answers: Float[Tensor, "row answer"]
    labels: bool = False
    one_position: bool = False

    @classmethod
    def of_vectors(cls, states: Float[Tensor, "row size"], answers: Float[Tensor, "row answer"]) -> "Pairs":
        """Returns pairs of vectors and numbers."""
        return cls(states.unsqueeze(1), torch.ones(len(states), 1, dtype=torch.bool), answers)

    def __len__(self) -> int:
        return len(self.answers)

    def rows(self, index: Int[Tensor, " taken"]) -> "Pairs":
        """Returns some of the pairs."""
        return replace(self, states=self.states[index], mask=self.mask[index], answers=self.answers[index])

    def shuffled(self, generator: torch.Generator) -> "Pairs":
        """Returns the states with the answers of other rows: information that is found in them is an error."""
        return replace(self, answers=self.answers[torch.randperm(len(self), generator=generator)])

    def seen(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns the states that a critic sees, and their mask."""
        if not self.one_position:
            return self.states, self.mask
        chosen = torch.rand(self.mask.shape, generator=generator).masked_fill(~self.mask, -1).argmax(dim=1)
        return self.states[torch.arange(len(self)), chosen].unsqueeze(1), self.mask[:, :1] | True


@dataclass(frozen=True)
class Estimate:
    """What one estimator says with one seed.

    Attributes:
        value: I(Y; Z) in nats, on the rows that nothing was learned from.
        curve: (step, what the critic maximizes, on rows held back), while it learned; empty for nearest neighbours.
        scores: of the critic, for intervals; None for nearest neighbours.
        critic: the critic with what it takes; None for nearest neighbours.
        row_error: the standard error over the rows, of nearest neighbours alone; None for too few rows.
    """

    value: float
    curve: list[tuple[int, float]] = field(default_factory=list)
    scores: Float[Tensor, "row row"] | None = None
    critic: "FittedCritic | None" = None
    row_error: float | None = None


class FittedCritic:
    """A critic, and the scale of the states that it was fitted to.

    Args:
        pairs: what it is to learn from.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.state_scale = _scale(pairs.states[pairs.mask])
        size = pairs.answers.shape[1]
        self.answer_scale = (torch.zeros(size), torch.ones(size)) if pairs.labels else _scale(pairs.answers)
        self.critic: nn.Module = Critic(pairs.states.shape[2], size)

    def __call__(
        self,
        states: Float[Tensor, "row position size"],
        mask: Bool[Tensor, "row position"],
        answers: Float[Tensor, "other answer"],
    ) -> Float[Tensor, "row other"]:
        """Returns T of each state with each answer, both in their own units."""
        scaled = _standardized(states, *self.state_scale), mask, _standardized(answers, *self.answer_scale)
        scores: Tensor = self.critic(*scaled)
        return scores


def _scale(values: Float[Tensor, "row size"]) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
    """Returns the mean and the deviation of each coordinate; one that hardly varies is not blown up."""
    spread = values.std(dim=0)
    spread = spread.clamp(min=LEAST_SPREAD * float(spread.mean()))
    return values.mean(dim=0), torch.where(spread > 0, spread, torch.ones_like(spread))


def _standardized(values: Tensor, mean: Float[Tensor, " size"], spread: Float[Tensor, " size"]) -> Tensor:
    """Returns values in deviations."""
    scaled: Tensor = ((values - mean) / spread).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    return scaled


def estimate(
    name: str, learn: Pairs, held_out: Pairs, seed: int, *, shuffle: bool = False, max_steps: int | None = None
) -> Estimate:
    """Returns what an estimator says of I(Y; Z).

    Nearest neighbours learn from `learn` no more than the principal coordinates of states of many; of a sequence they
    see its mean and its last position.

    Args:
        name: mine, infonce, smile, nwj or neighbours.
        learn: what the critic learns from; a part is held back to choose when to stop.
        held_out: what the estimate is of.
        seed: of everything random.
        shuffle: the control: answers of other rows, in both parts.
        max_steps: the most steps of a critic; `MAX_STEPS` if not given.

    Raises:
        DataError: there are too few pairs.
        UnknownNameError: no estimator is named so.
    """
    if name not in ESTIMATORS:
        raise unknown_name("estimator", name, ESTIMATORS)
    check_rows(len(learn), len(held_out))
    generator = torch.Generator().manual_seed(seed)
    if shuffle:
        learn, held_out = learn.shuffled(generator), held_out.shuffled(generator)
    if name == "neighbours":
        return _by_neighbours(learn, held_out, np.random.default_rng(seed))
    bound = BOUNDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitted = FittedCritic(learn)
    curve = _fit(fitted, bound, learn, generator, MAX_STEPS if max_steps is None else max_steps)
    scores = scores_of(fitted, held_out, generator)
    return Estimate(float(bound.value(scores, even_weights(scores))[0]), curve, scores, fitted)


def check_rows(learn: int, held_out: int) -> None:
    """Refuses too few rows.

    Raises:
        DataError: there are too few to learn from, or to estimate on.
    """
    for what, count, least in (
        ("to learn from", learn, LEAST_TO_LEARN),
        ("to estimate on", held_out, LEAST_TO_ESTIMATE),
    ):
        if count < least:
            raise DataError(f"Expected at least {least} rows {what}, found {count}. Give more rows.")


@torch.no_grad()
def scores_of(fitted: FittedCritic, pairs: Pairs, generator: torch.Generator) -> Float[Tensor, "row row"]:
    """Returns the critic's scores of all pairs of the rows, in float64; of a random part where they are many."""
    if len(pairs) > MOST_SCORED:
        pairs = pairs.rows(torch.randperm(len(pairs), generator=generator)[:MOST_SCORED])
    scores: Tensor = fitted(*pairs.seen(generator), pairs.answers).double()
    return scores


def _fit(
    fitted: FittedCritic, bound: Bound, learn: Pairs, generator: torch.Generator, max_steps: int
) -> list[tuple[int, float]]:
    """Fits a critic, and leaves it as it was best on the rows held back, which may be at the start."""
    order = torch.randperm(len(learn), generator=generator)
    num_back = min(MOST_HELD_BACK, max(LEAST_HELD_BACK, round(HELD_BACK * len(learn))))
    back, train_rows = learn.rows(order[:num_back]), order[num_back:]
    critic = fitted.critic
    optimizer = torch.optim.AdamW(critic.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    # What is looked at and kept is the mean of the weights over steps: a batch's noise would cost some hundredths.
    averaged = AveragedModel(critic, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))  # type: ignore[no-untyped-call]
    log_average: float | None = None
    curve: list[tuple[int, float]] = []
    best, best_step, kept = -math.inf, 0, critic.state_dict()
    batch, queue = min(BATCH, len(train_rows)), train_rows[:0]
    for step in range(max_steps + 1):
        if step % LOOK_EVERY == 0 or step == max_steps:
            fitted.critic = averaged.module
            scores = scores_of(fitted, back, generator)
            fitted.critic = critic
            reached = float(bound.chosen_by(scores, even_weights(scores))[0])
            if not math.isfinite(reached):
                break
            curve.append((step, reached))
            if reached > best:
                best, best_step = reached, step
                kept = {name: values.clone() for name, values in averaged.module.state_dict().items()}
            if step - best_step >= PATIENCE * LOOK_EVERY:
                break
        if len(queue) < batch:
            queue = train_rows[torch.randperm(len(train_rows), generator=generator)]
        rows, queue = queue[:batch], queue[batch:]
        drawn = learn.rows(rows)
        scores = fitted(*drawn.seen(generator), drawn.answers)
        even = even_weights(scores)
        if bound.corrected:
            log_now = float(log_mean_exp(scores.detach(), even)[0])
            log_average = log_now if log_average is None else _log_mix(log_average, log_now)
            gain = mine_gain(scores, log_average)
        else:
            gain = bound.chosen_by(scores, even)[0]
        optimizer.zero_grad()
        (-gain).backward()
        torch.nn.utils.clip_grad_norm_(critic.parameters(), 5.0)
        optimizer.step()
        if step % AVERAGE_EVERY == 0:
            averaged.update_parameters(critic)
    critic.load_state_dict(kept)
    return curve


def _log_mix(log_average: float, log_now: float) -> float:
    """Returns the log of the mean over steps, moved on by one."""
    return float(np.logaddexp(log_average + math.log(DECAY), log_now + math.log(1 - DECAY)))


def _by_neighbours(learn: Pairs, held_out: Pairs, rng: np.random.Generator) -> Estimate:
    """Returns the estimate and its error: the variance falls as one over the rows (Holmes and Nemenman 2019)."""
    states, others = (_as_vectors(pairs) for pairs in (held_out, learn))
    if states.shape[1] > 2 * NEIGHBOUR_SIZE:
        scale = _scale(others)
        kept = PCA(NEIGHBOUR_SIZE, random_state=0).fit(_standardized(others, *scale).numpy())
        states = torch.from_numpy(kept.transform(_standardized(states, *scale).numpy()))
    vectors, answers = states.double().numpy(), held_out.answers.double().numpy()

    def information(rows: Int[np.ndarray, " taken"]) -> float:
        row_answers = answers[rows]
        return (
            ross(vectors[rows], row_answers.argmax(axis=1), rng)
            if held_out.labels
            else ksg(vectors[rows], row_answers, rng)
        )

    whole = information(np.arange(len(vectors)))
    num_parts = min(MOST_PARTS, len(vectors) // LEAST_IN_PART)
    if num_parts < LEAST_PARTS:
        return Estimate(whole)
    estimates = [information(rows) for rows in np.array_split(rng.permutation(len(vectors)), num_parts)]
    return Estimate(whole, row_error=float(np.std(estimates, ddof=1) / math.sqrt(num_parts)))


def _as_vectors(pairs: Pairs) -> Float[Tensor, "row size"]:
    """Returns the only position of each row, or the mean of its positions beside the last position."""
    if pairs.states.shape[1] == 1:
        return pairs.states[:, 0]
    return torch.cat([Mean()(pairs.states, pairs.mask), Last()(pairs.states, pairs.mask)], dim=1)


def summary(name: str, estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Returns estimates of several seeds as one: `value`, `standard_error`, `ci95` and `seeds`, in nats.

    The standard error is over seeds. The interval is over the rows that the estimate is of: of a bootstrap, with the
    mean over seeds in each draw. Nearest neighbours, which have no seed and count a row that is drawn twice as its own
    neighbour, have both from the spread over parts of the rows. What is not finite, or not known, is None.

    Args:
        name: the estimator.
        estimates: one for each seed.
    """
    values = np.array([result.value for result in estimates])
    mean = float(values.mean())
    scores = [result.scores for result in estimates if result.scores is not None]
    errors = [result.row_error for result in estimates if result.row_error is not None]
    error, interval = None, None
    if scores:
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        interval = _bootstrap(BOUNDS[name].value, scores)
    elif errors:
        error = float(np.mean(errors))
        interval = [mean - NORMAL_95 * error, mean + NORMAL_95 * error]
    return {
        "value": json_number(mean),
        "standard_error": None if error is None else json_number(error),
        "ci95": None if interval is None else [json_number(end) for end in interval],
        "seeds": [json_number(value) for value in values.tolist()],
    }


def _bootstrap(value: Callable[[Tensor, Tensor], Tensor], scores: Sequence[Float[Tensor, "row row"]]) -> list[float]:
    rows = len(scores[0])
    draws = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=BOOTSTRAP_DRAWS)
    weights = torch.from_numpy(draws).double()
    means = torch.stack([value(seed_scores, weights) for seed_scores in scores]).mean(dim=0)
    if not bool(means.isfinite().all()):
        return [math.nan, math.nan]
    low, high = np.percentile(means.numpy(), [2.5, 97.5])
    return [float(low), float(high)]
