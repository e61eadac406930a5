"""Mutual information from nearest neighbours: nothing is trained.

Sources: Kraskov, Stögbauer and Grassberger 2004 (their first estimator) for numbers; Ross 2014 for labels.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.special import digamma

NEIGHBOURS = 3
# Ties, as among written numbers, are broken by noise of this part of the spread.
NOISE = 1e-8


def ksg(
    states: Float[np.ndarray, "row size"], answers: Float[np.ndarray, "row answer"], rng: np.random.Generator
) -> float:
    """Returns I of vectors, ψ(k) + ψ(N) − E[ψ(n_z + 1) + ψ(n_y + 1)], in nats.

    n_z and n_y count the rows that are nearer than the k-th nearest neighbour in the joint space; a distance is the
    largest difference of a coordinate.

    Args:
        states: one vector a row.
        answers: one vector a row.
        rng: of the noise that breaks ties.
    """
    states, answers = _untied(states, rng), _untied(answers, rng)
    rows = len(states)
    both = cKDTree(np.concatenate([states, answers], axis=1))
    radius = both.query(both.data, k=min(NEIGHBOURS, rows - 1) + 1, p=np.inf)[0][:, -1]
    radius = np.nextafter(radius, 0)
    counts = [
        cKDTree(coordinates).query_ball_point(
            coordinates, radius, p=np.inf, return_length=True
        )  # each row counts itself
        for coordinates in (states, answers)
    ]
    return float(digamma(min(NEIGHBOURS, rows - 1)) + digamma(rows) - sum(digamma(count).mean() for count in counts))


def ross(states: Float[np.ndarray, "row size"], labels: Int[np.ndarray, " row"], rng: np.random.Generator) -> float:
    """Returns I of vectors and labels, ψ(N) − E ψ(N_y) + E ψ(k_y) − E ψ(m), in nats.

    N_y counts the rows of a label, m those within the distance to the k-th neighbour of the same label. A label of one
    row has no neighbour and is left out.

    Args:
        states: one vector a row.
        labels: one label a row.
        rng: of the noise that breaks ties.
    """
    kept = np.isin(
        labels, [label for label, count in zip(*np.unique(labels, return_counts=True), strict=True) if count > 1]
    )
    states, labels = _untied(states[kept], rng), labels[kept]
    if not len(labels):
        return 0.0
    radius, same, near = np.empty(len(labels)), np.empty(len(labels)), np.empty(len(labels))
    for label in np.unique(labels):
        has_label = labels == label
        tree, count = cKDTree(states[has_label]), int(has_label.sum())
        k = min(NEIGHBOURS, count - 1)
        radius[has_label] = np.nextafter(tree.query(states[has_label], k=k + 1, p=np.inf)[0][:, -1], 0)
        same[has_label], near[has_label] = count, k
    within = cKDTree(states).query_ball_point(states, radius, p=np.inf, return_length=True)
    return float(digamma(len(labels)) - digamma(same).mean() + digamma(near).mean() - digamma(within).mean())


def _untied(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns coordinates divided by the largest deviation among them, with ties broken by noise."""
    unit = float(values.std(axis=0).max()) or 1.0
    return np.asarray((values - values.mean(axis=0)) / unit + NOISE * rng.standard_normal(values.shape))
