"""The tree of errors and the form of their messages."""

import builtins
import re

import pytest

from predgen import errors
from predgen.errors import PredGenError, UnknownNameError, explain, printable, unknown_name

OWN = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PredGenError) and value is not PredGenError
}


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = dict(re.findall(r"── (\w+)\s+\((\w+)\)", errors.__doc__ or ""))
    assert set(drawn) == set(OWN)
    for name, base in drawn.items():
        bases = (OWN[base],) if base in OWN else (PredGenError, getattr(builtins, base))
        assert OWN[name].__bases__ == bases


@pytest.mark.parametrize("name", sorted(OWN))
def test_an_error_is_caught_by_its_builtin_and_shows_its_message(name: str) -> None:
    builtin = next(base for base in OWN[name].__mro__ if base.__module__ == "builtins")
    with pytest.raises(builtin, match=r"^what to do$") as caught:
        raise OWN[name]("what to do")
    assert isinstance(caught.value, PredGenError)


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ({}, ""),
        ({"row": 3}, " in row 3"),
        ({"column": "stars"}, " in column 'stars'"),
        ({"row": 0, "column": "stars"}, " in row 0, column 'stars'"),
    ],
)
def test_a_message_says_expected_where_found_and_what_to_do(place: dict[str, object], where: str) -> None:
    message = explain(expected="a number", found="'x'", fix="Correct it.", **place)  # type: ignore[arg-type]
    assert message == f"Expected a number{where}, found 'x'. Correct it."


def test_a_close_name_is_suggested_and_a_strange_one_is_not() -> None:
    error = unknown_name("metric", "acuracy", iter(["mse", "accuracy"]))
    assert isinstance(error, UnknownNameError)
    assert str(error) == "Unknown metric 'acuracy'. Did you mean 'accuracy'? Known: mse, accuracy."
    assert str(unknown_name("metric", "xyz", ["mse", "accuracy"])) == "Unknown metric 'xyz'. Known: mse, accuracy."
    assert str(unknown_name("metric", "xyz", [])) == "Unknown metric 'xyz'. Known: ."


def test_the_exit_code_is_that_of_a_usage_error() -> None:
    assert errors.EXIT_CODE == 2


def test_control_characters_are_written_out() -> None:
    assert printable("good\x1b[2J\x07\r\x9bx\x7f") == "good\\x1b[2J\\x07\\r\\x9bx\\x7f"
    assert printable("a\u202eb\u2066") == "a\\u202eb\\u2066"
    printable("half \ud83d").encode()
    for text in ("größer – 😀\u200d👩", "two\nlines\tand a tab", ""):
        assert printable(text) == text
