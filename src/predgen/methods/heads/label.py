"""The head of a label: a logit for each label, cross-entropy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.trie import Trie
from predgen.measures.distributions import PredictiveDistribution
from predgen.methods.heads.base import FieldKind, Head, Scale, positions_of, shares_loss
from predgen.methods.losses import label_loss
from predgen.targets.label import Label

# The smallest normal number of float32: probabilities below it are 0 where a softmax is computed in float32.
LEAST = 1.2e-38


class ExclusiveHead(Head[FieldKind]):
    """The part that heads of a single label share, whatever their outputs."""

    @classmethod
    def scale_of(cls, field: FieldKind, values: Sequence[Any], *, standardize: bool) -> Scale:
        """Returns the entropy of the labels' shares, the loss of the best constant answer."""
        positions = positions_of(field, values).long().flatten().numpy()
        return Scale(constant_loss=shares_loss(np.bincount(positions) / len(values)))

    def truth_of(self, values: Sequence[Any]) -> Float[Tensor, "row 1"]:
        """Returns the labels' positions."""
        return positions_of(self.field, values)

    def score(self, predictions: Float[Tensor, "batch label"], position: int) -> Float[Tensor, " batch"]:
        """Returns log(P(label) / P(another)); P(another) is a sum, as 1 − P(label) would be rounded near 0."""
        others = torch.cat([predictions[:, :position], predictions[:, position + 1 :]], dim=1).sum(dim=1)
        return torch.log(predictions[:, position].clamp(min=LEAST)) - torch.log(others.clamp(min=LEAST))

    def distribution(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"], covered: Float[Tensor, " batch"]
    ) -> PredictiveDistribution:
        """Returns the labels' probabilities; those of a trie stand in the target's order."""
        return PredictiveDistribution(None, log_probabilities.double().softmax(dim=-1))


class SoftmaxHead(ExclusiveHead[FieldKind]):
    """The part that heads with a logit for each label share, whatever they learn."""

    problem_type = "single_label_classification"

    @classmethod
    def num_outputs(cls, field: FieldKind) -> int:
        """Returns the number of labels."""
        return len(field.labels)

    def writer_outputs(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"]
    ) -> Float[Tensor, "batch label"]:
        """Returns log P of each label; those of a trie stand in the target's order."""
        return log_probabilities

    def predictions(self, outputs: Float[Tensor, "batch label"]) -> Float[Tensor, "batch label"]:
        """Returns the probability of each label."""
        return torch.softmax(outputs, dim=-1)


class LabelHead(SoftmaxHead[Label]):
    """One of a few labels."""

    def loss(self, outputs: Float[Tensor, "batch label"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Returns the cross-entropy of each row in nats."""
        return label_loss(outputs, truth.squeeze(-1).long())

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the likeliest labels; of two with thresholds the positive one where it reaches its own."""
        positive = self.field.positive_index
        if threshold is not None and positive is not None:
            # In float64, or the threshold would be rounded to one of the probabilities that it parts.
            reached = predictions[:, positive].double() >= threshold[positive].double().to(predictions.device)
            return [self.field.values[positive if held else 1 - positive] for held in reached.tolist()]
        return [self.field.values[position] for position in predictions.argmax(dim=-1).tolist()]
