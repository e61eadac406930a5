"""Records: several fields behind one target."""

import json

import pytest

from predgen.errors import ConfigError
from predgen.targets.field import ALONE
from predgen.targets.kinds import target_from_json, target_to_json
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record, field_values, joined_values

MOOD = Label(("a", "b"), ("good", "bad"))
STARS = Number(0.0, 5.0, decimals=1)
TAGS = LabelSet(("x", "y"), ("x", "y"))
RECORD = Record({"mood": MOOD, "stars": STARS, "tags": TAGS})
VALUE = {"mood": "b", "stars": 2.5, "tags": ("x", "y")}


def test_a_record_is_written_field_by_field() -> None:
    assert RECORD.to_text(VALUE) == "bad; 2.5; x, y"
    assert RECORD.from_text("bad; 2.5; x, y") == VALUE
    assert RECORD.from_text("bad; 2.5") is None
    assert RECORD.from_text("bad; many; x") is None
    assert "'mood', 2 labels: a=good, b=bad; 'stars', number 0 … 5" in RECORD.describe()
    assert {name: field.kind for name, field in RECORD.fields.items()} == {
        "mood": "label",
        "stars": "number",
        "tags": "set",
    }


def test_values_come_apart_and_together() -> None:
    values = [VALUE, {"mood": "a", "stars": 0.0, "tags": ()}]
    columns = {name: field_values(RECORD, values, name) for name in RECORD.fields}
    assert columns["stars"] == [2.5, 0.0]
    assert joined_values(RECORD, columns) == values
    assert field_values(RECORD, [None, VALUE], "mood") == [None, "b"]
    assert MOOD.fields == {ALONE: MOOD}
    assert field_values(MOOD, ["a", None], ALONE) == ["a", None]
    assert joined_values(MOOD, {ALONE: ["a"]}) == ["a"]


@pytest.mark.parametrize("target", [RECORD, MOOD, STARS, TAGS])
def test_json_holds_every_target(target: Record | Label | Number | LabelSet) -> None:
    assert target_from_json(json.loads(json.dumps(target_to_json(target)))) == target


def test_a_record_has_two_named_fields_or_more() -> None:
    with pytest.raises(ConfigError, match=r"a record of two named fields or more, found 'mood'"):
        Record({"mood": MOOD})
    with pytest.raises(ConfigError, match=r"found '', 'stars'"):
        Record({"": MOOD, "stars": STARS})
