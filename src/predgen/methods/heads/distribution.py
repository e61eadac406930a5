"""The head of a distribution over labels: a logit for each label, cross-entropy against the shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.methods.heads.base import Scale, shares_loss
from predgen.methods.heads.label import SoftmaxHead
from predgen.methods.losses import shares_cross_entropy
from predgen.targets.distribution import Distribution


class DistributionHead(SoftmaxHead[Distribution]):
    """The shares of a few labels."""

    @classmethod
    def scale_of(cls, field: Distribution, values: Sequence[Any], *, standardize: bool) -> Scale:
        """Returns the entropy of the labels' mean shares, the loss of the best constant answer."""
        return Scale(constant_loss=shares_loss(np.mean(values, axis=0)))

    @classmethod
    def num_columns(cls, field: Distribution) -> int:
        """Returns the number of labels."""
        return len(field.values)

    def truth_of(self, values: Sequence[Any]) -> Float[Tensor, "row label"]:
        """Returns the shares."""
        return torch.tensor(values, dtype=torch.float32).reshape(len(values), len(self.field.values))

    def loss(
        self, outputs: Float[Tensor, "batch label"], truth: Float[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Returns the cross-entropy of each row's distribution against its shares, in nats."""
        return shares_cross_entropy(outputs.log_softmax(dim=-1), truth)

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the likeliest labels, as values that have the whole share."""
        return [self.field.one_hot(position) for position in predictions.argmax(dim=-1).tolist()]

    def reading(self, threshold: Float[Tensor, " label"] | None = None) -> dict[str, Any]:
        """Returns the labels: outside, the logits are read as those of a label are."""
        return {**super().reading(), "kind": "label"}
