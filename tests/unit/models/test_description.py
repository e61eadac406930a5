"""The description of an artifact: whole, of the right types and within bounds, or refused with what is wrong."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predgen.errors import ArtifactError, PredGenError
from predgen.models.description import DESCRIPTION_FILE, MEANING, meaning_hash, read_description

HASH = "0123456789abcdef" * 4
WHOLE: dict[str, Any] = {
    "format": 2,
    "versions": {"predgen": "0.7.0"},
    "target": {
        "kind": "record",
        "fields": {
            "mood": {"kind": "label", "values": ["bad", 1, True], "words": ["bad", "one", "yes"]},
            "stars": {
                **{"kind": "number", "low": 0.0, "high": 5.0, "decimals": 2, "declared": False},
                **{"form": "fixed", "logarithmic": False, "smallest": 0.0},
            },
            "tastes": {"kind": "set", "values": ["sour"], "words": ["sour"], "empty": "none", "delimiter": "|"},
        },
    },
    "template": {"text": "{review}\nmood; stars; tastes:", "fields": ["review"]},
    "base": {
        **{"name": "builtin:nano@2", "revision": None, "sha256": HASH, "added_tokens": ["*"]},
        "frame": {"prefix": [1], "joint": [2], "suffix": [], "splits_specials": False},
    },
    "scales": [{"mean": 0.0, "deviation": 1.0, "constant_loss": 1.0, "low": None, "high": 2.0}] * 3,
    "thresholds": [None, None, [0.5]],
    "mixes": [{"director": 0.5, "writer": 0.5, "intercept": 0.0}] * 3,
    "config": {"data": {"data": "t.csv", "target": "mood,stars,tastes"}, "model": {"method": "predgen"}, "train": {}},
    "calibrations": {"mood": {"temperature": 1.5, "scores": [0.1, None]}},
    "record": {"anything": [1, {"at": "all"}]},
    "files": {"weights.safetensors": HASH},
}
# What may be null, and what older artifacts lack.
NULLABLE = {("base", "revision"), ("base", "frame"), ("base", "frame", "joint"), ("thresholds", 2), ("files",)}
NULLABLE |= {("scales", index, name) for index in range(3) for name in ("low", "high")}
NULLABLE |= {("calibrations", "mood", "scores", 0)}
MAY_LACK = {("base", "frame"), ("files",), ("versions", "predgen"), ("calibrations", "mood")}
MAY_LACK |= {("files", "weights.safetensors")}
MAY_LACK |= {("target", "fields", "stars", name) for name in ("declared", "form", "logarithmic", "smallest")}
MAY_LACK |= {("scales", index, name) for index in range(3) for name in WHOLE["scales"][0]}
MAY_LACK |= {("mixes", index, "intercept") for index in range(3)}
OTHER_TYPES: dict[type, list[Any]] = {
    **{str: [True, 0.5, [], {}], bool: ["x", 2, [], {}], int: [True, "x", [], {}], float: [True, "x", [], {}]},
    **{list: [True, "x", 3, {}], dict: [True, "x", 3, []], type(None): [True, {"x": 1}]},
}


def read(tmp_path: Path, saved: Any) -> Any:
    text = saved if isinstance(saved, str) else json.dumps(saved)
    (tmp_path / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    return read_description(tmp_path)


def places(part: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the way to each part of the description but those inside settings and record."""
    yield before
    if before in {("config",), ("record",)}:
        return
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from places(value, (*before, key))


def edited(place: tuple[Any, ...], *value: Any) -> Any:
    """Returns the description with another value at a place; without the place if no value is given."""
    whole: Any = copy.deepcopy(WHOLE)
    if not place:
        return value[0]
    part = whole
    for key in place[:-1]:
        part = part[key]
    if value:
        part[place[-1]] = value[0]
    else:
        del part[place[-1]]
    return whole


def test_the_whole_description_is_read(tmp_path: Path) -> None:
    description = read(tmp_path, WHOLE)
    assert list(description.fields_of_target.fields) == ["mood", "stars", "tastes"]
    assert description.template.template.render({"review": "x"}) == "x\nmood; stars; tastes:"
    assert description.settings.model.director_form == "states"  # what was not said before 0.7.0
    assert read(tmp_path, {**WHOLE, "sha256": meaning_hash(WHOLE)}).sha256 == meaning_hash(WHOLE)


@pytest.mark.parametrize("place", list(places(WHOLE)), ids=lambda place: ".".join(map(str, place)) or "all")
def test_each_part_has_its_type(place: tuple[Any, ...], tmp_path: Path) -> None:
    """A value of every other type is refused as damage, never taken and never another exception."""
    part: Any = WHOLE
    for key in place:
        part = part[key]
    is_label = place[:1] == ("target",) and place[-2:-1] == ("values",)
    others = [[], {}, 0.5] if is_label else OTHER_TYPES[type(part)]
    if place not in NULLABLE and part is not None:
        others = [*others, None]
    for value in others:
        with pytest.raises(ArtifactError, match=r"found damage in .*predgen\.json"):
            read(tmp_path, edited(place, value))


@pytest.mark.parametrize(
    "place",
    [place for place in places(WHOLE) if place and isinstance(place[-1], str) and place not in MAY_LACK],
    ids=lambda place: ".".join(map(str, place)),
)
def test_each_part_must_be_there(place: tuple[Any, ...], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"found damage in .*predgen\.json"):
        read(tmp_path, edited(place))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), 0, "format: a number from 1 to 2 is needed"),
        (("format",), 2.0, "format: a number from 1 to 2 is needed"),
        (("target", "fields", "mood", "values"), "bad", "values: Input should be a valid"),
        (("target", "fields", "mood", "values", 0), None, "valid string"),
        (("target", "fields", "mood", "words"), ["a", "b"], "one word for each label"),
        (("target", "fields", "stars", "decimals"), 99, "between 0 and"),
        (("target", "fields", "stars", "high"), 1e999, "Infinity"),
        (("target", "fields", "tastes", "delimiter"), "", "a sign between the labels"),
        (("target", "kind"), "pair", "pair"),
        (("template", "fields"), ["review", "other"], "template.fields: names columns that its text does not read"),
        (("template", "text"), "{revue}", "revue"),
        (("base", "name"), 5, "base.name: Input should be a valid string"),
        (("base", "name"), "x" * 5000, "base.name: String should have at most 4096"),
        (("base", "name"), "a\0b", "base.name: String should match"),
        (("base", "sha256"), None, "base.sha256: Input should be a valid string"),
        (("base", "sha256"), "abc", "base.sha256: String should match"),
        (("base", "added_tokens"), [f"t{number}" for number in range(3000)], "base.added_tokens: List should have at"),
        (("base", "frame", "prefix"), "abc", "base.frame.prefix: Input should be a valid list"),
        (("base", "frame", "prefix"), [-1], "base.frame.prefix.0: Input should be greater"),
        (("base", "frame", "suffix"), [1] * 20_000, "base.frame.suffix: List should have at most"),
        (("scales",), [], "scales: one for each of 3 fields is needed"),
        (("scales", 0, "deviation"), 0.0, "scales.0.deviation"),
        (("scales", 0, "mean"), float("nan"), "NaN is no number"),
        (("thresholds",), [], "thresholds: one for each of 3 fields is needed"),
        (("thresholds", 2), [0.5, 0.5], "thresholds: one for each of 1 labels"),
        (("thresholds", 2), [1.5], "thresholds.2.0: Input should be less"),
        (("mixes",), [], "mixes: one for each of 3 fields is needed"),
        (("mixes",), None, "mixes: they belong to the method predgen alone"),
        (("config", "model", "lora_rank"), 10**12, "model.lora_rank"),
        (("config", "model", "unheard_of"), 1, "unheard_of"),
        (("calibrations", "mood", "temperature"), 0, "temperature: Input should be greater"),
        (("calibrations", "mood", "temperature"), -1, "temperature: Input should be greater"),
        (("calibrations", "mood", "temperature"), 1e9, "temperature: Input should be less"),
        (("calibrations", "mood", "temperature"), float("nan"), "NaN is no number"),
        (("calibrations", "mood", "scores", 0), -0.1, "scores.0: Input should be greater"),
        (("calibrations", "price"), {"temperature": 1.0, "scores": []}, "of a field that the target has"),
        (("files", "weights.safetensors"), "abc", "files.weights.safetensors: String should match"),
    ],
)
def test_each_part_has_its_bounds(place: tuple[Any, ...], value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"found damage in .*predgen\.json") as caught:
        read(tmp_path, edited(place, value))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", ["", "[]", "3", '"x"', "{", "null", "[" * 100_000, '{"format": ' + "9" * 5000 + "}"])
def test_what_is_no_description_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"found damage in .*predgen\.json"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("target", "fields", "mood", "values"), [True, 1, "bad"]),
        (("template", "text"), "{review}\nmood:"),
        (("base", "frame", "prefix"), [3]),
        (("scales", 1, "mean"), 2.0),
        (("mixes", 0, "director"), 0.25),
        (("calibrations", "mood", "temperature"), 1.75),
        (("config", "model", "decoding"), "free"),
        (("config", "train", "number_loss"), "huber"),
    ],
)
def test_what_belongs_to_the_weights_cannot_change_alone(place: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    changed = edited(place, value)
    read(tmp_path, changed)  # right by itself
    with pytest.raises(ArtifactError, match="is not what was saved"):
        read(tmp_path, {**changed, "sha256": meaning_hash(WHOLE)})


def test_hashes_of_older_artifacts_and_settings_that_change_no_answer_are_taken(tmp_path: Path) -> None:
    assert read(tmp_path, {**WHOLE, "sha256": meaning_hash(WHOLE, MEANING)}).sha256 != meaning_hash(WHOLE)
    changed = edited(("config", "train"), {**WHOLE["config"]["train"], "eval_batch_size": 3, "device": "cpu"})
    assert read(tmp_path, {**changed, "sha256": meaning_hash(WHOLE)}).settings.train.eval_batch_size == 3


def test_format_1_is_read(tmp_path: Path) -> None:
    """Targets had one field then, and nothing had a hash."""
    old = {name: WHOLE[name] for name in ("versions", "template", "base", "config", "record")}
    old |= {"format": 1, "target": WHOLE["target"]["fields"]["stars"], "scale": {"mean": 2.0, "deviation": 1.0}}
    old["calibration"] = {"temperature": 1.0, "scores": [0.5]}
    description = read(tmp_path, old)
    assert [scale.mean for scale in description.scales] == [2.0]
    assert description.calibrations[""].scores == [0.5]
    assert description.files is None
    with pytest.raises(PredGenError, match=r"scales\.0\.deviation"):
        read(tmp_path, {**old, "scale": {"mean": 2.0, "deviation": -1.0}})
