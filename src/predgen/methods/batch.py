"""A training batch: prompts, gold targets, and what heads are trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.codec.codec import EncodedTargets


@dataclass(frozen=True)
class Batch:
    """Some examples, padded.

    Attributes:
        prompt: prompt tokens.
        prompt_mask: which of them are not padding.
        gold: the gold path of each row.
        truth: as `predgen.methods.heads.truth_of` returns it; the first axis is the row.
        weights: what each row's losses are multiplied by, 1 on average over the training rows; None for 1 each.
    """

    prompt: Int[Tensor, "batch prompt"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    gold: EncodedTargets
    truth: Tensor
    weights: Float[Tensor, " batch"] | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def mean(self, losses: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Returns the mean over the rows of each one's loss times its weight, Σ w l / rows.

        It is divided by the rows, not by their weights: the gradient of a random batch is then, on average, that of
        the weighted mean over all training rows, whatever rows come together.
        """
        return losses.mean() if self.weights is None else (losses * self.weights).mean()

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Returns the batch on a device; `accelerate` moves batches by this.

        Args:
            device: the device.
            non_blocking: as in `Tensor.to`.
        """

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        gold = EncodedTargets(moved(self.gold.symbols), moved(self.gold.mask), moved(self.gold.states))
        weights = None if self.weights is None else moved(self.weights)
        return Batch(moved(self.prompt), moved(self.prompt_mask), gold, moved(self.truth), weights)
