"""Mutual information where it is known exactly: of finite tables, and of Gaussians. All in nats.

The data-processing inequality, I(Y; Z) ≥ I(Y; g(Z)) (Cover and Thomas, Elements of Information Theory, theorem 2.8.1),
holds here as numbers: `coarsened` is g(Z) of a table, `projected_information` that of a Gaussian.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from predgen.errors import DataError


def entropy(probabilities: Float[np.ndarray, " value"]) -> float:
    """Returns H of a distribution, −Σ p log p.

    Args:
        probabilities: of each value; they sum to 1.

    Raises:
        DataError: they are no distribution.
    """
    _check(probabilities)
    return max(0.0, float(-xlogy(probabilities, probabilities).sum()))


def mutual_information(joint: Float[np.ndarray, "answer state"]) -> float:
    """Returns I(Y; Z) of a joint distribution, Σ p(y, z) log p(y, z) / (p(y) p(z)).

    Args:
        joint: the probability of each pair; they sum to 1.

    Raises:
        DataError: it is no distribution.
    """
    _check(joint)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return max(0.0, float((joint[there] * np.log(joint[there] / independent[there])).sum()))


def coarsened(joint: Float[np.ndarray, "answer state"], g: Int[np.ndarray, " state"]) -> np.ndarray:
    """Returns the joint distribution of Y and g(Z), shape (answer, value of g).

    Args:
        joint: the probability of each pair.
        g: the value of g for each state, from 0.

    Raises:
        DataError: g does not say a value for each state.
    """
    _check(joint)
    if g.shape != (joint.shape[1],) or (g < 0).any():
        raise DataError(
            f"Expected one value from 0 on for each of {joint.shape[1]} states, found {g.size} of which the least is "
            f"{g.min(initial=0)}. Give g a value for each column of the table."
        )
    coarse = np.zeros((joint.shape[0], int(g.max()) + 1))
    np.add.at(coarse.T, g, joint.T)
    return coarse


def gaussian_information(correlation: float, dimension: int = 1) -> float:
    """Returns I of two Gaussian vectors whose coordinates correlate one by one, −d/2 log(1 − ρ²).

    Args:
        correlation: ρ of each pair of coordinates, between −1 and 1.
        dimension: how many coordinates each vector has.

    Raises:
        DataError: ρ is not inside −1 … 1.
    """
    if not -1 < correlation < 1:
        raise DataError(f"Expected a correlation between -1 and 1, found {correlation}. Give one inside.")
    return -dimension / 2 * float(np.log1p(-(correlation**2)))


def correlation_of(information: float, dimension: int = 1) -> float:
    """Returns the correlation ρ ≥ 0 with which two Gaussian vectors have an information.

    Args:
        information: in nats, from 0.
        dimension: how many coordinates each vector has.

    Raises:
        DataError: the information is negative.
    """
    if information < 0:
        raise DataError(f"Expected an information of at least 0 nats, found {information}. Give another.")
    return float(np.sqrt(-np.expm1(-2 * information / dimension)))


def projected_information(
    covariance: Float[np.ndarray, "all all"], projection: Float[np.ndarray, "kept state"]
) -> float:
    """Returns I(Y; WZ) of a Gaussian number Y and a Gaussian vector Z, −1/2 log(1 − R²).

    R² is the share of Y's variance that the best linear map of WZ explains; with W the identity it is I(Y; Z).

    Args:
        covariance: of Y, then of the coordinates of Z.
        projection: W.

    Raises:
        DataError: the sizes do not fit together, or Y follows from WZ, which says infinitely much.
    """
    if covariance.shape[0] != covariance.shape[1] or projection.shape[1] != covariance.shape[0] - 1:
        raise DataError(
            f"Expected the covariance of Y and Z, and a projection of Z, found shapes {covariance.shape} and "
            f"{projection.shape}. Give W as many columns as Z has coordinates."
        )
    cross = projection @ covariance[1:, 0]
    best = np.linalg.lstsq(projection @ covariance[1:, 1:] @ projection.T, cross, rcond=None)[0]
    explained = float(cross @ best / covariance[0, 0])
    if not explained < 1:
        raise DataError(
            f"Expected a Y that does not follow from WZ, found a share of {explained:.6g} of its variance explained. "
            "Give Y some noise of its own."
        )
    return -0.5 * float(np.log1p(-explained))


def _check(probabilities: np.ndarray) -> None:
    total = float(probabilities.sum())
    if (probabilities < 0).any() or not np.isclose(total, 1, atol=1e-9):
        raise DataError(
            f"Expected probabilities from 0 on that sum to 1, found a sum of {total:.6g} and a least value of "
            f"{float(probabilities.min()):.3g}. Divide the table by its sum."
        )
