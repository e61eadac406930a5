"""A label of a declared order, such as poor, fair, good."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from predgen.errors import ConfigError
from predgen.targets.cells import Cell, label_key
from predgen.targets.declared import Declared
from predgen.targets.label import Label, infer_label


@dataclass(frozen=True)
class Ordinal(Label):
    """One of a few labels that have an order; each is written as a label is.

    Attributes:
        values: the labels as they stand in the table, from the lowest to the highest.
        words: the text to write for each of them.
        positive: of two labels the one that average precision is of; the highest one if None.
    """

    kind: ClassVar[str] = "ordinal"
    noun: ClassVar[str] = "an ordinal label"
    nouns: ClassVar[str] = "ordinal labels"

    @classmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Ordinal":
        """Returns the labels in their declared order.

        Raises:
            ConfigError: no order is declared, or a label text is of no label.
        """
        if declared.labels is None:
            raise ConfigError(
                "Expected the labels of an ordinal target in their order, found none. Declare them from the lowest to "
                "the highest, such as --labels poor,fair,good."
            )
        label = infer_label(cells, declared.label_text, codes=declared.label_codes, declared=declared.labels)
        positions = {label_key(value): position for position, value in enumerate(label.values)}
        order = [positions[label_key(value)] for value in declared.labels]
        # Letter codes go up with the order; other words stay with their labels.
        words = label.words if declared.label_codes else tuple(label.words[position] for position in order)
        return cls(tuple(label.values[position] for position in order), words, declared.positive)

    @property
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""
        return "mae_ranks"

    def describe(self) -> str:
        """Returns one line for people."""
        return f"ordinal, {' < '.join(map(str, self.values))}"
