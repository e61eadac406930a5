"""A label, and the word that a model writes for it."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from predgen.errors import ConfigError, DataError, TargetError, explain
from predgen.targets.cells import (
    Cell,
    LabelValue,
    describe,
    is_missing,
    label_key,
    label_value,
    number_form,
    parse_number,
)
from predgen.targets.date_cells import date_hint
from predgen.targets.declared import Declared
from predgen.targets.field import Field
from predgen.targets.number_formats import formats_hint
from predgen.warning_kinds import IdTargetWarning, PredGenWarning, RareLabelsWarning, SimilarLabelsWarning

# A column of labels looks like an id if at least this share of its rows have a label of their own, of so many rows.
# (More labels than half of the rows are refused.)
ID_SHARE = 0.4
MIN_ID_ROWS = 20


@dataclass(frozen=True)
class Label(Field):
    """One of a few labels, each with the word that is written for it.

    Attributes:
        values: the labels as they stand in the table, in the order that every output keeps.
        words: the text to write for each of them.
        positive: of two labels the one that average precision and a chosen threshold are of; the last one if None.
    """

    values: tuple[LabelValue, ...]
    words: tuple[str, ...]
    positive: LabelValue | None = None

    kind: ClassVar[str] = "label"
    noun: ClassVar[str] = "a label"
    nouns: ClassVar[str] = "labels"
    stratifies: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise TargetError(
                explain(
                    expected="at least two labels",
                    found=f"{len(self.values)} ({', '.join(map(str, self.values))})",
                    fix="Check the target column and the rows that were read.",
                )
            )
        check_words(self.values, self.words)
        if self.positive is not None and (len(self.values) != 2 or self.index(self.positive) is None):
            raise ConfigError(
                f"Expected one of two labels as the positive one, found '{self.positive}' of the labels "
                f"{', '.join(map(str, self.values[:10]))}. Name one of them where there are two, or leave positive out."
            )

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Label":
        """Returns the labels of a column in numeric or else alphabetic order; see `infer_label`.

        The positive one of two is the declared one, else the rarer one, the last of two that are as frequent.

        Raises:
            ConfigError: a label text is of no label, or the positive label is none of two.
            DataError: there are too many different cells.
        """
        label = infer_label(cells, declared.label_text, codes=declared.label_codes, declared=declared.labels)
        positive: LabelValue | None = declared.positive
        if positive is None and len(label.values) == 2:
            counts = Counter(map(label_key, cells))
            first, last = label.values
            positive = first if counts[label_key(first)] < counts[label_key(last)] else last
        return cls(label.values, label.words, positive)

    def lost_labels(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the labels that other rows of the column have and this field does not know, in order."""
        return sorted({label_key(cell) for cell in cells if not is_missing(cell)} - set(map(label_key, self.values)))

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns what is doubtful of labels: written in several ways, alike, of one row, or ids."""
        return [*similar_labels(cells), *rare_labels([(cell,) for cell in cells])]

    def labels_in(self, value: Any) -> tuple[LabelValue, ...]:
        """Returns the label itself."""
        return () if value is None else (value,)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "accuracy"

    @property
    def num_values(self) -> int:
        """How many labels there are."""
        return len(self.values)

    @property
    def labels(self) -> tuple[LabelValue, ...]:
        """The labels, each of which has a probability."""
        return self.values

    @property
    def positive_index(self) -> int | None:
        """The position of the positive one of two labels; None where there are more."""
        if len(self.values) != 2:
            return None
        return 1 if self.positive is None else self.index(self.positive)

    @property
    def texts(self) -> tuple[str, ...]:
        """The words that are written."""
        return self.words

    def known(self, cell: Cell) -> LabelValue | None:
        """Returns a held-out cell's label, None for one that was never seen in training."""
        position = self.index(cell)
        return None if position is None else self.values[position]

    def index(self, cell: Cell) -> int | None:
        """Returns the label's position in `values`, or None for a label that is not known."""
        key = label_key(cell)
        for position, value in enumerate(self.values):
            if label_key(value) == key:
                return position
        return None

    def parse(self, cell: Cell) -> LabelValue:
        """Returns the cell's label.

        Raises:
            TargetError: the cell is empty or holds no known label.
        """
        position = None if is_missing(cell) else self.index(cell)
        if position is None:
            known = ", ".join(str(value) for value in self.values[:10])
            raise TargetError(
                explain(
                    expected=f"one of the labels {known}",
                    found=describe(cell),
                    fix="Correct or remove the row.",
                )
            )
        return self.values[position]

    def to_text(self, value: LabelValue) -> str:
        """Returns the word to write for a label."""
        position = self.index(value)
        if position is None:
            raise TargetError(f"Expected a known label, found {describe(value)}. Check the label's spelling.")
        return self.words[position]

    def from_text(self, text: str) -> LabelValue | None:
        """Returns the label of a written word, or None if the text is no label's word."""
        words = {word.strip(): value for word, value in zip(self.words, self.values, strict=True)}
        return words.get(text.strip())

    def to_json(self) -> dict[str, Any]:
        """Returns the labels as plain JSON values."""
        positive = {} if self.positive is None else {"positive": self.positive}
        return {"kind": self.kind, "values": list(self.values), "words": list(self.words), **positive}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Label":
        """Returns the labels that `to_json` described."""
        return cls(tuple(data["values"]), tuple(data["words"]), data.get("positive"))

    def describe(self) -> str:
        """Returns one line for people."""
        pairs = [
            str(value) if label_key(value) == word else f"{value}={word}"
            for value, word in zip(self.values, self.words, strict=True)
        ]
        shown = ", ".join(pairs[:8]) + (", …" if len(pairs) > 8 else "")
        return f"{len(pairs)} labels: {shown}"


def check_words(values: Sequence[LabelValue], words: Sequence[str]) -> None:
    """Refuses labels that do not each have a value and a word of their own.

    Raises:
        ConfigError: a label or a word stands there twice, is empty, or is missing.
    """
    if len(values) != len(words):
        raise ConfigError("Expected one word for each label.")
    for what, keys in (
        ("label", [label_key(value) for value in values]),
        ("word", [word.strip() for word in words]),
    ):
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise ConfigError(
                explain(
                    expected=f"every {what} once",
                    found=f"'{twice[0]}' twice",
                    fix="Give different words.",
                )
            )
    if any(not word.strip() for word in words):
        raise ConfigError(
            explain(expected="a word to write for each label", found="an empty one", fix="Give it a word.")
        )


def similar_labels(cells: Sequence[Any]) -> list[SimilarLabelsWarning]:
    """Returns warnings of labels that are read as one though their texts differ, or as two though they look alike.

    Texts look alike that are one in Unicode's form NFKC, signs without width left out.

    Args:
        cells: the cells, none missing, or the items of sets.
    """
    texts: dict[str, dict[str, None]] = {}
    for cell in cells:
        texts.setdefault(label_key(cell), {})[str(cell).strip()] = None
    looks: dict[str, dict[str, None]] = {}
    for key in texts:
        shown = "".join(sign for sign in unicodedata.normalize("NFKC", key) if unicodedata.category(sign) != "Cf")
        looks.setdefault(" ".join(shown.split()), {})[key] = None
    merged = [f"{' and '.join(map(repr, found))} are one label" for found in texts.values() if len(found) > 1]
    alike = [f"{' and '.join(map(ascii, keys))} are different labels" for keys in looks.values() if len(keys) > 1]
    sentences = [
        *(f"{sentence}. If they are not, change their texts, as with a letter in front." for sentence in merged[:3]),
        *(f"{sentence}, but look alike. If they are one, give them one text." for sentence in alike[:3]),
    ]
    return list(map(SimilarLabelsWarning, sentences))


def rare_labels(rows: Sequence[Sequence[Any]]) -> list[PredGenWarning]:
    """Returns a warning of labels that stand in one row alone, or of a column of which nearly every row has its own.

    Args:
        rows: the labels of each training row.
    """
    num_rows = Counter(key for labels in rows for key in {label_key(label): None for label in labels})
    rare = [key for key, count in num_rows.items() if count == 1]
    with_rare = sum(any(num_rows[label_key(label)] == 1 for label in labels) for labels in rows)
    if len(rows) >= MIN_ID_ROWS and with_rare >= ID_SHARE * len(rows):
        return [
            IdTargetWarning(
                f"{with_rare} of {len(rows)} training rows have a label that no other row has: the column looks like "
                "an id, which nobody can predict. Name another column with --target."
            )
        ]
    if not rare:
        return []
    names = ", ".join(f"'{key}'" for key in rare[:5]) + (", …" if len(rare) > 5 else "")
    return [
        RareLabelsWarning(
            f"{len(rare)} of {len(num_rows)} labels stand in one training row alone ({names}): little can be learned "
            "of them. Add rows of them, join them with others, or leave them out."
        )
    ]


def infer_label(
    cells: Sequence[Cell],
    words: Mapping[str, str] | None = None,
    *,
    codes: bool = False,
    declared: Sequence[str] | None = None,
) -> Label:
    """Returns the label target of a column, its labels in numeric or else alphabetic order.

    Args:
        cells: the training cells, none missing.
        words: the word to write for a label, by the label's text; labels that are not named write themselves.
        codes: write letters (A, B, … AA) instead, for labels whose own texts cannot be told apart.
        declared: the labels, those that no cell has among them, whatever else the cells hold; None for those that
            occur.
    """
    if declared is not None:
        keys = set(map(label_key, declared))
        cells = [*(cell for cell in cells if label_key(cell) in keys), *declared]
    return Label(*labels_of(cells, len(cells), words, codes=codes))


def labels_of(
    cells: Sequence[Any], num_rows: int, words: Mapping[str, str] | None, *, codes: bool
) -> tuple[tuple[LabelValue, ...], tuple[str, ...]]:
    """Returns the labels that occur, in their order, and the word to write for each."""
    labels: dict[str, LabelValue] = {}
    for cell in cells:
        labels.setdefault(label_key(cell), label_value(cell))
    if len(labels) > max(20, num_rows // 2):
        example = next(iter(labels.values()))
        of_date = date_hint(example)
        form, hint = number_form(example), of_date or formats_hint(example)
        raise DataError(
            explain(
                expected="a column of labels",
                found=f"{len(labels)} different values in {num_rows} rows, such as {describe(example)}{form}",
                fix=f"Then it is one of {'dates' if of_date else 'numbers'}. {hint}{'.' if hint else ''}".rstrip()
                if form or hint
                else "Name another target column, or declare the kind 'number'.",
            )
        )
    numbers = {key: parse_number(key) for key in labels}
    if all(value is not None for value in numbers.values()):
        order = sorted(labels, key=lambda key: (numbers[key], key))
    else:
        order = sorted(labels)
    if codes:
        words = {key: _letters(position) for position, key in enumerate(order)}
    words = words or {}
    unknown = [key for key in words if key not in labels]
    if unknown:
        raise ConfigError(
            explain(
                expected=f"label texts for the labels {', '.join(order[:10])}",
                found=f"one for '{unknown[0]}'",
                fix="Correct --label-text.",
            )
        )
    return tuple(labels[key] for key in order), tuple(words.get(key, key) for key in order)


def _letters(position: int) -> str:
    """Returns the letter code of a position: A to Z, AA, AB and so on."""
    rest, letter = divmod(position, 26)
    return (_letters(rest - 1) if rest else "") + chr(ord("A") + letter)
