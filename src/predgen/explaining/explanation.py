"""What an explanation holds: a score, and what each word adds to it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Word:
    """A word of a cell, or a run of words that were left out together.

    Attributes:
        text: as the cell has it.
        column: the cell's column.
        start: where it begins in the cell, in characters from 0.
        end: the character behind its last one.
        attribution: what it adds to the score, in the score's unit; None where the prompt was cut before it.
    """

    text: str
    column: str
    start: int
    end: int
    attribution: float | None


@dataclass(frozen=True)
class Explanation:
    """What the words of a row add to one score of a model's answer.

    Attributes:
        row: the row's number, counted from 1 without the header.
        field: the target's field; empty where it has one alone.
        answer: what the model answers in this field: a number, a label, the labels of a set; None if that is invalid.
        label: the label whose log-odds are explained; None of a number.
        unit: of the score and of the attributions: `log-odds` (in nats), or `number` (the target's unit).
        method: `gradients` or `words`.
        score: of the row as it is.
        baseline_score: of the row whose input columns are replaced by the baseline; None of `words`.
        gap: score − baseline_score − the sum of the attributions, which is 0 up to the numeric integral; None of
            `words`, whose attributions need not add up.
        probability: of the label; None of a number.
        words: in the order of the columns, then of their words.
        passes: how many forwards of one prompt it took, several scores of a row together.
    """

    row: int
    field: str
    answer: Any
    label: Any
    unit: str
    method: str
    score: float
    baseline_score: float | None
    gap: float | None
    probability: float | None
    words: tuple[Word, ...]
    passes: int

    @property
    def columns(self) -> dict[str, float]:
        """The sum of the attributions of each column's words."""
        sums: dict[str, float] = {}
        for word in self.words:
            sums[word.column] = sums.get(word.column, 0.0) + (word.attribution or 0.0)
        return sums

    @property
    def gap_fraction(self) -> float | None:
        """The size of the gap as a fraction of the sum of the attributions' sizes; None of `words`."""
        if self.gap is None:
            return None
        size = sum(abs(word.attribution or 0.0) for word in self.words)
        return abs(self.gap) / size if size else 0.0 if not self.gap else 1.0

    @property
    def num_cut(self) -> int:
        """How many words the model did not read, as the prompt was cut before them."""
        return sum(word.attribution is None for word in self.words)

    def strongest(self, most: int) -> list[Word]:
        """Returns the words with the largest attributions by size, the largest first."""
        read = [word for word in self.words if word.attribution is not None]
        return sorted(read, key=lambda word: -abs(word.attribution or 0.0))[:most]

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, the sums of the columns among them."""
        return {**asdict(self), "words": [asdict(word) for word in self.words], "columns": self.columns}

    def to_frame(self) -> pd.DataFrame:
        """Returns a row for each word."""
        names = ("text", "column", "start", "end", "attribution")
        return pd.DataFrame([asdict(word) for word in self.words], columns=list(names))

    def _repr_html_(self) -> str:
        """Returns the words as notebooks show them."""
        return str(self.to_frame().to_html())


def json_of(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Returns explanations as plain JSON values."""
    return [explanation.to_json() for explanation in explanations]
