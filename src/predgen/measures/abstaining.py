"""Answering only where few answers are wrong: a bound on the risk of the rows that are answered.

A score says how sure an answer is. Rows whose answers are known are sorted by it, and for each of 20 fixed shares of
them, 5 %, 10 % … 100 %, the surest ones give an exact binomial upper bound on the risk of all rows above the same score
(Clopper and Pearson 1934). Each bound fails with a chance of δ/20 at most, so all of them hold at once with 1 − δ, and
a risk may be asked for after they were seen. That is selective classification (Geifman and El-Yaniv, arXiv 1705.08500)
by the tests of Learn then Test (Angelopoulos et al., arXiv 2110.01052).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from predgen.errors import ConfigError
from predgen.measures.weighted import mean_of

# Shares of the rows whose risk is bounded, equally far apart.
NUM_SHARES = 20
# What rounding may add to an error, as a share of the tolerance: 1.2 is 0.1 away from 1.1.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Abstaining:
    """From which score on rows are answered, and what is promised of them.

    Attributes:
        score: rows of a larger score are answered; −∞ for all that have a score, +∞ for none.
        bound: the upper bound of the risk of the answered rows; NaN where none is answered.
        rows: calibration rows that are answered.
        wrong: how many of them are wrong.
        calibration_rows: all of them.
        rows_needed: the fewest calibration rows with which a bound can hold, if no answer of them is wrong.
    """

    score: float
    bound: float
    rows: int
    wrong: int
    calibration_rows: int
    rows_needed: int

    def answered(self, scores: Float[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
        """Returns which rows are answered; a row without a score, NaN or −∞, never is."""
        return np.asarray(scores > self.score)


def abstaining(
    scores: Float[np.ndarray, " row"], wrong: Bool[np.ndarray, " row"], *, risk: float, delta: float
) -> Abstaining:
    """Returns how as many rows as possible are answered with P(risk of the answered rows ≤ risk) ≥ 1 − delta.

    The probability is over the draw of the calibration rows; the risk is that of new rows, drawn as these were. It
    needs nothing else: neither right probabilities nor a risk that falls with the score.

    For the j surest rows the threshold is the score of the row that follows, λ. Given λ and how many rows lie above it,
    these are draws from all rows above λ, so the wrong ones among them are binomial. Equal scores stay together.

    Args:
        scores: of the calibration rows; the larger, the surer. −∞ for an invalid answer.
        wrong: which of their answers are wrong.
        risk: the largest share of wrong answers, in (0, 1).
        delta: the chance that it is exceeded, in (0, 1).

    Raises:
        ConfigError: a share is none.
    """
    for name, value in (("abstain_risk", risk), ("abstain_delta", delta)):
        if not 0 < value < 1:
            raise ConfigError(f"Expected {name} between 0 and 1, such as 0.05, found {value:g}.")
    order = np.argsort(-scores, kind="stable")
    ranked, mistakes = scores[order], wrong[order]
    num_rows, chance = len(ranked), delta / NUM_SHARES
    needed = math.ceil(math.log(chance) / math.log1p(-risk))
    for share in range(NUM_SHARES, 0, -1):
        size = math.ceil(num_rows * share / NUM_SHARES)
        score = -math.inf if size >= num_rows else float(ranked[size])
        above = ranked > score
        answered, num_wrong = int(above.sum()), int(mistakes[above].sum())
        bound = upper_bound(num_wrong, answered, chance)
        if bound <= risk:
            return Abstaining(score, bound, answered, num_wrong, num_rows, needed)
    return Abstaining(math.inf, math.nan, 0, 0, num_rows, needed)


def is_wrong(errors: Float[np.ndarray, " row"], tolerance: float | None) -> Bool[np.ndarray, " row"]:
    """Returns which answers are wrong.

    Args:
        errors: |error| of numbers in the target's unit, 0 or 1 of labels; ∞ for an invalid answer.
        tolerance: the largest error of a number that is not wrong; None for labels.
    """
    return np.asarray(errors > (tolerance or 0.0) * (1 + ROUNDING))


def risk_metrics(
    wrong: Bool[np.ndarray, " row"],
    answered: Bool[np.ndarray, " row"],
    weights: Float[np.ndarray, " row"] | None,
    rows: Int[np.ndarray, " drawn"],
) -> dict[str, float]:
    """Returns `answered_share`, `risk_answered` and `risk_all` of some rows.

    These are the share of rows that are answered, the share of wrong answers among them, and among all rows. The second
    is NaN where no row is answered.

    Args:
        wrong: which answers are wrong.
        answered: which rows are answered.
        weights: at least 0; None where all rows count alike.
        rows: the positions of the rows.
    """
    kept = rows[answered[rows]]
    of_rows, of_kept = (None if weights is None else weights[some] for some in (rows, kept))
    return {
        "answered_share": mean_of(answered[rows], of_rows),
        "risk_answered": mean_of(wrong[kept], of_kept),
        "risk_all": mean_of(wrong[rows], of_rows),
    }


def upper_bound(wrong: int, rows: int, chance: float) -> float:
    """Returns the exact upper bound of a share: the largest p with P(Bin(rows, p) ≤ wrong) ≥ chance.

    Args:
        wrong: how many of the rows are wrong.
        rows: how many there are.
        chance: with which the bound may fail.
    """
    if wrong >= rows:
        return 1.0
    from scipy.stats import beta  # here, as a prediction that answers all rows does not need it

    return float(beta.ppf(1 - chance, wrong + 1, rows - wrong))
