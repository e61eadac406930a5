"""What the three methods share: a loss for a batch, and answers for prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone
from predgen.codec import Codec
from predgen.distributions import NumberDistribution
from predgen.losses import label_loss, number_loss
from predgen.methods.sampling import Draws
from predgen.targets import Label, Number, Target

# Quantiles of a number that are kept of its distribution: enough for its score, few enough for many rows.
NUM_QUANTILES = 100


@dataclass(frozen=True)
class Scale:
    """The mean and standard deviation of the training values; heads predict standardized numbers."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Scale":
        """Returns the scale of a column; a constant column keeps its unit."""
        column = torch.tensor(values, dtype=torch.float64)
        deviation = float(column.std(correction=0)) if len(values) else 0.0
        return cls(float(column.mean()), deviation if deviation > 0 else 1.0)


@dataclass(frozen=True)
class Answers:
    """What a method answers for a batch of prompts, row by row.

    Attributes:
        values: numbers or labels; None where the written text is no value of the target.
        written: the text that was written; None where nothing is written.
        probabilities: of each label, shape (row, label); None for numbers or if not asked for.
        valid_mass: the probability that falls on valid targets; None where it is 1 by construction.
        deviations: the standard deviation of the Writer's number; None for labels or if not asked for.
        quantiles: of the Writer's number, at `NUM_QUANTILES` shares; None as `deviations`.
        covered: the share of the probability that the answers or their spread were computed from, number by number;
            None where no distribution of numbers was used.
    """

    values: list[Any]
    written: list[str | None]
    probabilities: Float[Tensor, "row label"] | None = None
    valid_mass: Float[Tensor, " row"] | None = None
    deviations: Float[Tensor, " row"] | None = None
    quantiles: Float[Tensor, "row share"] | None = None
    covered: Float[Tensor, " row"] | None = None

    def with_distribution(self, distribution: NumberDistribution | None, *, spread: bool) -> "Answers":
        """Returns the answers with what the distribution that was used covers, and its spread if that is asked for."""
        if distribution is None:
            return self
        answers = replace(self, covered=distribution.covered.cpu())
        if not spread:
            return answers
        return replace(
            answers,
            deviations=distribution.deviation().cpu(),
            quantiles=distribution.quantiles(NUM_QUANTILES).cpu(),
        )


class Method(nn.Module, ABC):
    """A way to predict: `forward` gives the losses of a batch, `answer` the answers for prompts.

    Args:
        backbone: the language model.
        codec: the target automaton over its vocabulary.
        scale: the standardization of numbers; unused for labels.

    Attributes:
        writes: whether it writes the target, so that logits are read and trained.
        samples: whether it is fed its own tokens in training.
        free_probabilities: whether label probabilities come with its answers at no cost.
    """

    writes: bool
    samples: bool = False
    free_probabilities: bool = True

    def __init__(self, backbone: Backbone, codec: Codec, scale: Scale) -> None:
        super().__init__()
        self.backbone = backbone
        self.codec = codec
        self.scale = scale

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.codec.target

    @property
    def device(self) -> torch.device:
        """Where the method is."""
        device: torch.device = self.codec.symbols.device
        return device

    @abstractmethod
    def forward(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        symbols: Int[Tensor, "batch target"],
        symbol_mask: Bool[Tensor, "batch target"],
        states: Int[Tensor, "batch target"],
        truth: Tensor,
        draws: Draws | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns the losses of a batch: `loss` to minimize, and `writer_loss`, `director_loss` where they exist.

        Args:
            prompt: prompt tokens.
            prompt_mask: which of them are not padding.
            symbols: the gold path of each row.
            symbol_mask: which positions belong to it.
            states: the automaton's states along it.
            truth: standardized numbers (batch,), or label positions (batch,).
            draws: where the model is fed its own tokens; None feeds gold everywhere.
        """

    @abstractmethod
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
    ) -> Answers:
        """Returns the answers for a batch of prompts, without gradients and without dropout.

        Args:
            prompt: prompt tokens.
            prompt_mask: which of them are not padding.
            probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
        """

    def heads(self) -> Iterator[nn.Parameter]:
        """Returns the parameters that are not the backbone's."""
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                yield parameter

    # ---- heads over a state: a standardized number, or the labels' logits

    @property
    def num_outputs(self) -> int:
        """Outputs of a head: 1 for a number, the number of labels otherwise."""
        return len(self.target.values) if isinstance(self.target, Label) else 1

    def head_loss(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> Float[Tensor, ""]:
        """Returns the loss of a head's outputs."""
        if isinstance(self.target, Number):
            return number_loss(outputs.squeeze(-1), truth)
        return label_loss(outputs, truth)

    def head_predictions(self, outputs: Float[Tensor, "batch output"]) -> Tensor:
        """Returns what a head's outputs stand for: numbers in the target's unit, or the probabilities of labels."""
        if not isinstance(self.target, Number):
            return torch.softmax(outputs, dim=-1)
        numbers: Tensor = outputs.squeeze(-1).double() * self.scale.deviation + self.scale.mean
        return numbers

    def answers_of(self, predictions: Tensor, written: list[str | None], *, probabilities: bool) -> Answers:
        """Returns the answers that numbers or probabilities stand for.

        Args:
            predictions: as `head_predictions` returns them.
            written: the text of each row.
            probabilities: keep those of labels.
        """
        if isinstance(self.target, Number):
            return Answers([self.target.clip(number) for number in predictions.tolist()], written)
        values = [self.target.values[index] for index in predictions.argmax(dim=-1).tolist()]
        return Answers(values, written, predictions.cpu() if probabilities else None)
