"""The head of a set of labels: a logit for each label's being in it, binary cross-entropy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.codec.trie import Trie
from predgen.measures.choices import HALF
from predgen.measures.distributions import PredictiveDistribution
from predgen.methods.heads.base import LEAST_LOSS, Head, Scale
from predgen.methods.losses import set_loss
from predgen.targets.label_set import LabelSet, member_table

# exp(−16): smaller shares are rounded away beside 1 in float32.
LEAST_SHARE = 1e-7


class LabelSetHead(Head[LabelSet]):
    """Several labels or none."""

    problem_type = "multi_label_classification"

    @classmethod
    def scale_of(cls, field: LabelSet, values: Sequence[Any], *, standardize: bool) -> Scale:
        """Returns the mean entropy of the labels' shares, the loss of the best constant answer."""
        shares = member_table(field, values).mean(axis=0).clip(1e-12, 1 - 1e-12)
        loss = float(-(shares * np.log(shares) + (1 - shares) * np.log(1 - shares)).mean())
        return Scale(constant_loss=loss if loss > LEAST_LOSS else 1.0)

    @classmethod
    def num_outputs(cls, field: LabelSet) -> int:
        """Returns the number of labels."""
        return len(field.values)

    @classmethod
    def num_columns(cls, field: LabelSet) -> int:
        """Returns the number of labels."""
        return len(field.values)

    def truth_of(self, values: Sequence[Any]) -> Float[Tensor, "row label"]:
        """Returns which labels are in each set."""
        return torch.from_numpy(member_table(self.field, values)).float()

    def loss(
        self, outputs: Float[Tensor, "batch label"], truth: Float[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Returns the binary cross-entropy of each row in nats per label."""
        return set_loss(outputs, truth)

    def predictions(self, outputs: Float[Tensor, "batch label"]) -> Float[Tensor, "batch label"]:
        """Returns the probability of each label's being in the set."""
        return torch.sigmoid(outputs)

    def score(self, predictions: Float[Tensor, "batch label"], position: int) -> Float[Tensor, " batch"]:
        """Returns the log-odds of the label's being in the set; beyond ±16 they are rounded away in float32."""
        return torch.logit(predictions[:, position], eps=LEAST_SHARE)

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the sets of labels whose probabilities reach their thresholds."""
        least = HALF if threshold is None else threshold.to(predictions)
        return [
            tuple(value for value, is_in in zip(self.field.values, row, strict=True) if is_in)
            for row in (predictions >= least).tolist()
        ]

    def reading(self, threshold: Float[Tensor, " label"] | None = None) -> dict[str, Any]:
        """Returns the labels, and the probability from which on each is in the set."""
        least = [HALF] * len(self.field.values) if threshold is None else threshold.tolist()
        return {**super().reading(), "thresholds": least}

    def writer_outputs(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"]
    ) -> Float[Tensor, "batch label"]:
        """Returns the logit of each label's being in the set, at most ±16: float32 cannot tell more from 0 and 1."""
        members = trie.members.to(log_probabilities.dtype)
        shares = log_probabilities.softmax(dim=-1)
        inside, outside = (shares @ members).clamp(min=LEAST_SHARE), (shares @ (1 - members)).clamp(min=LEAST_SHARE)
        return inside.log() - outside.log()

    def distribution(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"], covered: Float[Tensor, " batch"]
    ) -> PredictiveDistribution:
        """Returns the probability of each label's being in the set, summed over all sets."""
        return PredictiveDistribution(None, log_probabilities.double().softmax(dim=-1) @ trie.members)
