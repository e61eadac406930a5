"""Targets as JSON and back."""

from collections.abc import Mapping
from typing import Any

from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Field, Record, Target


def target_to_json(target: Target) -> dict[str, Any]:
    """Returns the target as plain JSON values."""
    if isinstance(target, Record):
        return {"kind": "record", "fields": {name: target_to_json(field) for name, field in target.fields.items()}}
    if isinstance(target, Number):
        return {
            "kind": "number",
            "low": target.low,
            "high": target.high,
            "decimals": target.decimals,
            "declared": target.declared,
            "form": target.form,
            "logarithmic": target.logarithmic,
            "smallest": target.smallest,
        }
    labels = {"kind": target.kind, "values": list(target.values), "words": list(target.words)}
    return labels | ({"empty": target.empty, "delimiter": target.delimiter} if isinstance(target, LabelSet) else {})


def target_from_json(data: Mapping[str, Any]) -> Target:
    """Returns the target that `target_to_json` described."""
    if data["kind"] == "record":
        return Record({name: field_from_json(field) for name, field in data["fields"].items()})
    return field_from_json(data)


def field_from_json(data: Mapping[str, Any]) -> Field:
    """Returns the field that `target_to_json` described."""
    if data["kind"] == "number":
        # Those that were saved before there were other forms do not name one.
        form, logarithmic, smallest = (
            data.get("form", "fixed"),
            data.get("logarithmic", False),
            data.get("smallest", 0.0),
        )
        return Number(data["low"], data["high"], data["decimals"], data["declared"], form, logarithmic, smallest)
    if data["kind"] == "set":
        return LabelSet(tuple(data["values"]), tuple(data["words"]), data["empty"], data["delimiter"])
    return Label(tuple(data["values"]), tuple(data["words"]))
