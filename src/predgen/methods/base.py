"""What the three methods share: a loss for a batch, and answers for prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.methods.answers import Answers
from predgen.methods.heads import Head, Scale, field_heads
from predgen.targets.record import Target, fields_of
from predgen.writing.sampling import Draws


class Method(nn.Module, ABC):
    """A way to predict: `forward` gives the losses of a batch, `answer` the answers for prompts.

    Args:
        backbone: the language model.
        codec: the target automaton over its vocabulary.
        scales: what the training values say, for each field.

    Attributes:
        fields: what the heads' outputs mean, for each field; a target that is no record has one.
        thresholds: the probability from which on each label is in a set, for each field; None for others, and for one
            half.
        writes: whether it writes the target, so that logits are read and trained.
        samples: whether it is fed its own tokens in training.
        free_probabilities: whether label probabilities come with its answers at no cost.
    """

    writes: bool
    samples: bool = False
    free_probabilities: bool = True

    fields: tuple[Head[Any], ...]
    thresholds: list[Float[Tensor, " label"] | None]

    def __init__(self, backbone: Backbone, codec: Codec, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.backbone = backbone
        self.codec = codec
        self.fields = field_heads(codec.target, scales)
        self.thresholds = [None] * len(self.fields)

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.codec.target

    @property
    def max_written(self) -> int:
        """The most tokens that are written after a prompt."""
        return self.codec.max_length

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
            truth: as `predgen.methods.heads.truth_of` returns it.
            draws: where the model is fed its own tokens; None feeds gold everywhere.
        """

    @abstractmethod
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
        marginal: bool = False,
    ) -> Answers:
        """Returns the answers for a batch of prompts, without gradients and without dropout.

        Args:
            prompt: prompt tokens.
            prompt_mask: which of them are not padding.
            probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
            marginal: let what is returned of a record's field hold whatever the fields before it say, instead of after
                what was written for them.
        """

    def heads(self) -> Iterator[nn.Parameter]:
        """Returns the parameters that are not pretrained: those that are not the backbone's, and its new ones."""
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                yield parameter
        yield from self.backbone.new_parameters()

    # ---- heads over a state: for each field a standardized number, or the logits of labels

    @property
    def num_outputs(self) -> int:
        """Outputs of a head: 1 for a number, the number of labels otherwise, of all fields together."""
        return sum(one.num_outputs(one.field) for one in self.fields)

    def head_loss(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> Float[Tensor, ""]:
        """Returns the loss of a head's outputs; of a record, the mean over its fields of their shares.

        A share is the loss divided by that of the best constant answer.
        """
        losses = self.field_losses(outputs, truth)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def field_losses(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> list[Float[Tensor, ""]]:
        """Returns each field's loss, divided by that of the best constant answer if there are several fields."""
        found = [one.loss(outputs[:, one.outputs], truth[:, one.truth]) for one in self.fields]
        if len(found) == 1:
            return found
        return [loss / one.scale.constant_loss for loss, one in zip(found, self.fields, strict=True)]

    def head_predictions(self, outputs: Float[Tensor, "batch output"]) -> list[Tensor]:
        """Returns what a head's outputs stand for, field by field: numbers, or the probabilities of labels."""
        return [one.predictions(outputs[:, one.outputs]) for one in self.fields]

    def answers_of(
        self, predictions: Sequence[Tensor], written: Sequence[list[str | None]], *, probabilities: bool
    ) -> list[Answers]:
        """Returns the answers of each field that numbers or probabilities stand for.

        Args:
            predictions: as `head_predictions` returns them.
            written: the text of each row, field by field.
            probabilities: keep those of labels.
        """
        found = []
        for one, prediction, texts, threshold in zip(self.fields, predictions, written, self.thresholds, strict=True):
            values = one.values(prediction, threshold)
            kept = probabilities and not one.field.numeric
            found.append(Answers(values, texts, prediction.cpu() if kept else None))
        return found

    def written_nothing(self, num_rows: int) -> list[list[str | None]]:
        """Returns the texts of each field for a method that does not write."""
        return [[None] * num_rows for _ in fields_of(self.target)]
