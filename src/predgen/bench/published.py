"""The paper's published algorithm, written afresh: the rival whose time and memory ours is measured against.

After the program that came with Kowsher et al. (arXiv 2502.17817), by its description. A batch is fed either gold
tokens or the tokens that the model writes itself. Those are written one after the other, with gradients on and logits
for the whole sequence; then prompt and tokens go through one more full forward, whose loss is trained. Prediction
writes greedily over a cache, with logits for the whole sequence too, and runs the whole text once more with its loss.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache


@dataclass(frozen=True)
class PublishedLoss:
    """The loss of a batch and its parts.

    Attributes:
        loss: log(1 + L_W) + log(1 + L_D) + (1 + L_W)(1 + L_D).
        writer: L_W, the mean cross-entropy of the gold tokens in nats.
        director: L_D, the mean squared error of the standardized number.
        logits: of the whole sequence.
        fed: the target tokens that the model was fed.
    """

    loss: Float[Tensor, ""]
    writer: Float[Tensor, ""]
    director: Float[Tensor, ""]
    logits: Float[Tensor, "batch length vocab"]
    fed: Int[Tensor, "batch target"]


class Published(nn.Module):
    """The paper's program.

    Args:
        model: a causal language model of Hugging Face.
        vocabulary: its number of tokens; the head reads their logits.
    """

    def __init__(self, model: Any, vocabulary: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(vocabulary, 1)

    def forward(
        self,
        prompt: Int[Tensor, "batch prompt"],
        gold: Int[Tensor, "batch target"],
        truth: Float[Tensor, " batch"],
        *,
        self_fed: bool,
    ) -> PublishedLoss:
        """Returns the loss of a batch.

        Args:
            prompt: prompts of one length.
            gold: target tokens of one length.
            truth: standardized numbers.
            self_fed: whether this batch is fed the tokens that the model writes itself, instead of gold tokens.
        """
        # The cache holds the graph of the steps; in one training function it lives until the loss is there.
        fed, _cache = self._written(prompt, gold.shape[1]) if self_fed else (gold, None)
        return self._loss(prompt, fed, gold, truth)

    @torch.no_grad()
    def predict(
        self,
        prompt: Int[Tensor, "batch prompt"],
        gold: Int[Tensor, "batch target"],
        truth: Float[Tensor, " batch"],
        *,
        all_logits: bool = True,
    ) -> tuple[Int[Tensor, "batch target"], PublishedLoss]:
        """Returns the tokens that are written greedily, and the loss of the second forward.

        Args:
            prompt: as in `forward`.
            gold: as in `forward`.
            truth: as in `forward`.
            all_logits: compute those of the whole prompt while it writes, as the program does; a kinder rival asks for
                the last ones alone.
        """
        written, _ = self._written(prompt, gold.shape[1], keep=0 if all_logits else 1)
        return written, self._loss(prompt, written, gold, truth)

    def _written(self, prompt: Tensor, length: int, keep: int = 0) -> tuple[Tensor, DynamicCache]:
        """Returns the tokens that the model writes greedily, and the cache of the steps.

        Args:
            prompt: prompts of one length.
            length: how many tokens are written.
            keep: how many columns' logits are computed; 0 for all.
        """
        cache, columns = DynamicCache(), list[Tensor]()
        tokens = prompt
        for _ in range(length):
            logits = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=keep).logits
            tokens = logits[:, -1:].argmax(dim=-1)
            columns.append(tokens)
        return torch.cat(columns, dim=1), cache

    def _loss(self, prompt: Tensor, fed: Tensor, gold: Tensor, truth: Tensor) -> PublishedLoss:
        first, length = prompt.shape[1], gold.shape[1]
        logits = self.model(input_ids=torch.cat([prompt, fed], dim=1), use_cache=False).logits.float()
        writer = nn.functional.cross_entropy(logits[:, first - 1 : -1].flatten(0, 1), gold.flatten())
        outputs = self.head(logits[:, first : first + length].mean(dim=1)).squeeze(-1)
        director = nn.functional.mse_loss(outputs, truth)
        loss = (1 + writer).log() + (1 + director).log() + (1 + writer) * (1 + director)
        return PublishedLoss(loss, writer, director, logits, fed)
