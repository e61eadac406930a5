"""The kinds of fields by name, and targets as JSON and back."""

from collections.abc import Mapping
from typing import Any

from predgen.errors import unknown_name
from predgen.targets.field import Field
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record, Target

# A new kind has a line here and one in each of `predgen.codec.kinds.PATHS`, `predgen.methods.heads.HEADS` and
# `predgen.measures.kinds.MEASURES`.
FIELDS: dict[str, type[Field]] = {
    kind.kind: kind
    for kind in (
        Number,
        Label,
        LabelSet,
    )
}


def field_kind(name: str) -> type[Field]:
    """Returns the kind of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FIELDS:
        raise unknown_name("kind of target", name, FIELDS)
    return FIELDS[name]


def target_to_json(target: Target) -> dict[str, Any]:
    """Returns the target as plain JSON values."""
    return target.to_json()


def target_from_json(data: Mapping[str, Any]) -> Target:
    """Returns the target that `target_to_json` described.

    Raises:
        UnknownNameError: there is no such kind.
    """
    if data["kind"] == Record.kind:
        return Record({name: field_from_json(field) for name, field in data["fields"].items()})
    return field_from_json(data)


def field_from_json(data: Mapping[str, Any]) -> Field:
    """Returns the field that `target_to_json` described.

    Raises:
        UnknownNameError: there is no such kind.
    """
    return field_kind(data["kind"]).from_json(data)
