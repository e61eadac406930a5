"""A distribution over labels, such as the shares of raters, and the words that a model writes for the labels."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from predgen.errors import DataError, TargetError, explain
from predgen.targets.cells import Cell, LabelValue, describe, is_missing, label_key, parse_number
from predgen.targets.declared import UNDECLARED, Declared
from predgen.targets.label import Label, infer_label, similar_labels
from predgen.warning_kinds import PredGenWarning

# How far the shares of a row may sum up beside 1, as rounded ones do: 0.33, 0.33 and 0.33.
TOLERANCE = 0.01
ROUNDING = 1e-9

Shares = tuple[float, ...]


@dataclass(frozen=True)
class Distribution(Label):
    """The share of each of a few labels; an answer is one label, which has the share 1.

    A value is the shares in the order of `values`. They are at least 0 and sum up to 1.

    Attributes:
        values: the labels in the order that every output keeps.
        words: the text to write for each of them.
    """

    kind: ClassVar[str] = "distribution"
    noun: ClassVar[str] = "a distribution over labels"
    nouns: ClassVar[str] = "distributions over labels"
    stratifies: ClassVar[bool] = False
    soft: ClassVar[bool] = True

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Distribution":
        """Returns the labels that the cells name, in numeric or else alphabetic order, whatever their shares.

        Raises:
            ConfigError: a label text is of no label.
            DataError: there are too many labels, or all rows are wholly of one.
        """
        rows = [shares_in(cell) for cell in cells]
        present = {label for shares in rows for label, share in shares.items() if share > 0}
        if len(present) < 2:
            raise DataError(
                explain(
                    expected="at least two labels that some training row has a share of",
                    found=", ".join(map(describe, sorted(present))) or "none",
                    fix="Check the target columns and the rows that were read.",
                )
            )
        names = [label for shares in rows for label in shares]
        label = infer_label(names, declared.label_text, codes=declared.label_codes, declared=declared.labels)
        return cls(label.values, label.words)

    @classmethod
    def check_cell(cls, cell: Cell, declared: Declared = UNDECLARED) -> None:
        """Refuses a cell that holds no shares.

        Raises:
            TargetError: as `shares_in`.
        """
        shares_in(cell)

    def lost_labels(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the labels that other rows have a share of and this field does not know, in order."""
        found = {label for cell in cells if not is_missing(cell) for label, share in shares_in(cell).items() if share}
        return sorted(found - set(map(label_key, self.values)))

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns what is doubtful of the labels' names: that they look alike."""
        return list(similar_labels(list({label: None for cell in cells for label in shares_in(cell)})))

    def labels_in(self, value: Any) -> tuple[LabelValue, ...]:
        """Returns the labels that have a share."""
        return () if value is None else tuple(label for label, share in zip(self.values, value, strict=True) if share)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "cross_entropy"

    def index(self, cell: Any) -> int | None:
        """Returns the position of a label, or of the label with the largest share, the first of several."""
        return cell.index(max(cell)) if isinstance(cell, tuple) else super().index(cell)

    def one_hot(self, position: int) -> Shares:
        """Returns the value whose whole share is on the label at a position."""
        return tuple(float(one == position) for one in range(len(self.values)))

    def parse(self, cell: Cell) -> Shares:  # type: ignore[override]
        """Returns the cell's shares in the order of the labels.

        Raises:
            TargetError: the cell holds no shares, or one of a label that is not known.
        """
        shares = shares_in(cell)
        unknown = self._unknown(shares)
        if unknown:
            raise TargetError(
                explain(
                    expected=f"shares of the labels {', '.join(map(str, self.values[:10]))}",
                    found=f"one of {describe(unknown[0])}",
                    fix="Correct or remove the row, or declare the label (--labels).",
                )
            )
        return self._ordered(shares)

    def known(self, cell: Cell) -> Shares | None:  # type: ignore[override]
        """Returns a held-out cell's shares, None where a label has a share that was never seen in training.

        Raises:
            TargetError: the cell holds no shares.
        """
        shares = shares_in(cell)
        return None if self._unknown(shares) else self._ordered(shares)

    def _unknown(self, shares: Mapping[str, float]) -> list[str]:
        known = set(map(label_key, self.values))
        return [label for label, share in shares.items() if share > 0 and label not in known]

    def _ordered(self, shares: Mapping[str, float]) -> Shares:
        return tuple(shares.get(label_key(label), 0.0) for label in self.values)

    def answered(self, cell: Cell) -> Any:
        """Returns the value that another tool's answer stands for, a label or shares; None where it stands for none."""
        position = None if is_missing(cell) else super().index(cell)
        return super().answered(cell) if position is None else self.one_hot(position)

    def to_text(self, value: Any) -> str:
        """Returns the word of the label with the largest share."""
        return super().to_text(self.values[value.index(max(value))] if isinstance(value, tuple) else value)

    def from_text(self, text: str) -> Any:
        """Returns the value of a written word, or None if the text is no label's word."""
        label = super().from_text(text)
        position = None if label is None else self.index(label)
        return None if position is None else self.one_hot(position)

    def cell(self, value: Any) -> Any:
        """Returns the label of an answer; None, an invalid one, is an empty cell."""
        return None if value is None else self.values[value.index(max(value))]

    def describe(self) -> str:
        """Returns one line for people."""
        return f"distribution over {super().describe()}"

    def describe_column(self, cells: Sequence[Cell]) -> str:
        """Returns one line for people, with the mean share of each label."""
        rows = [self._ordered(shares_in(cell)) for cell in cells]
        means = [f"{sum(column) / len(rows):.2f}" for column in zip(*rows, strict=True)]
        return f"{self.describe()}; mean shares {', '.join(means[:8])}{', …' if len(means) > 8 else ''}"


def shares_in(cell: Any) -> dict[str, float]:
    """Returns the share of each label that a cell names, by the label's text; they sum up to 1.

    Args:
        cell: a mapping from labels to shares, or its text in JSON.

    Raises:
        TargetError: it is none, a share is negative or no number, or they do not sum up to 1 within `TOLERANCE`.

    Example:
        >>> shares_in('{"a": 0.75, "b": 0.25}')
        {'a': 0.75, 'b': 0.25}
    """
    return normalized(amounts_in(cell), expect_one=True)


def amounts_in(cell: Any) -> dict[str, float]:
    """Returns the number that a cell gives each label, by the label's text.

    Raises:
        TargetError: the cell is no mapping from labels to numbers of at least 0, or names a label twice.
    """
    pairs = list(cell.items()) if isinstance(cell, Mapping) else _pairs(cell)
    if pairs is None:
        raise TargetError(
            explain(
                expected='a share for each label, such as {"a": 0.7, "b": 0.3}',
                found=describe(cell),
                fix="Correct the cell, or name one column for each label, as in --target p_a,p_b.",
            )
        )
    amounts: dict[str, float] = {}
    for label, given in pairs:
        key = label_key(label)
        if key in amounts:
            raise TargetError(
                explain(expected="every label once", found=f"{describe(key)} again", fix="Add its shares up.")
            )
        amounts[key] = amount_of(given, f"a number of at least 0 for {describe(key)}")
    return amounts


def amount_of(cell: Any, expected: str) -> float:
    """Returns a share or a count.

    Args:
        cell: the cell.
        expected: what it should be, for messages.

    Raises:
        TargetError: it is no finite number of at least 0.
    """
    number = parse_number(cell)
    if number is None or number < 0:
        raise TargetError(
            explain(expected=expected, found=describe(cell), fix="Correct it; write 0 for a label that has none.")
        )
    return number


def normalized(amounts: Mapping[str, float], *, expect_one: bool) -> dict[str, float]:
    """Returns numbers divided by their sum.

    Args:
        amounts: of each label, at least 0.
        expect_one: refuse a sum that is not 1 within `TOLERANCE`, as of shares; else any above 0 will do.

    Raises:
        TargetError: the sum is another.
    """
    total = math.fsum(amounts.values())
    if expect_one and abs(total - 1) > TOLERANCE + ROUNDING:
        raise TargetError(
            explain(
                expected=f"shares that sum up to 1 (within {TOLERANCE:g})",
                found=f"{', '.join(f'{amount:g}' for amount in amounts.values())}, whose sum is {total:.6g}",
                fix="Correct them, or declare counts (--columns counts), which are divided by their sum.",
            )
        )
    if total <= 0:
        raise TargetError(
            explain(expected="a count above 0 of some label", found="0 of all", fix="Correct or remove the row.")
        )
    return {label: amount / total for label, amount in amounts.items()}


def looks_like_shares(cell: Any) -> bool:
    """Returns whether a cell is a mapping from labels to numbers, or the text of one."""
    try:
        return bool(amounts_in(cell))
    except TargetError:
        return False


def _pairs(cell: Any) -> list[tuple[str, Any]] | None:
    """Returns the pairs of a JSON object's text; None for other cells."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(cell, object_pairs_hook=list)  # a dict would hide a label that stands there twice
    except ValueError:
        return None
    return found if isinstance(found, list) else None
