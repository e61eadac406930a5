"""Several labels for one row, or none: the target of multi-label tasks."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from predgen.errors import ConfigError, TargetError, explain
from predgen.targets.cells import LabelValue, describe, is_missing, label_key
from predgen.targets.label import check_words
from predgen.targets.number import Kind

# What may stand between the labels of a cell; a column's own is the first of them that it holds.
DELIMITERS = ("|", ";", ",")
NONE = "none"
# Members of a value: labels in their order, then one None if the cell names labels that are not known.
SetValue = tuple[LabelValue | None, ...]


@dataclass(frozen=True)
class LabelSet:
    """Any number of a few labels, written in the order in which they are declared.

    Attributes:
        values: the labels as they stand in the table.
        words: the text to write for each of them.
        empty: the word for a row without labels, in the table and in what is written.
        delimiter: what stands between the labels of a cell that is text. A cell may also be a list, or a list's text.
    """

    values: tuple[LabelValue, ...]
    words: tuple[str, ...]
    empty: str = NONE
    delimiter: str = DELIMITERS[0]

    kind: ClassVar[Kind] = "set"
    default_metric: ClassVar[str] = "micro_f1"

    def __post_init__(self) -> None:
        if not self.values:
            raise TargetError(
                explain(expected="at least one label", found="none", fix="Check the target column and its rows.")
            )
        check_words(self.values, self.words)
        taken = {word.strip() for word in self.words} | {label_key(value) for value in self.values}
        if not self.empty.strip() or self.empty.strip() in taken:
            raise ConfigError(
                explain(
                    expected="a word for the empty set that no label has",
                    found=f"'{self.empty}'",
                    fix="Rename that label.",
                )
            )

    @property
    def num_values(self) -> int:
        """How many sets there are."""
        return int(2 ** len(self.values))

    def members(self, cell: object) -> SetValue:
        """Returns a cell's labels in their order, then None if there are others."""
        positions = {label_key(value): position for position, value in enumerate(self.values)}
        found = [positions.get(label_key(item)) for item in items_of(cell, self.delimiter, self.empty)]
        known = sorted({position for position in found if position is not None})
        return (*(self.values[position] for position in known), *([None] if None in found else []))

    def parse(self, cell: object) -> SetValue:
        """Returns the cell's labels in their order.

        Raises:
            TargetError: the cell is empty or names a label that is not known.
        """
        members = self.members(cell) if not is_empty(cell) else (None,)
        if None in members:
            known = ", ".join(str(value) for value in self.values[:10])
            raise TargetError(
                explain(
                    expected=f"labels among {known}, with {self.delimiter} between them, or '{self.empty}'",
                    found=describe(cell) if not isinstance(cell, list | tuple) else str(cell),
                    fix="Correct or remove the row.",
                )
            )
        return members

    def positions(self, value: SetValue) -> list[int]:
        """Returns the places of a value's labels."""
        keys = [label_key(one) for one in self.values]
        return [keys.index(label_key(member)) for member in value if member is not None]

    def to_text(self, value: SetValue) -> str:
        """Returns the text to write for a set of labels.

        Example:
            >>> LabelSet(("joy", "anger"), ("joy", "anger")).to_text(("joy", "anger"))
            'joy, anger'
        """
        return ", ".join(self.words[position] for position in self.positions(value)) or self.empty

    def from_text(self, text: str) -> SetValue | None:
        """Returns the set of a freely written text, or None if it is no set's text."""
        if text.strip() == self.empty:
            return ()
        words = {word.strip(): position for position, word in enumerate(self.words)}
        found = [words.get(piece.strip()) for piece in text.split(",")]
        known = sorted({position for position in found if position is not None})
        return None if None in found else tuple(self.values[position] for position in known)

    def cell(self, value: SetValue) -> str:
        """Returns a set as a cell of a table."""
        return self.delimiter.join(map(label_key, value)) or self.empty

    def describe(self) -> str:
        """Returns one line for people."""
        shown = ", ".join(map(str, self.values[:8])) + (", …" if len(self.values) > 8 else "")
        return f"sets of {len(self.values)} labels: {shown}"


def is_empty(cell: object) -> bool:
    """Returns whether a cell of a set holds nothing; an empty list holds the empty set."""
    return not isinstance(cell, list | tuple | set) and is_missing(cell)


def items_of(cell: object, delimiter: str, empty: str = NONE) -> list[Any]:
    """Returns what a cell lists: a list's items, those of a list's text, or the pieces between delimiters.

    A list in a list, and text that begins as a list and is none, is one item as it stands: no label.
    """
    if isinstance(cell, list | tuple | set):
        return list(cell)
    text = str(cell).strip()
    if text == empty:
        return []
    if text.startswith("["):
        listed = _list_in(text)
        return [text] if listed is None else listed
    if not isinstance(cell, str):
        return [cell]
    return [piece.strip() for piece in text.split(delimiter) if piece.strip()]


def is_broken_list(item: object) -> bool:
    """Returns whether an item is a list in a list, or text that begins as a list and is none."""
    if isinstance(item, list | tuple | set | dict):
        return True
    return isinstance(item, str) and item.strip().startswith("[") and _list_in(item.strip()) is None


def _list_in(text: str) -> list[Any] | None:
    """Returns the list that a text is, in JSON or as Python writes it (and pandas into CSV); None if it is none."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def delimiter_of(cells: Sequence[object]) -> str:
    """Returns what stands between the labels of a column: the first of | ; , that some cell of text holds."""
    texts = [cell for cell in cells if isinstance(cell, str) and not cell.strip().startswith("[")]
    return next((one for one in DELIMITERS if any(one in text for text in texts)), DELIMITERS[0])


def member_table(field: LabelSet, values: Sequence[Any]) -> np.ndarray:
    """Returns 1 for each label that is in a row's set, else 0, shape (row, label)."""
    table = np.zeros((len(values), len(field.values)))
    for row, value in enumerate(values):
        table[row, field.positions(value)] = 1.0
    return table
