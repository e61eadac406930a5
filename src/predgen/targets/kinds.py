"""Kinds of fields by name, and targets as JSON and back."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from predgen.names import KINDS
from predgen.targets.field import Field
from predgen.targets.record import Record, Target


def field_kind(name: str) -> type[Field]:
    """Returns the kind of a name in `predgen.names.KINDS`.

    Raises:
        UnknownNameError: there is none.
    """
    kind: type[Field] = KINDS.load(KINDS.check(name))
    return kind


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
        ValueError: a value has another type than the kind's attribute.
    """
    kind = field_kind(data["kind"])
    TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
    return kind.from_json(data)
