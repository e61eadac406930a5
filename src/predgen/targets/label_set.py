"""Several labels for one row, or none: the target of multi-label tasks."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from predgen.errors import ConfigError, DataError, TargetError, explain
from predgen.targets.cells import Cell, LabelValue, describe, is_missing, label_key
from predgen.targets.declared import Declared
from predgen.targets.field import Field
from predgen.targets.label import check_words, labels_of, rare_labels, similar_labels
from predgen.warning_kinds import PredGenWarning

# What may stand between the labels of a cell; a column's own is the first of them that it holds.
DELIMITERS = ("|", ";", ",")
NONE = "none"
# Members of a value: labels in their order, then one None if the cell names labels that are not known.
SetValue = tuple[LabelValue | None, ...]


@dataclass(frozen=True)
class LabelSet(Field):
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

    kind: ClassVar[str] = "set"
    noun: ClassVar[str] = "a set of labels"
    nouns: ClassVar[str] = "sets of labels"
    fill: ClassVar[str] = "Write none for the empty set"

    def __post_init__(self) -> None:
        if not self.values:
            raise TargetError(
                explain(expected="at least one label", found="none", fix="Check the target column and its rows.")
            )
        check_words(self.values, self.words)
        if not self.delimiter:
            raise ConfigError(
                explain(expected="a sign between the labels of a cell", found="none", fix="Give one, such as |.")
            )
        taken = {word.strip() for word in self.words} | {label_key(value) for value in self.values}
        if not self.empty.strip() or self.empty.strip() in taken:
            raise ConfigError(
                explain(
                    expected="a word for the empty set that no label has",
                    found=f"'{self.empty}'",
                    fix="Rename that label.",
                )
            )

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "LabelSet":
        """Returns the sets of a column; see `infer_set`.

        Raises:
            ConfigError: a label text is of no label.
            DataError: no cell has a label, or the labels cannot be told apart.
        """
        return infer_set(cells, declared.label_text, codes=declared.label_codes)

    @classmethod
    def check_declared(cls, declared: Declared, column: str, reason: str) -> None:
        """Refuses what is declared of numbers, and declared labels.

        Raises:
            ConfigError: some are declared.
        """
        super().check_declared(declared, column, reason)
        if declared.labels is not None or declared.positive is not None:
            raise ConfigError(
                f"Expected declared labels for a column of labels, found '{column}' of sets. Leave them out."
            )

    @classmethod
    def is_missing(cls, cell: object) -> bool:
        """Returns whether a cell holds nothing; an empty list holds the empty set."""
        return is_empty(cell)

    def lost_labels(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the labels that other rows of the column have and this field does not know, in order."""
        # By the delimiter of all rows: the first ones may hold no set of two labels.
        delimiter = delimiter_of(cells)
        items = [item for cell in cells if not is_empty(cell) for item in items_of(cell, delimiter, self.empty)]
        return sorted({label_key(item) for item in items if not is_missing(item)} - set(map(label_key, self.values)))

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns what is doubtful of labels: written in several ways, alike, of one row, or ids."""
        rows = [items_of(cell, self.delimiter, self.empty) for cell in cells]
        return [*similar_labels([item for items in rows for item in items]), *rare_labels(rows)]

    def labels_in(self, value: SetValue) -> tuple[LabelValue, ...]:
        """Returns the members of the set that are known."""
        return tuple(label for label in value if label is not None)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "micro_f1"

    @property
    def labels(self) -> tuple[LabelValue, ...]:
        """The labels; each has a probability of being in the set."""
        return self.values

    @property
    def texts(self) -> tuple[str, ...]:
        """The words that are written, the empty set's last."""
        return (*self.words, self.empty)

    @property
    def num_values(self) -> int:
        """How many sets there are."""
        return int(2 ** len(self.values))

    def members(self, cell: object) -> SetValue:
        """Returns a cell's labels in their order, then None if there are others."""
        positions = {label_key(value): index for index, value in enumerate(self.values)}
        indices = [positions.get(label_key(item)) for item in items_of(cell, self.delimiter, self.empty)]
        known = sorted({index for index in indices if index is not None})
        return (*(self.values[index] for index in known), *([None] if None in indices else []))

    def known(self, cell: object) -> SetValue:
        """Returns a held-out cell's labels, then None if there are others that were never seen in training."""
        return self.members(cell)

    def is_unseen(self, value: SetValue) -> bool:
        """Returns whether a value that `known` returned has a label that was never seen in training."""
        return None in value

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
        """Returns the indices of a value's labels."""
        keys = [label_key(label) for label in self.values]
        return [keys.index(label_key(member)) for member in value if member is not None]

    def to_text(self, value: SetValue) -> str:
        """Returns the text to write for a set of labels.

        Example:
            >>> LabelSet(("joy", "anger"), ("joy", "anger")).to_text(("joy", "anger"))
            'joy, anger'
        """
        return ", ".join(self.words[position] for position in self.positions(value)) or self.empty

    def from_text(self, text: str) -> SetValue | None:
        """Returns the set of an unconstrained text, or None if it is no set's text."""
        if text.strip() == self.empty:
            return ()
        words = {word.strip(): index for index, word in enumerate(self.words)}
        indices = [words.get(piece.strip()) for piece in text.split(",")]
        known = sorted({index for index in indices if index is not None})
        return None if None in indices else tuple(self.values[index] for index in known)

    def cell(self, value: SetValue | None) -> str | None:
        """Returns a set as a cell of a table; None for an invalid answer."""
        return None if value is None else self.delimiter.join(map(label_key, value)) or self.empty

    def to_json(self) -> dict[str, Any]:
        """Returns the sets' labels as plain JSON values."""
        labels = {"kind": self.kind, "values": list(self.values), "words": list(self.words)}
        return labels | {"empty": self.empty, "delimiter": self.delimiter}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LabelSet":
        """Returns the sets that `to_json` described."""
        return cls(tuple(data["values"]), tuple(data["words"]), data["empty"], data["delimiter"])

    def describe(self) -> str:
        """Returns one line for people."""
        shown = ", ".join(map(str, self.values[:8])) + (", …" if len(self.values) > 8 else "")
        return f"sets of {len(self.values)} labels: {shown}"


def is_empty(cell: object) -> bool:
    """Returns whether a cell of a set holds nothing; an empty list holds the empty set."""
    return not isinstance(cell, list | tuple | set) and is_missing(cell)


def items_of(cell: object, delimiter: str, empty: str = NONE) -> list[Any]:
    """Returns the items of a cell: of a list, of a text that is a list, or the pieces between delimiters.

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
            parsed = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list):
            return parsed
    return None


def delimiter_of(cells: Sequence[object]) -> str:
    """Returns what stands between the labels of a column: the first of | ; , that some cell of text holds."""
    texts = [cell for cell in cells if isinstance(cell, str) and not cell.strip().startswith("[")]
    return next((delimiter for delimiter in DELIMITERS if any(delimiter in text for text in texts)), DELIMITERS[0])


def member_table(field: LabelSet, values: Sequence[Any]) -> np.ndarray:
    """Returns 1 for each label that is in a row's set, else 0, shape (row, label)."""
    table = np.zeros((len(values), len(field.values)))
    for row, value in enumerate(values):
        table[row, field.positions(value)] = 1.0
    return table


def infer_set(cells: Sequence[Cell], words: Mapping[str, str] | None = None, *, codes: bool = False) -> LabelSet:
    """Returns the target of a column of sets of labels, the labels in numeric or else alphabetic order.

    Args:
        cells: the training cells, none missing: lists, lists in JSON, or text with |, ; or , between the labels (the
            first of them that the column holds); `none` and the empty list are the empty set.
        words: as in `infer_label`.
        codes: as in `infer_label`.
    """
    delimiter = delimiter_of(cells)
    items = [item for cell in cells for item in items_of(cell, delimiter)]
    if not items:
        raise DataError(explain(expected="sets of labels", found="only empty ones", fix="Name another target column."))
    if any(map(is_missing, items)):
        raise DataError(
            explain(
                expected="a label in every place of a list",
                found="an empty one",
                fix="Leave it out of the list, or give it a name.",
            )
        )
    broken = next((item for item in items if is_broken_list(item)), None)
    if broken is not None:
        raise DataError(
            explain(
                expected='lists of labels such as ["a", "b"]',
                found=f"{broken!r}",
                fix="Correct that cell, or declare --kind label if the whole text is a label.",
            )
        )
    values, texts = labels_of(items, len(cells), words, codes=codes)
    # Labels of lists may hold any sign; what is answered must be told apart.
    free = [candidate for candidate in DELIMITERS if not any(candidate in label_key(value) for value in values)]
    if not free:
        raise DataError(
            explain(
                expected=f"labels that leave one of {' '.join(DELIMITERS)} free to stand between them",
                found="labels that hold all of them",
                fix="Rename some.",
            )
        )
    return LabelSet(values, texts, delimiter=delimiter if delimiter in free else free[0])
