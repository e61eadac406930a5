"""What a method answers: values, probabilities, and what was written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.measures.distributions import NumberDistribution
from predgen.targets.record import Target, joined_values

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
        asked_quantiles: of the Writer's number, at the shares that were asked for; None if none were.
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
    asked_quantiles: Float[Tensor, "row asked"] | None = None
    covered: Float[Tensor, " row"] | None = None
    fields: "tuple[Answers, ...]" = ()

    @classmethod
    def of_record(cls, target: Target, fields: "Sequence[Answers]", written: list[str | None]) -> "Answers":
        """Returns the answers of a target from its fields' answers; a row with an invalid field is invalid."""
        names = target.fields
        if len(names) == 1:
            return fields[0]
        values = joined_values(target, {name: answer.values for name, answer in zip(names, fields, strict=True)})
        return cls([None if None in value.values() else value for value in values], written, fields=tuple(fields))

    @classmethod
    def joined(cls, batches: "Sequence[Answers]", order: Sequence[int]) -> "Answers":
        """Returns the rows of several answers as one.

        Args:
            batches: the answers.
            order: the index of each of their rows, counted through, in what is returned.
        """
        back = torch.argsort(torch.tensor(order, dtype=torch.long))
        columns: dict[str, Any] = {}
        for name in ("values", "written"):
            cells = [cell for batch in batches for cell in getattr(batch, name)]
            columns[name] = [cells[row] for row in back.tolist()]
        for name in ("probabilities", "valid_mass", "deviations", "quantiles", "asked_quantiles", "covered"):
            if batches and getattr(batches[0], name) is not None:
                columns[name] = torch.cat([getattr(batch, name) for batch in batches])[back]
        fields = zip(*(batch.fields for batch in batches), strict=True)
        return cls(**columns, fields=tuple(cls.joined(answers, order) for answers in fields))

    @property
    def by_field(self) -> "tuple[Answers, ...]":
        """The answers of each field; a target that is no record is its own only field."""
        return self.fields or (self,)

    def with_distribution(
        self, distribution: NumberDistribution | None, *, spread: bool, quantiles: Sequence[float] = ()
    ) -> "Answers":
        """Returns the answers with the probability that the distribution covers, and with its spread if asked for.

        Args:
            distribution: of the Writer's number; None leaves the answers as they are.
            spread: also the standard deviation, and the quantiles that its score is computed from.
            quantiles: with the spread, also the quantiles at these shares.
        """
        if distribution is None:
            return self
        answers = replace(self, covered=distribution.covered.cpu())
        if not spread:
            return answers
        return replace(
            answers,
            deviations=distribution.deviation().cpu(),
            quantiles=distribution.quantiles(NUM_QUANTILES).cpu(),
            asked_quantiles=distribution.quantiles_at(quantiles).cpu() if quantiles else None,
        )
