"""Free-text columns, missing cells, and columns that give the target away."""

import random
from typing import Any

import pandas as pd
import pytest

from predgen.errors import DataError
from predgen.tables.inputs import check_inputs, infer_inputs, leak_warnings
from tests.unit.tables.test_splits import WORDS, sentence

# ── Inputs ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_free_text_columns_are_found() -> None:
    draw = random.Random(0)
    rows = pd.DataFrame(
        {
            "id": [f"row {row} of many" if row % 2 else str(row) for row in range(100)],
            "few": ["one of two phrases", "another of the two"] * 50,
            "short": [draw.choice(WORDS) for _ in range(100)],
            "amount": [str(draw.random()) for _ in range(100)],
            "count": list(range(100)),
            "pair": [sentence(draw) for _ in range(50)] * 2,
            "text": ["99", None, ""] + [sentence(draw) for _ in range(97)],
            "y": [sentence(draw) for _ in range(100)],
        }
    ).astype(object)
    assert infer_inputs(rows, ["y"]) == ["pair", "text"]


def test_no_free_text_column() -> None:
    with pytest.raises(DataError, match=r"none among the columns: a, b\. Name the input columns with --inputs"):
        infer_inputs(pd.DataFrame({"a": ["x"], "b": ["y"], "y": ["a few words more"]}), ["y"])


@pytest.mark.parametrize(("cell", "found"), [(None, "an empty cell"), ("  ", "an empty cell"), (float("nan"), "NaN")])
def test_missing_input_text(cell: object, found: str) -> None:
    rows = pd.DataFrame({"a": ["x", "y", "z"], "b": ["x", cell, "z"]}, dtype=object)
    check_inputs(rows, ["a"])
    with pytest.raises(DataError, match=f"Expected input text in row 2, column 'b', found {found}"):
        check_inputs(rows, ["a", "b"])
    with pytest.raises(DataError, match="in row 102, column 'b'"):
        check_inputs(rows.set_axis([100, 101, 102]), ["b"])
    with pytest.raises(DataError, match="in row 2, column 'b'"):
        check_inputs(rows.set_axis(["p", "q", "r"]), ["b"])


# ── Columns that give the target away ────────────────────────────────────────────────────────────────────────


def leaks(column: list[Any], target: list[Any]) -> str:
    return " ".join(leak_warnings(pd.DataFrame({"x": column, "y": target}, dtype=object), ["x"], "y"))


@pytest.mark.parametrize("as_text", [False, True])
def test_a_number_that_follows_the_target(as_text: bool) -> None:
    draw = random.Random(0)
    target = [draw.gauss(0, 1) for _ in range(200)]
    column: list[Any] = [-3 * value + draw.gauss(0, 0.1) for value in target]
    warning = leaks([str(value) for value in column] if as_text else column, target)
    assert "'x' nearly gives the target 'y' away: its numbers follow it (correlation -1.000)" in warning or (
        "its numbers follow it (correlation -0.99" in warning
    )
    assert not leaks([value + draw.gauss(0, 1) for value in target], target)


@pytest.mark.parametrize("numbers", [False, True])
def test_values_that_share_the_target(numbers: bool) -> None:
    draw = random.Random(0)
    codes = [draw.randrange(40) for _ in range(400)]
    answers: list[Any] = [draw.random() if numbers else draw.choice(["yes", "no"]) for _ in range(40)]
    column = [f"code {code}" for code in codes]
    assert "rows that share its value share the target" in leaks(column, [answers[code] for code in codes])
    assert not leaks(column, draw.sample([answers[code] for code in codes], 400))


def test_text_that_holds_the_answer() -> None:
    draw = random.Random(0)
    answers = [draw.randrange(5000) for _ in range(200)]
    texts = [f"{sentence(draw)}, so it is {answer:,}." for answer in answers]
    assert "its text holds the answer" in leaks(texts, [str(answer) for answer in answers])
    moods = [draw.choice(["Good", "bad"]) for _ in range(200)]
    assert "its text holds the answer" in leaks([f"{sentence(draw)}. Verdict: {mood}!" for mood in moods], moods)


def test_ordinary_columns_give_nothing_away() -> None:
    draw = random.Random(0)
    labels = [draw.choice(["yes", "no"]) for _ in range(300)]
    numbers = [draw.random() for _ in range(300)]
    some = [sentence(draw) for _ in range(100)]
    ordinary: dict[str, list[Any]] = {
        "sentences of their own": [sentence(draw) for _ in range(300)],
        "sentences that recur": [draw.choice(some) for _ in range(300)],
        "row numbers": list(range(300)),
        "one value": ["the same text"] * 300,
        "every label named": [f"{sentence(draw)}, yes or no?" for _ in range(300)],
        "digits inside words": [f"x{round(number)}y 10 20" for number in numbers],
    }
    for name, column in ordinary.items():
        assert not leaks(column, labels), name
        assert not leaks(column, numbers), name


def test_a_frequent_labels_word_gives_nothing_away() -> None:
    draw = random.Random(0)
    labels = ["no"] * 190 + ["yes"] * 10
    assert not leaks([f"no {sentence(draw)}" for _ in labels], labels)


def test_rows_in_the_targets_order_change_nothing() -> None:
    draw = random.Random(0)
    labels = ["anger"] * 100 + ["joy"] * 100
    assert not leaks([f"{sentence(draw)} anger or joy" for _ in labels], labels)
    assert "holds the answer" in leaks([f"{sentence(draw)} {label}" for label in labels], labels)


def test_a_few_rows_prove_nothing() -> None:
    assert not leaks(list(range(10)), list(range(10)))
