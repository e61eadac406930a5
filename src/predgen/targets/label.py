"""A label, and the word that a model writes for it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from predgen.errors import ConfigError, TargetError, explain
from predgen.targets.cells import Cell, LabelValue, describe, is_missing, label_key
from predgen.targets.number import Kind


@dataclass(frozen=True)
class Label:
    """One of a few labels, each with the word that is written for it.

    Attributes:
        values: the labels as they stand in the table, in the order that every output keeps.
        words: the text to write for each of them.
    """

    values: tuple[LabelValue, ...]
    words: tuple[str, ...]

    kind: ClassVar[Kind] = "label"
    default_metric: ClassVar[str] = "accuracy"

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
