"""Answers that are sets of labels beside the true ones."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.measures.base import EXACT_MATCH, SMALLEST_PROBABILITY, Baseline, Measure
from predgen.measures.choices import HALF, Mix, fitted_thresholds, stack_labels
from predgen.measures.distributions import PredictiveDistribution
from predgen.measures.per_label import label_table
from predgen.measures.weighted import mean_of
from predgen.targets.label_set import LabelSet, member_table

SET_METRICS = ("micro_f1", "macro_f1", "jaccard", EXACT_MATCH, "hamming_loss", "label_log_loss")


class LabelSetMeasure(Measure[LabelSet]):
    """The metrics and losses of a set of labels.

    Arrays hold 1 for each label of a row's set, and one column more, shape (row, label + 1): in the truth whether the
    set has labels that training never saw, in the answers whether the answer is invalid.
    """

    NAMES: ClassVar[tuple[str, ...]] = SET_METRICS
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = ("hamming_loss", "label_log_loss")
    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = ("label_log_loss",)
    BASELINE: ClassVar[Baseline] = "multilabel"
    HAS_COORDINATES: ClassVar[bool] = False
    HAS_THRESHOLDS: ClassVar[bool] = True
    HAS_SURENESS: ClassVar[bool] = False

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {"jaccard": ("jaccard_error", -1), "hamming_loss": ("hamming", 1)}

    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns indicators of the labels, and of an invalid answer or an unseen label."""
        last = np.array([value is None or None in value for value in values], dtype=np.float64)
        return np.column_stack([member_table(self.field, [value or () for value in values]), last])

    def invalid(self, predicted: np.ndarray) -> np.ndarray:
        """Returns which answers are invalid."""
        return np.asarray(predicted[:, -1] > 0)

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns `set_metrics`."""
        return set_metrics(truth, predicted, probabilities, weights)

    def per_label(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Returns `label_table`; labels never seen and invalid answers are in no row of it."""
        held, answered = truth[:, :-1] > 0, predicted[:, :-1] > 0
        return label_table(self.field.labels, held, answered, probabilities, weights)

    def rows_behind(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, int]:
        """Returns the rows with probabilities for `label_log_loss`."""
        return {} if probabilities is None else {"label_log_loss": int(np.isfinite(probabilities).all(axis=1).sum())}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `jaccard_error` and `hamming` of each row and, with probabilities, `label_log_loss` in nats."""
        losses = _set_losses(truth, predicted)
        if probabilities is not None:
            losses["label_log_loss"] = label_log_losses(truth, probabilities)
        return losses

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns the Hamming loss divided by the Hamming loss of the best constant set."""
        if not len(truth):
            return math.nan
        error = mean_of(_set_losses(truth, predicted)["hamming"], weights)
        shares = np.average(truth[:, :-1], axis=0, weights=weights)
        constant = float(np.minimum(shares, 1 - shares).mean())
        return error / constant if constant > 0 else math.nan

    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the labels that most rows have, and the labels' shares as probabilities."""
        shares = ((weights @ train[:, :-1] + 1) / (len(train) + 2))[None, :]
        return np.column_stack([shares >= HALF, np.zeros(1)]).astype(np.float64), shares, "shares"

    def distribution_of_values(
        self, values: Sequence[Any], probabilities: Float[Tensor, "row value"]
    ) -> PredictiveDistribution:
        """Returns the probability of each label's being in the set."""
        members = torch.zeros(len(values), len(self.field.labels), dtype=torch.float64)
        for index, value in enumerate(values):
            members[index, self.field.positions(value)] = 1.0
        return PredictiveDistribution(None, probabilities @ members.to(probabilities.device))

    def stack(
        self,
        director: tuple[np.ndarray, np.ndarray | None],
        writer: tuple[np.ndarray, np.ndarray | None],
        truth: np.ndarray,
    ) -> Mix:
        """Returns the mix with the least log loss; each label of a set is a label of its own: it is there, or not."""
        assert director[1] is not None  # labels are answered with probabilities
        assert writer[1] is not None
        held = truth[:, :-1].ravel().astype(int)
        pairs = [np.column_stack([1 - shares.ravel(), shares.ravel()]) for shares in (director[1], writer[1])]
        return stack_labels(pairs[0], pairs[1], held)

    def estimate(self, name: str, metric: str, *, enumerable: bool) -> str:
        """Returns `thresholds` where all sets are scored, unless the text is asked for."""
        return "thresholds" if enumerable and name != "text" else "text"

    def thresholds(self, truth: np.ndarray, probabilities: np.ndarray) -> Float[np.ndarray, " label"]:
        """Returns the threshold of each label with the best F1."""
        return np.asarray(fitted_thresholds(probabilities, truth[:, :-1]))


def set_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the metrics of sets of labels.

    `micro_f1` and `macro_f1` over the labels that occur (Tsoumakas et al. 2010); `jaccard`, the mean over the rows of
    |truth ∩ predicted| / |truth ∪ predicted|, 1 where both are empty; `exact_match`; `hamming_loss`, the share of
    labels that are wrong; `label_log_loss`, the mean binary cross-entropy in nats per label, left out without
    probabilities.

    Args:
        truth: 1 for each label of the row's set, one column more than there are labels: whether it has labels never
            seen in training, shape (row, label + 1).
        predicted: the same for the answers; the last column is 1 where the answer was invalid, so that it is wrong.
        probabilities: of each label's being in the set, shape (row, label), or None.
        weights: of the rows, shape (row,), above 0; None where all count alike.
    """
    if not len(truth):
        return dict.fromkeys(SET_METRICS if probabilities is not None else SET_METRICS[:-1], math.nan)
    counted = np.ones(len(truth)) if weights is None else weights
    both, either = (truth * predicted)[:, :-1], np.maximum(truth, predicted)
    # The last columns mean two things: neither can be right.
    wrong_at_last = truth[:, -1] + predicted[:, -1]
    hits = counted @ both
    false = counted @ (either[:, :-1] - both)
    occurs = hits + false > 0
    f1 = np.divide(2 * hits, 2 * hits + false, out=np.zeros_like(hits), where=occurs)
    last = float(counted @ wrong_at_last)
    per_label = [*f1[occurs], *([0.0] if last else [])]
    losses = _set_losses(truth, predicted)
    total = 2 * hits.sum() + false.sum() + last
    metrics = {
        "micro_f1": float(2 * hits.sum() / total) if total else 1.0,
        "macro_f1": float(np.mean(per_label)) if per_label else 1.0,
        "jaccard": 1 - mean_of(losses["jaccard_error"], weights),
        "exact_match": mean_of((truth == predicted).all(axis=1) & (wrong_at_last == 0), weights),
        "hamming_loss": mean_of(losses["hamming"], weights),
    }
    if probabilities is not None:
        log_losses = label_log_losses(truth, probabilities)
        finite = np.isfinite(log_losses)
        metrics["label_log_loss"] = mean_of(log_losses[finite], None if weights is None else weights[finite])
    return metrics


def _set_losses(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Returns 1 − Jaccard and the share of wrong labels of each row."""
    at_last = truth[:, -1] + predicted[:, -1]
    both = (truth * predicted)[:, :-1].sum(axis=1)
    either = np.maximum(truth, predicted)[:, :-1].sum(axis=1) + at_last
    different = either - both
    return {
        "jaccard_error": np.where(either > 0, 1 - both / np.maximum(either, 1), 0.0),
        # Labels never seen, and invalid answers, count as one more wrong label; a row can have no more than all wrong.
        "hamming": np.minimum(different / (truth.shape[1] - 1), 1.0),
    }


def label_log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns each row's binary cross-entropy, in nats per label."""
    clipped = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    known = truth[:, :-1]
    return np.asarray(-(known * np.log(clipped) + (1 - known) * np.log(1 - clipped)).mean(axis=1))
