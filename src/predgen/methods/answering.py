"""How a method's answers are chosen, and from what: one function for every method."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.measures.choices import MIXES, Mix
from predgen.measures.distributions import PredictiveDistribution
from predgen.methods.answers import Answers
from predgen.methods.heads import Head
from predgen.writing.targets import Decoding


@dataclass(frozen=True)
class FieldChoice:
    """How one field's answer is chosen; the attributes are those of `Answering`, of this field."""

    estimate: str
    threshold: Float[Tensor, " label"] | None
    mix: Mix


@dataclass(frozen=True)
class Answering:
    """How answers are chosen: a value beside the weights, most of it fitted after training.

    Attributes:
        decoding: how targets are written.
        estimates: the Writer's answer for each field: the written `text`; of a number's distribution the `mode`, the
            `mean`, the `median`, or a quantile such as `0.9`; the labels whose probability reaches their
            `thresholds`.
        thresholds: the probability from which on each label is in a set, or answered of two, for each field; None for
            others, and for one half.
        mixes: what shares Director and Writer have in the answer of each field.
    """

    decoding: Decoding
    estimates: tuple[str, ...]
    thresholds: tuple[Float[Tensor, " label"] | None, ...]
    mixes: tuple[Mix, ...]

    @classmethod
    def of(
        cls,
        decoding: Decoding,
        num_fields: int,
        *,
        estimates: Sequence[str] | None = None,
        source: str = "director",
    ) -> "Answering":
        """Returns a choice without thresholds.

        Args:
            decoding: how targets are written.
            num_fields: the target's fields.
            estimates: the estimate of each field; `text` for all fields if not given.
            source: where predgen's answers come from, a name in `MIXES`.
        """
        texts = ("text",) * num_fields
        # Text that is decoded without the automaton need not be a value: only the text itself is the answer.
        chosen = texts if estimates is None or decoding.name == "free" else tuple(estimates)
        return cls(decoding, chosen, (None,) * num_fields, (MIXES[source],) * num_fields)

    def predicting_from(self, source: str) -> "Answering":
        """Returns the choice with answers from elsewhere, and without the thresholds, which were tuned for these."""
        num_fields = len(self.mixes)
        mixes = (MIXES[source],) * num_fields
        return replace(self, mixes=mixes, thresholds=(None,) * num_fields)

    def of_field(self, field_index: int) -> FieldChoice:
        """Returns the choice for one field."""
        return FieldChoice(self.estimates[field_index], self.thresholds[field_index], self.mixes[field_index])


@dataclass(frozen=True)
class FieldSources:
    """What the answers of one field are computed from, row by row.

    Attributes:
        values: of the written text; None where it is none, or nothing is written.
        texts: what was written for the field; None where nothing is written.
        directed: what the head over the states predicts, numbers of shape (row,) or probabilities of labels of shape
            (row, label); None for a method without one.
        predictive: the Writer's predictive distribution; None where it is not needed.
        valid_mass: the probability that falls on valid targets; None where it is 1 by construction, or not known.
        text_decides: whether the written text can be the answer; it is not where the answers are to hold whatever the
            fields before say.
    """

    values: list[Any]
    texts: list[str | None]
    directed: Tensor | None = None
    predictive: PredictiveDistribution | None = None
    valid_mass: Float[Tensor, " row"] | None = None
    text_decides: bool = True


@dataclass(frozen=True)
class Sources:
    """What the answers for a batch are computed from.

    Attributes:
        fields: of each field.
        texts: the whole written text of each row; None where nothing is written.
    """

    fields: list[FieldSources]
    texts: list[str | None]


def field_answer(
    head: Head[Any],
    sources: FieldSources,
    choice: FieldChoice,
    *,
    probabilities: bool,
    quantiles: Sequence[float] = (),
) -> Answers:
    """Returns one field's answers; one that is computed from what is no number is invalid.

    Args:
        head: the field, and what its numbers or probabilities mean.
        sources: what the answers are made of.
        choice: how they are chosen.
        probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
        quantiles: with the spread, also return the quantiles at these shares.
    """
    predictive = sources.predictive
    if sources.directed is not None:
        predictions: Tensor | None = _mixed(head, sources, sources.directed, choice)
        assert predictions is not None
        values = head.values(predictions, choice.threshold)
    else:
        predictions = None if predictive is None else predictive.probabilities
        values = _writers_values(head, sources, choice)
    if predictions is not None:
        finite = predictions.isfinite().reshape(len(predictions), -1).all(dim=1).tolist()
        values = [value if is_finite else None for value, is_finite in zip(values, finite, strict=True)]
    is_table = predictions is not None and predictions.dim() == 2
    answers = Answers(
        values,
        sources.texts,
        predictions.cpu() if predictions is not None and is_table and probabilities else None,
        sources.valid_mass if probabilities else None,
    )
    distribution = None if predictive is None else predictive.distribution
    return answers.with_distribution(distribution, spread=probabilities, quantiles=quantiles)


def _mixed(head: Head[Any], sources: FieldSources, directed: Tensor, choice: FieldChoice) -> Tensor:
    """Returns the head's numbers or probabilities, mixed with the Writer's if these have a share."""
    if choice.mix.writer == 0:
        return directed
    predictive = sources.predictive
    if predictive is not None and predictive.probabilities is not None:
        written = predictive.probabilities
    elif choice.estimate == "text" and sources.text_decides:
        numbers = [math.nan if value is None else value for value in sources.values]
        written = torch.tensor(numbers, dtype=torch.float64, device=directed.device)
    else:
        written = _estimated(predictive, choice)
    return head.mixed(choice.mix, directed, written)


def _writers_values(head: Head[Any], sources: FieldSources, choice: FieldChoice) -> list[Any]:
    """Returns the values that the Writer alone answers."""
    predictive = sources.predictive
    if predictive is None or (choice.estimate == "text" and sources.text_decides):
        return sources.values
    if predictive.probabilities is not None:
        return head.values(predictive.probabilities, choice.threshold)
    estimates: list[float] = _estimated(predictive, choice).tolist()
    return [estimate if math.isfinite(estimate) else None for estimate in estimates]


def _estimated(predictive: PredictiveDistribution | None, choice: FieldChoice) -> Float[Tensor, " row"]:
    """Returns the estimate of a number's distribution, the mode for the likeliest text; NaN where it is none."""
    assert predictive is not None  # `sources` asks for what the choice needs
    assert predictive.distribution is not None
    distribution = predictive.distribution
    estimates = distribution.estimate("mode" if choice.estimate == "text" else choice.estimate)
    return estimates.masked_fill(distribution.probabilities.isnan().any(dim=1), math.nan)


def choices_of(answerings: Collection[Answering], field_index: int) -> list[FieldChoice]:
    """Returns the choices of several answerings for one field."""
    return [answering.of_field(field_index) for answering in answerings]
