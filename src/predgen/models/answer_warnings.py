"""What answers are warned of: cut prompts, invalid answers, coarse distributions, probabilities of exactly 0 or 1."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from predgen.errors import DataError, explain
from predgen.methods import Answers
from predgen.models.asked import Asked
from predgen.models.encoding import Encoded, cut_warning
from predgen.tables.reading import row_numbers
from predgen.warning_kinds import (
    CertainProbabilitiesWarning,
    CoarseDistributionWarning,
    InvalidAnswersWarning,
    warn,
)

if TYPE_CHECKING:
    from predgen.models.model import Model

# Below this share of the Writer's probability, a warning says that what was computed from it is coarse.
COARSE_BELOW = 0.99


@dataclass
class AnswerWarnings:
    """Counts over a prediction's chunks, so that each warning is given once, with the figures of all rows.

    Attributes:
        model: what answers.
        asked: what it is asked for.
        rows: how many rows were answered.
        cut: how many of their prompts were cut.
        certain: how many have a probability of exactly 0 or 1.
        invalid: how many answers are no value of the target.
        first_invalid: the message for the first of them, with its row.
        covered: by field, the sum over rows of the probability that is known number by number.
    """

    model: "Model"
    asked: Asked
    rows: int = 0
    cut: int = 0
    certain: int = 0
    invalid: int = 0
    first_invalid: tuple[int, str | None] | None = None
    covered: dict[str, float] = field(default_factory=dict)

    def add(self, encoded: Encoded, answers: Answers) -> None:
        """Counts a chunk.

        Args:
            encoded: its rows.
            answers: the answers for them.

        Raises:
            DataError: an answer is invalid, and it is asked for an error then.
        """
        self.rows += len(encoded.prompts)
        self.cut += encoded.num_cut
        invalid = [value is None for value in answers.values]
        self.invalid += sum(invalid)
        if any(invalid) and self.first_invalid is None:
            row = invalid.index(True)
            self.first_invalid = row_numbers(encoded.table)[row], answers.written[row]
        if self.invalid and self.asked.invalid == "raise":
            raise DataError(self._of_invalid())
        certain = [
            ((of_field.probabilities == 0) | (of_field.probabilities == 1)).any(dim=1)
            for of_field in answers.by_field
            if of_field.probabilities is not None
        ]
        if certain:
            self.certain += int(sum(rows.int() for rows in certain).gt(0).sum())
        for name, of_field in zip(self.model.target.fields, answers.by_field, strict=True):
            if of_field.covered is not None:
                self.covered[name] = self.covered.get(name, 0.0) + float(of_field.covered.sum())

    def give(self) -> None:
        """Gives the warnings."""
        if self.cut:
            warn(cut_warning(self.model.method, self.model.contents, self.cut, self.rows), about=self.rows)
        if self.invalid and self.asked.invalid == "warn":
            warn(InvalidAnswersWarning(self._of_invalid()))
        if self.certain and self.asked.probabilities:
            warn(
                CertainProbabilitiesWarning(
                    f"{self.certain} of {self.rows} rows have a label with a probability of exactly 0 or 1, which no "
                    "finite number of rows can show. Calibrate the model on rows that nothing was chosen on."
                ),
                about=self.rows,
            )
        for total in self.covered.values():
            share = total / self.rows
            if share < COARSE_BELOW:
                cut_off = self.model.config.model.trie_mass < 1
                mend = "trie_mass=1 makes" if cut_off else "Fewer decimals or a smaller range make"
                warn(
                    CoarseDistributionWarning(
                        f"{100 * share:.1f} % of the Writer's probability over {self.rows} rows is known number by "
                        "number, the rest for ranges of numbers alone: means and standard deviations are coarse. "
                        f"{mend} them exact."
                    ),
                    about=self.rows,
                )

    def _of_invalid(self) -> str:
        """Returns what is said of invalid answers."""
        assert self.first_invalid is not None
        row, written = self.first_invalid
        return explain(
            expected=f"a written {self.model.target.kind}",
            found=f"{self.invalid} invalid of {self.rows}, first '{written}'",
            fix="Use another decoding than free, or the policy 'nan'.",
            row=row,
        )


def warn_of_answers(model: "Model", encoded: Encoded, answers: Answers, asked: Asked) -> None:
    """Gives the warnings about some answers.

    Args:
        model: what answered.
        encoded: the rows.
        answers: the answers for them.
        asked: what it was asked for.
    """
    counted = AnswerWarnings(model, asked)
    counted.add(encoded, answers)
    counted.give()
