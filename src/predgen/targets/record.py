"""Every target is fields by name: a field alone, or a record of named ones that are written one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from predgen.errors import ConfigError, explain
from predgen.targets.field import ALONE, Field

# What is written between the fields of a record.
SEMICOLON = ";"


@dataclass(frozen=True)
class Record:
    """Several outputs of one text: named fields of any kinds.

    A value maps the fields' names to their values. Each field is written after those before it, so that its
    probabilities are conditional on what they say.

    Attributes:
        fields: the fields by name, in the order in which they are written.
    """

    fields: Mapping[str, Field]

    kind: ClassVar[Literal["record"]] = "record"
    noun: ClassVar[str] = "a record"
    nouns: ClassVar[str] = "a record"
    numeric: ClassVar[bool] = False
    default_metric: ClassVar[str] = "relative_error"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", dict(self.fields))
        if len(self.fields) < 2 or not all(name.strip() for name in self.fields):
            raise ConfigError(
                explain(
                    expected="a record of two named fields or more",
                    found=", ".join(f"'{name}'" for name in self.fields) or "none",
                    fix="Give several columns, or predict the one alone.",
                )
            )

    def to_text(self, value: Mapping[str, Any]) -> str:
        """Returns the text to write for a record.

        Example:
            >>> from predgen.targets.label import Label
            >>> from predgen.targets.number import Number
            >>> Record({"mood": Label(("a", "b"), ("good", "bad")), "stars": Number(0.0, 5.0, 1)}).to_text(
            ...     {"mood": "b", "stars": 1.0}
            ... )
            'bad; 1.0'
        """
        return "; ".join(field.to_text(value[name]) for name, field in self.fields.items())

    def from_text(self, text: str) -> dict[str, Any] | None:
        """Returns the record of an unconstrained text, or None if one of its fields has no value."""
        pieces = text.split(SEMICOLON)
        if len(pieces) != len(self.fields):
            return None
        pairs = zip(self.fields.items(), pieces, strict=True)
        values = {name: field.from_text(piece.strip()) for (name, field), piece in pairs}
        return None if None in values.values() else values

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON values."""
        return {"kind": self.kind, "fields": {name: field.to_json() for name, field in self.fields.items()}}

    def describe(self) -> str:
        """Returns one line for people."""
        return "; ".join(f"'{name}', {field.describe()}" for name, field in self.fields.items())


Target = Field | Record


def field_values(target: Target, values: Sequence[Any], name: str) -> list[Any]:
    """Returns one field's part of a target's values; None stays None."""
    if ALONE in target.fields:
        return list(values)
    return [None if value is None else value[name] for value in values]


def joined_values(target: Target, values: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Returns a target's values from its fields' values; the inverse of `field_values`."""
    if ALONE in target.fields:
        return list(values[ALONE])
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
