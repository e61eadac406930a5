"""What training is fed: examples, and batches of like length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.methods import Batch

# Rows are sorted by length inside groups of this many batches: little padding, and still a random order.
BATCHES_PER_GROUP = 32


@dataclass(frozen=True)
class Examples(Dataset[int]):
    """Prompts with their targets; an item is its own position, and the collator looks it up.

    Attributes:
        prompts: token ids of each prompt.
        values: the target's values.
        truth: what heads are trained on, as `predgen.methods.heads.truth_of` returns it.
        weights: what each row's losses are multiplied by; None for 1 each.
    """

    prompts: list[list[int]]
    values: list[Any]
    truth: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> int:
        return index

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each prompt."""
        return [len(prompt) for prompt in self.prompts]


@dataclass(frozen=True)
class Collator:
    """Makes padded batches from positions in the examples."""

    examples: Examples
    backbone: Backbone
    codec: Codec

    def __call__(self, positions: Sequence[int]) -> dict[str, Batch]:
        """Returns the batch, on the CPU, under the name `batch`: the Trainer wants its inputs by name."""
        prompt, prompt_mask = self.backbone.collate([self.examples.prompts[position] for position in positions])
        gold = self.codec.encode([self.examples.values[position] for position in positions])
        rows = list(positions)
        weights = None if self.examples.weights is None else self.examples.weights[rows]
        return {"batch": Batch(prompt, prompt_mask, gold, self.examples.truth[rows], weights).to("cpu")}


class BucketSampler(Sampler[int]):
    """Yields rows in an order that depends on the seed and the epoch alone, like lengths side by side.

    Args:
        lengths: tokens of each row.
        batch_size: rows of a batch.
        seed: the run's seed.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        group = self.batch_size * BATCHES_PER_GROUP
        batches = []
        for start in range(0, len(order), group):
            rows = sorted(order[start : start + group], key=lambda row: self.lengths[row])
            batches += [rows[first : first + self.batch_size] for first in range(0, len(rows), self.batch_size)]
        # A short batch in the middle would shift all that follow: the sampler yields rows, not batches.
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        for position in torch.randperm(len(full), generator=generator).tolist():
            yield from full[position]
        for batch in short:
            yield from batch
