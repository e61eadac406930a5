"""What every kind of field answers: cell, value, text, and what a column of it holds."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from predgen.errors import ConfigError, TargetError, explain
from predgen.targets.cells import Cell, LabelValue, is_missing
from predgen.targets.declared import UNDECLARED, Declared
from predgen.warning_kinds import PredGenWarning

# The name of the only field of a target that is no record.
ALONE = ""


class Field(ABC):
    """One output of a text, such as a number, a label or a set of labels.

    A new kind is a class of this form in a file of its own, with a line in `predgen.names.KINDS`. Its
    automaton, head and metrics stand in `predgen.codec`, `predgen.methods.heads` and `predgen.measures`, each in its
    own file.

    Attributes:
        kind: the name by which settings and artifacts call it.
        noun: how messages call one of its values.
        nouns: how messages call several of them.
        fill: what to do about an empty cell.
        numeric: whether its values are numbers, whose distribution has a mean and quantiles; else they are labels.
        has_number_cells: whether answers are numbers in tables, too.
        fewer_values: what to do where it has too many values to score them all.
        stratifies: whether parts of a table are drawn with the same share of each value.
        soft: whether a true value is a distribution over its labels, so that the Writer learns from the scores of all.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]
    nouns: ClassVar[str]
    fill: ClassVar[str] = "Fill the cell"
    numeric: ClassVar[bool] = False
    has_number_cells: ClassVar[bool] = False
    fewer_values: ClassVar[str] = "Use another decoding."
    stratifies: ClassVar[bool] = False
    soft: ClassVar[bool] = False

    @property
    def fields(self) -> "Mapping[str, Field]":
        """Itself under the name `ALONE`, as a lone target is a record of one field."""
        return {ALONE: self}

    # ---- a column

    @classmethod
    @abstractmethod
    def infer(cls, cells: Sequence[Cell], declared: Declared) -> "Field":
        """Returns the field of a column.

        Args:
            cells: the training cells, each of which `check_cell` takes.
            declared: what is not to be inferred.

        Raises:
            ConfigError: what is declared does not fit the column.
            DataError: the column holds nothing of this kind.
        """

    @classmethod
    def check_cell(cls, cell: Cell, declared: Declared = UNDECLARED) -> None:
        """Refuses a cell that is no value of any field of this kind, as it is declared.

        Raises:
            TargetError: it is none. Labels take every cell that holds something.
        """
        return None

    @classmethod
    def check_declared(cls, declared: Declared, column: str, reason: str) -> None:
        """Refuses what is declared of a column and this kind does not have; the default is that of labels.

        Args:
            declared: what is declared.
            column: the column's name, for messages.
            reason: why it is of this kind, for messages.

        Raises:
            ConfigError: something of another kind is declared.
        """
        if declared.numbers:
            raise ConfigError(
                explain(
                    expected="a range and decimals for a column of numbers",
                    found=f"the label column '{column}' ({reason})",
                    fix="Declare --kind number, or leave --low, --high, --decimals, --number-format, number_form and "
                    "logarithmic out.",
                )
            )

    @classmethod
    def is_missing(cls, cell: object) -> bool:
        """Returns whether a cell holds nothing."""
        return is_missing(cell)

    @classmethod
    def describe_missing(cls, cell: object) -> str:
        """Returns how a message calls a cell that holds nothing."""
        return "an empty cell"

    def lost_labels(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the labels that other rows of the column have and this field does not know, in order."""
        return []

    def doubts(self, cells: Sequence[Cell]) -> list[PredGenWarning]:
        """Returns what is doubtful of training cells, such as that they may be meant otherwise than they are read."""
        return []

    def labels_in(self, value: Any) -> tuple[LabelValue, ...]:
        """Returns the labels of a value, those that are known; none for a number."""
        return ()

    # ---- a value

    @property
    @abstractmethod
    def default_metric(self) -> str:
        """The metric that chooses the checkpoint unless one is declared."""

    @property
    @abstractmethod
    def num_values(self) -> int:
        """How many different values there are."""

    @property
    def labels(self) -> tuple[LabelValue, ...]:
        """The labels that have probabilities, in the order that every output keeps; none for a number."""
        return ()

    @property
    @abstractmethod
    def texts(self) -> tuple[str, ...]:
        """The words that are written, in order; of a number the texts of the range's ends and its middle."""

    @abstractmethod
    def parse(self, cell: Cell) -> Any:
        """Returns the cell's value.

        Raises:
            TargetError: the cell is no value of the field.
        """

    @abstractmethod
    def known(self, cell: Cell) -> Any:
        """Returns the value of a held-out cell, with None for each label that was never seen in training.

        Raises:
            TargetError: the cell can be no value of any such field.
        """

    def is_unseen(self, value: Any) -> bool:
        """Returns whether a value that `known` returned has a label that was never seen in training."""
        return value is None

    def answered(self, cell: Cell) -> Any:
        """Returns the value that an answer of any tool stands for; None where it stands for none."""
        try:
            value = None if self.is_missing(cell) else self.known(cell)
        except TargetError:
            return None
        return None if value is not None and self.is_unseen(value) else value

    @abstractmethod
    def to_text(self, value: Any) -> str:
        """Returns the text to write for a value."""

    @abstractmethod
    def from_text(self, text: str) -> Any:
        """Returns the value of an unconstrained text, or None if it is no value's."""

    def cell(self, value: Any) -> Any:
        """Returns an answer as a table's cell; None, an invalid answer, is an empty one."""
        return value

    @classmethod
    def shown(cls, number: float) -> float | str:
        """Returns how people are shown one of the kind's numbers, such as a mean: as text where it is none to them."""
        return number

    @abstractmethod
    def describe(self) -> str:
        """Returns one line for people."""

    def describe_column(self, cells: Sequence[Cell]) -> str:
        """Returns one line for people, also of what the field does not tell of its training cells."""
        return self.describe()

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Returns the field as plain JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Field":
        """Returns the field that `to_json` described."""


def missing_message(kind: type[Field], cell: object, row: int, column: str) -> str:
    """Returns what to say of a cell that holds nothing."""
    return explain(
        expected=kind.noun,
        found=kind.describe_missing(cell),
        fix=f"{kind.fill} or remove the row.",
        row=row,
        column=column,
    )
