"""What the three methods share: a loss for a batch, and answers for prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.measures.choices import HALF
from predgen.measures.distributions import NumberDistribution
from predgen.methods.heads import FieldHead, Scale, field_heads
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Field, Record, Target, fields_of, joined_values
from predgen.writing.sampling import Draws

# Quantiles of a number that are kept of its distribution: enough for its score, few enough for many rows.
NUM_QUANTILES = 100


@dataclass(frozen=True)
class Answers:
    """What a method answers for a batch of prompts, row by row.

    Attributes:
        values: values of the target; None where the written text is none.
        written: the text that was written; None where nothing is written.
        probabilities: of each label, or of each label's being in the set, shape (row, label); None for numbers or if
            not asked for.
        valid_mass: the probability that falls on valid targets; None where it is 1 by construction.
        deviations: the standard deviation of the Writer's number; None for labels or if not asked for.
        quantiles: of the Writer's number, at `NUM_QUANTILES` shares; None as `deviations`.
        covered: the share of the probability that the answers or their spread were computed from, number by number;
            None where no distribution of numbers was used.
        fields: a record's answers field by field, each as above.
    """

    values: list[Any]
    written: list[str | None]
    probabilities: Float[Tensor, "row label"] | None = None
    valid_mass: Float[Tensor, " row"] | None = None
    deviations: Float[Tensor, " row"] | None = None
    quantiles: Float[Tensor, "row share"] | None = None
    covered: Float[Tensor, " row"] | None = None
    fields: "tuple[Answers, ...]" = ()

    @classmethod
    def of_record(cls, target: Target, fields: "Sequence[Answers]", written: list[str | None]) -> "Answers":
        """Returns the answers of a target from those of its fields; a row with an invalid field is invalid."""
        if not isinstance(target, Record):
            return fields[0]
        values = joined_values(target, {name: one.values for name, one in zip(target.fields, fields, strict=True)})
        return cls([None if None in value.values() else value for value in values], written, fields=tuple(fields))

    @classmethod
    def joined(cls, parts: "Sequence[Answers]", order: Sequence[int]) -> "Answers":
        """Returns the rows of several answers as one.

        Args:
            parts: the answers.
            order: the place of each of their rows, counted through, in what is returned.
        """
        back = torch.argsort(torch.tensor(order, dtype=torch.long))
        columns: dict[str, Any] = {}
        for name in ("values", "written"):
            cells = [cell for part in parts for cell in getattr(part, name)]
            columns[name] = [cells[row] for row in back.tolist()]
        for name in ("probabilities", "valid_mass", "deviations", "quantiles", "covered"):
            if parts and getattr(parts[0], name) is not None:
                columns[name] = torch.cat([getattr(part, name) for part in parts])[back]
        fields = zip(*(part.fields for part in parts), strict=True)
        return cls(**columns, fields=tuple(cls.joined(one, order) for one in fields))

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

    fields: tuple[FieldHead, ...]
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
        return sum(1 if isinstance(one.field, Number) else len(one.field.values) for one in self.fields)

    def head_loss(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> Float[Tensor, ""]:
        """Returns the loss of a head's outputs; of a record, the mean over its fields of their shares.

        A share is the loss divided by that of the best constant answer.
        """
        losses = self.field_losses(outputs, truth)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def field_losses(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> list[Float[Tensor, ""]]:
        """Returns each field's loss, divided by that of the best constant answer if there are several fields."""
        found = [one.loss(outputs[:, one.outputs], truth) for one in self.fields]
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
            values = values_of(one.field, prediction, threshold)
            kept = probabilities and not isinstance(one.field, Number)
            found.append(Answers(values, texts, prediction.cpu() if kept else None))
        return found

    def written_nothing(self, num_rows: int) -> list[list[str | None]]:
        """Returns the texts of each field for a method that does not write."""
        return [[None] * num_rows for _ in fields_of(self.target)]


def values_of(field: Field, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
    """Returns the values that numbers, or the probabilities of labels, stand for.

    Args:
        field: what is predicted.
        predictions: numbers, shape (batch,), or probabilities, (batch, label).
        threshold: the probability from which on each label is in a set; one half if not given.
    """
    if isinstance(field, Number):
        return [field.clip(number) for number in predictions.tolist()]
    if isinstance(field, LabelSet):
        least = HALF if threshold is None else threshold.to(predictions)
        return [
            tuple(value for value, kept in zip(field.values, row, strict=True) if kept)
            for row in (predictions >= least).tolist()
        ]
    return [field.values[index] for index in predictions.argmax(dim=-1).tolist()]
