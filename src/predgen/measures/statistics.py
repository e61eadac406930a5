"""Intervals and paired tests over test rows.

Rows are the unit: the losses of a row are averaged over the training seeds first, since seeds share their rows and
would otherwise be counted as if they were more data.
"""

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000
PERMUTATIONS = 10_000
ROUNDING = 1e-12
CHUNK_CELLS = 4_000_000


def bootstrap(
    metrics: Callable[[np.ndarray], dict[str, float]], num_rows: int, *, seed: int, resamples: int | None = None
) -> dict[str, np.ndarray]:
    """Returns each metric's values over resamples of the rows; equal seeds and sizes give equal draws, so pairs.

    Args:
        metrics: from the positions of the drawn rows to metrics.
        num_rows: how many rows there are.
        seed: of the draws.
        resamples: how many draws, with replacement; `RESAMPLES` if None.
    """
    import sklearn  # here, as a prediction does not need it

    generator = np.random.default_rng(seed)
    draws = RESAMPLES if resamples is None else resamples
    # The same values come again and again, so that scikit-learn need not check them each time.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        drawn = [metrics(generator.integers(num_rows, size=num_rows)) for _ in range(draws)]
    return {name: np.array([of_draw[name] for of_draw in drawn]) for name in drawn[0]}


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Returns the percentile interval of resampled values (Efron & Tibshirani 1993, ch. 13).

    Resamples in which the metric is not defined are left out.

    Args:
        values: of the resamples.
        level: the interval's coverage, in (0, 1).
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.percentile(values, 100 * np.array([(1 - level) / 2, (1 + level) / 2]))
    return float(low), float(high)


def bootstrap_interval(
    metrics: Callable[[np.ndarray], dict[str, float]],
    num_rows: int,
    *,
    seed: int,
    resamples: int | None = None,
    level: float = LEVEL,
) -> dict[str, tuple[float, float]]:
    """Returns the percentile interval of each metric; the arguments are those of the two functions above."""
    drawn = bootstrap(metrics, num_rows, seed=seed, resamples=resamples)
    return {name: percentile_interval(values, level) for name, values in drawn.items()}


def bootstrap_p_value(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of a difference that is no mean over rows, as of correlations.

    p = 2 · the smaller of the shares of resamples on either side of 0, one resample added to each (Efron & Tibshirani
    1993, ch. 16). It is cruder than a permutation test.

    Args:
        differences: of the two methods' metrics over paired resamples.
    """
    values = differences[np.isfinite(differences)]
    # What is 0 up to rounding counts on both sides.
    sides = (1 + np.array([(values <= ROUNDING).sum(), (values >= -ROUNDING).sum()])) / (1 + len(values))
    return float(min(1.0, 2 * sides.min()))


def paired_difference_interval(
    a: np.ndarray, b: np.ndarray, *, seed: int, resamples: int | None = None, level: float = LEVEL
) -> tuple[float, float]:
    """Returns the percentile interval of mean(a − b), rows drawn with replacement in pairs.

    Args:
        a: one method's loss of each row, shape (row,).
        b: the other's, on the same rows.
        seed: of the draws.
        resamples: how many draws, as in `bootstrap`.
        level: the interval's coverage, in (0, 1).
    """
    difference = a - b
    intervals = bootstrap_interval(
        lambda rows: {"difference": float(difference[rows].mean())},
        len(difference),
        seed=seed,
        resamples=resamples,
        level=level,
    )
    return intervals["difference"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number, in the order given (Holm 1979).

    The i-th smallest of m is multiplied by m − i + 1, and none is smaller than one before it: rejecting where the
    result is at most α keeps the chance of any false rejection at α, whatever the dependence.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected


def paired_permutation(a: np.ndarray, b: np.ndarray, *, seed: int, permutations: int = PERMUTATIONS) -> float:
    """Returns the two-sided p-value of mean(a) = mean(b), by exchanging the methods' losses row by row.

    p = (1 + #{|mean(s·d)| ≥ |mean(d)|}) / (1 + permutations), with d = a − b and random signs s (Phipson & Smyth 2010
    for the added one). Few enough rows are enumerated: then p is exact, and nothing is added.

    Args:
        a: one method's loss of each row, shape (row,).
        b: the other's, on the same rows.
        seed: of the signs.
        permutations: how many sign patterns are drawn.
    """
    from scipy.stats import monte_carlo_test, permutation_test  # here, as a prediction needs neither

    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    differences = differences[differences != 0]  # their signs change nothing
    if len(differences) < 2:  # SciPy wants two observations; a single one is as far off with either sign
        return 1.0
    # Equal sums must count as equal whatever the order in which they were added up.
    observed = abs(differences.sum()) - ROUNDING * np.abs(differences).sum()
    generator = np.random.default_rng(seed)

    def is_as_extreme(signed: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.abs(signed.sum(axis=axis)) >= observed, dtype=np.float64)

    def randomly_signed(size: tuple[int, ...]) -> np.ndarray:
        signs = 1 - 2 * generator.integers(0, 2, size=size, dtype=np.int8)
        return np.asarray(differences * signs)

    options = {"alternative": "greater", "batch": max(1, CHUNK_CELLS // len(differences)), "n_resamples": permutations}
    if len(differences) < np.log2(permutations):
        test = permutation_test((differences,), is_as_extreme, permutation_type="samples", **options)
    else:  # `permutation_test` would draw signs by sorting random numbers, at 20 times the time
        test = monte_carlo_test(differences, randomly_signed, is_as_extreme, **options)
    return float(test.pvalue)
