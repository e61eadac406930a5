"""Sets of labels: cells in many forms, one order, messages that name what is wrong."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.errors import ConfigError, DataError, TargetError
from predgen.tables.values import parse_cells
from predgen.targets.inference import infer_kind
from predgen.targets.label_set import LabelSet, delimiter_of, infer_set, is_empty

MOODS = LabelSet(("anger", "joy", "sadness"), ("anger", "joy", "sad"))


@given(st.sets(st.sampled_from(MOODS.values)), st.sampled_from("|;,"), st.randoms())
def test_every_form_of_a_cell_is_the_same_set_in_the_declared_order(
    chosen: set[str], delimiter: str, draw: object
) -> None:
    target = LabelSet(MOODS.values, MOODS.words, delimiter=delimiter)
    expected = tuple(value for value in MOODS.values if value in chosen)
    listed = list(chosen)
    draw.shuffle(listed)  # type: ignore[attr-defined]
    cells = [listed, tuple(listed), json.dumps(listed), f" {delimiter} ".join(listed) or "none", target.cell(expected)]
    for cell in cells:
        assert target.parse(cell) == expected
    assert target.from_text(target.to_text(expected)) == expected


def test_cells_of_text() -> None:
    assert MOODS.to_text(("anger", "sadness")) == "anger, sad"
    assert MOODS.to_text(()) == "none"
    assert MOODS.parse("sadness|anger|anger") == ("anger", "sadness")
    assert MOODS.parse("none") == MOODS.parse([]) == MOODS.parse("[]") == ()
    assert MOODS.cell(("joy", "sadness")) == "joy|sadness"
    assert MOODS.cell(()) == "none"
    assert MOODS.from_text(" sad , anger ") == ("anger", "sadness")
    assert MOODS.from_text("joyful") is None
    assert MOODS.from_text("") is None
    assert LabelSet((1, 2), ("1", "2")).parse("2|1.0") == (1, 2)
    assert MOODS.describe() == "sets of 3 labels: anger, joy, sadness"
    assert MOODS.num_values == 8


def test_a_list_may_stand_as_python_writes_it() -> None:
    """So pandas writes lists into CSV."""
    assert MOODS.parse("['joy', 'anger']") == ("anger", "joy")
    assert infer_set(["['b', 'a']", "[]", "['b']"]).values == ("a", "b")


@pytest.mark.parametrize("cell", ['["a"', "[a, b", '[["a", "b"]]', '[{"a": 1}]'])
def test_a_broken_list_is_no_label(cell: str) -> None:
    with pytest.raises(DataError, match=r'lists of labels such as \["a", "b"\], found'):
        infer_set(['["a", "b"]', cell])
    with pytest.raises(TargetError, match="labels among anger, joy, sadness"):
        MOODS.parse(cell)


def test_labels_that_hold_a_delimiter_stand_between_others() -> None:
    target = infer_set([["a|b"], ["c", "a|b"], ["b"]])
    assert target.delimiter == ";"
    for value in (("a|b",), ("a|b", "c"), ("b", "c")):
        assert target.parse(target.cell(value)) == value
    with pytest.raises(DataError, match=r"labels that leave one of \| ; , free"):
        infer_set([["a|b"], ["c;d"], ["e,f"]])


def test_sets_of_booleans_read_back() -> None:
    target = infer_set([[True], [True, False]])
    for value in ((), (True,), (False, True)):
        assert target.parse(target.cell(target.parse(list(value)))) == target.parse(list(value))
    assert target.cell((True,)) == "true"


def test_what_is_no_set_is_named() -> None:
    with pytest.raises(
        TargetError, match=r"labels among anger, joy, sadness, with \| between them, or 'none', found 'joy\|"
    ):
        MOODS.parse("joy|fear")
    assert MOODS.members("joy|fear") == ("joy", None)
    with pytest.raises(
        DataError, match=r"^Expected a set of labels in row 7, column 'y', found an empty cell\. Write none"
    ):
        parse_cells(MOODS, [""], "y", [7])
    with pytest.raises(DataError, match=r"^Row 7, column 'y': Expected labels among"):
        parse_cells(MOODS, ["fear"], "y", [7])
    assert is_empty(None)
    assert is_empty(np.nan)
    assert not is_empty([])
    with pytest.raises(ConfigError, match=r"a word for the empty set that no label has, found 'none'"):
        LabelSet(("none", "a"), ("none", "a"))
    with pytest.raises(ConfigError, match=r"every label once, found 'a' twice"):
        LabelSet(("a", "a"), ("x", "y"))
    with pytest.raises(TargetError, match=r"at least one label, found none"):
        LabelSet((), ())


def test_a_column_tells_its_delimiter_and_its_labels() -> None:
    assert delimiter_of(["a", "b;c"]) == ";"
    assert delimiter_of(["a, b", "c|d"]) == "|"
    assert delimiter_of(["a", ["b"]]) == "|"
    found = infer_set(["b, a", "none", "c", "a, c"])
    assert (found.values, found.delimiter) == (("a", "b", "c"), ",")
    assert infer_set([[10, 9], [], [2]]).values == (2, 9, 10)
    assert infer_set(["x|y"] * 4, {"x": "good"}).words == ("good", "y")
    for hole in (["a", None], '["a", ""]'):
        with pytest.raises(DataError, match=r"a label in every place of a list, found an empty one"):
            infer_set([hole, ["b"]])
    with pytest.raises(DataError, match=r"sets of labels, found only empty ones"):
        infer_set(["none", "[]"])


def test_lists_and_recurring_pieces_are_sets_and_other_text_is_not() -> None:
    assert infer_kind([["a"], [], ["a", "b"]]) == ("set", "its cells are lists")
    assert infer_kind(['["a"]', "[]"])[0] == "set"
    assert infer_kind(["a|b", "b", "a", "none"]) == ("set", "its cells are labels with | between them")
    assert infer_kind(["a, b", "b", "a"])[0] == "label"  # a comma stands in many texts
    assert infer_kind(["x|y", "z|w", "u"])[0] == "label"
    assert infer_kind(["a", "b", "a"])[0] == "label"
