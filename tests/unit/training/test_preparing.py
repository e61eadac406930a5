"""A table made ready: what is inferred, what is declared, and one message for each bad cell."""

import logging
import math
import random
import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from predgen.config import TASK_ROWS, DataSettings, build_config
from predgen.errors import ConfigError, DataError, TemplateError, UnknownNameError
from predgen.tables.reading import row_numbers
from predgen.tables.values import target_columns, unseen_labels, values_of
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.training.preparing import Prepared, prepare, run_of
from predgen.warning_kinds import LeakWarning, LostLabelsWarning, UnseenLabelsWarning
from tests.helpers.warned import all_warnings

WORDS = ["river", "stone", "lamp", "green", "quiet", "under", "bright", "seven", "house", "cold", "paper", "wind"]
Parts = dict[str, pd.DataFrame]
NUMBER = Number(0.0, 5.0, 1, declared=True)
LABEL = Label(("bad", "good"), ("bad", "good"))


def table(answers: list[Any], seed: int = 0) -> pd.DataFrame:
    draw = random.Random(seed)
    texts = [" ".join(draw.sample(WORDS, 6)) for _ in answers]
    return pd.DataFrame({"id": range(len(answers)), "text": texts, "y": answers}).astype(object)


def numbers(num_rows: int, seed: int = 0) -> pd.DataFrame:
    draw = random.Random(seed)
    return table([draw.randint(0, 50) / 10 for _ in range(num_rows)], seed)


def moods(num_rows: int, seed: int = 0) -> pd.DataFrame:
    return table(random.Random(seed).choices(["good", "bad"], k=num_rows), seed)


def parts(make: Any) -> Parts:
    return {"train": make(30, 1), "validation": make(12, 2), "test": make(10, 3)}


def ready(source: Any, **settings: Any) -> Prepared:
    return prepare(DataSettings(**({"data": "memory", "target": "y"} | settings)), source, seed=0)


# ── What is inferred ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_of_numbers(caplog: pytest.LogCaptureFixture) -> None:
    source = parts(numbers)
    with caplog.at_level(logging.INFO, logger="predgen"):
        found = ready(source)
    assert isinstance(found.target, Number)
    assert found.target.decimals == 1
    assert not found.target.declared
    assert found.template.fields == ("text",)
    assert found.template.render({"text": "a river"}) == "a river\ny:"
    assert found.train_values == source["train"]["y"].tolist()
    assert found.validation_values == source["validation"]["y"].tolist()
    assert found.columns == ("y",)
    said = caplog.messages
    assert "Rows: 30 train / 12 validation / 10 test (as given)" in said
    assert f"Target: 'y', {found.target.describe()} — its cells are numbers" in said
    assert "Inputs: text (the free-text columns; name others with --inputs)" in said


def test_a_table_of_labels() -> None:
    found = ready(parts(moods))
    assert found.target == replace(LABEL, positive="bad")  # the rarer one
    assert set(found.train_values) == {"bad", "good"}
    given = ready(parts(moods), label_text={"bad": "awful"}, positive="good").target
    assert given == Label(("bad", "good"), ("awful", "good"), positive="good")
    assert ready(parts(moods), label_codes=True).target == Label(("bad", "good"), ("A", "B"), positive="bad")


def test_the_kind_follows_what_is_declared() -> None:
    grades = parts(lambda num_rows, seed: table([row % 3 for row in range(num_rows)], seed))
    assert ready(grades).target == Label((0, 1, 2), ("0", "1", "2"))
    assert ready(grades, label_text={"0": "low"}).target == Label((0, 1, 2), ("low", "1", "2"))
    assert ready(grades, kind="number").target == Number(0.0, 3.0, 0)
    assert ready(grades, decimals=1).target == Number(0.0, 2.2, 1)
    assert ready(grades, low=0, high=9).target == Number(0.0, 9.0, 0, declared=True)
    assert ready(grades, kind="number").train_values[:3] == [0.0, 1.0, 2.0]
    halves = parts(lambda num_rows, seed: table([row % 3 / 2 for row in range(num_rows)], seed))
    assert isinstance(ready(halves).target, Number)
    assert ready(halves, kind="label").target == Label((0, "0.5", 1), ("0", "0.5", "1"))


def test_the_form_follows_what_is_declared(caplog: pytest.LogCaptureFixture) -> None:
    grades = parts(lambda num_rows, seed: table([1 + row % 3 for row in range(num_rows)], seed))
    assert ready(grades, number_form="fixed").target == Number(0.0, 4.0, 0)
    assert ready(grades, number_form="scientific").target == Number(0.8, 3.2, 2, form="scientific")
    assert ready(grades, logarithmic=False).target == Number(0.0, 4.0, 0)
    found = ready(grades, low=0.5, high=5, number_form="scientific", logarithmic=True, decimals=14).target
    assert found == Number(0.5, 5.0, 14, True, "scientific", True)
    wide = parts(lambda num_rows, seed: table([10.0 ** (row % 9 - 4) for row in range(num_rows)], seed))
    with caplog.at_level(logging.INFO, logger="predgen"):
        found = ready(wide).target
    assert found == Number(1.58e-5, 6.31e4, 2, False, "scientific", True)
    assert "in scientific form with 2 decimals, logarithmic (inferred) — its cells are numbers" in caplog.text
    wide["test"].loc[3, "y"] = 0
    with pytest.raises(DataError, match=r"Row 4, column 'y': Expected a number above 0, .*, found 0\."):
        ready(wide)


def test_only_the_training_part_is_looked_at() -> None:
    source = parts(numbers)
    source["test"].loc[3, "y"] = 99.123
    source["validation"].loc[3, "y"] = -7
    found = ready(source)
    assert found.target == ready(parts(numbers)).target
    assert found.validation_values[3] == -7


def test_one_table_is_split() -> None:
    found = ready(numbers(100))
    assert [len(part) for part in (found.splits.train, found.splits.validation, found.splits.test)] == [80, 10, 10]  # type: ignore[arg-type]
    assert found.train_values == [found.splits.train["y"].loc[row] for row in found.splits.train.index]
    assert row_numbers(found.splits.train) == [row + 1 for row in found.splits.train.index]


def test_labels_are_stratified_and_numbers_are_not() -> None:
    assert "stratified by label" in ready(moods(100)).splits.how
    assert "stratified" not in ready(numbers(100)).splits.how


def test_labels_that_the_first_rows_lack_are_told() -> None:
    texts = [f"some words of row {row}" for row in range(60)]
    rows = pd.DataFrame({"text": texts, "y": ["bird"] * 20 + ["cat"] * 20 + ["dog"] * 20}, dtype=object)
    lost = r"^The first 30 training rows lack labels that others have \(dog\); .*Shuffle the table, or raise"
    with pytest.warns(LostLabelsWarning, match=lost):
        prepare(DataSettings(data="a.csv", target="y", max_train_rows=30), rows, 0)
    with all_warnings() as found:
        prepare(DataSettings(data="a.csv", target="y", max_train_rows=44), rows, 0)
    assert not [one for one in found if isinstance(one, LostLabelsWarning)]
    sets = rows.assign(y=["bird|cat"] * 20 + ["cat|bird"] * 20 + ["dog|cat"] * 20)
    with pytest.warns(LostLabelsWarning, match=lost):
        prepare(DataSettings(data="a.csv", target="y", max_train_rows=30), sets, 0)


def test_the_fingerprint_follows_the_rows_the_target_and_the_template() -> None:
    source = parts(numbers)
    first = ready(source).fingerprint()
    assert ready(source).fingerprint() == first
    assert ready(source, template="Score: {text}").fingerprint() != first
    assert ready(source, decimals=3).fingerprint() != first
    source["train"] = source["train"].iloc[::-1]
    assert ready(source).fingerprint() != first


def test_the_first_rows_of_each_part() -> None:
    source = parts(numbers)
    found = ready(source, max_train_rows=20, max_eval_rows=5)
    assert (len(found.train_values), len(found.validation_values)) == (20, 5)
    assert found.train_values == source["train"]["y"].tolist()[:20]
    assert found.splits.test is not None
    assert len(found.splits.test) == 5
    assert found.splits.how.endswith("; the first 20 / 5 / 5 of each part are used")
    del source["test"]
    assert ready(source, max_eval_rows=5).splits.how.endswith("; the first 30 / 5 / 0 of each part are used")


def test_what_the_training_part_left_out_is_kept() -> None:
    source = parts(numbers)
    unused = ready(source, max_train_rows=20).splits.unused
    assert unused is not None
    pd.testing.assert_frame_equal(unused, source["train"].iloc[20:])
    every: list[dict[str, Any]] = [{}, {"max_train_rows": 30}, {"max_train_rows": 99}, {"max_eval_rows": 5}]
    for settings in every:
        assert ready(source, **settings).splits.unused is None
    # A row that is left out may be one that could not be used.
    source["train"].loc[25, ["text", "y"]] = None
    assert len(ready(source, max_train_rows=20).train_values) == 20


def test_what_is_set_aside_to_calibrate_on_is_not_left_out() -> None:
    found = ready(numbers(100), calibration=0.2, max_train_rows=20).splits
    assert found.unused is not None
    assert found.calibration is not None
    assert (len(found.train), len(found.unused), len(found.calibration)) == (20, 44, 16)
    every = [found.train, found.unused, found.validation, found.test, found.calibration]
    rows = [set(part.index) for part in every if part is not None]
    assert len(set().union(*rows)) == sum(map(len, rows)) == 100


# ── Inputs ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_inputs_and_templates() -> None:
    row = {"id": 3, "text": "a river"}
    assert ready(parts(moods), inputs=("id", "text")).template.render(row) == "id: 3\ntext: a river\ny:"
    found = ready(parts(moods), template="Is '{text}' ({id}) good?").template
    assert found.fields == ("text", "id")
    assert found.render(row) == "Is 'a river' (3) good?"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"inputs": ("text",), "template": "{text}"}, ConfigError, "--inputs or --template, found both"),
        ({"inputs": ("text", "y")}, ConfigError, "inputs other than the target, found 'y' in both"),
        ({"inputs": ()}, TemplateError, r"at least one input column, found none\. Name them with --inputs"),
        ({"inputs": ("txt",)}, UnknownNameError, r"'txt'\. Did you mean 'text'\?"),
        ({"template": "{txt}"}, UnknownNameError, r"'txt'\. Did you mean 'text'\?"),
        ({"template": "{text} {y}"}, UnknownNameError, r"column in the template 'y'\..* Known: id, text\."),
        ({"template": "text"}, TemplateError, r"at least one \{column\} field"),
        ({"target": "why"}, UnknownNameError, r"'why'.*Known: id, text, y"),
    ],
)
def test_inputs_that_are_none(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ready(parts(moods), **settings)


def test_an_input_that_gives_the_target_away() -> None:
    source = parts(moods)
    for part in source.values():
        part["verdict"] = [f"in {row} we find it {mood}" for row, mood in enumerate(part["y"])]
    with pytest.warns(LeakWarning, match="'verdict' nearly gives the target 'y' away"):
        ready(source)
    with all_warnings() as found:
        ready(source, inputs=("text",))
    assert not found


# ── Bad cells ────────────────────────────────────────────────────────────────────────────────────────────────


def refused(source: Parts, **settings: Any) -> str:
    """Returns the message that refuses a table; it names one row, once."""
    with pytest.raises(DataError, match=r"[Rr]ow \d+, column '") as caught:
        ready(source, **settings)
    message = str(caught.value)
    assert len(re.findall(r"[Rr]ow \d+", message)) == 1
    assert "\n" not in message
    return message


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("n/a", "'n/a'"),
        ("1.2.3", "'1.2.3'"),
        ("inf", "'inf'"),
        (math.inf, "'inf'"),
        (True, "'True'"),
        ("", "an empty cell"),
        (None, "an empty cell"),
        (math.nan, "NaN"),
    ],
)
def test_a_cell_that_is_no_number(part: str, cell: Any, found: str) -> None:
    source = parts(numbers)
    source[part].loc[6, "y"] = cell
    source[part].loc[8, "y"] = "a later one"
    message = refused(source)
    assert re.search("row 7, column 'y'", message, re.IGNORECASE)
    assert f"found {found}." in message
    assert "Correct or remove the row" in message or "Fill the cell or remove the row" in message


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_cell_outside_of_the_declared_range(part: str) -> None:
    source = parts(numbers)
    source[part].loc[6, "y"] = 5.5
    message = refused(source, low=0, high=5)
    assert message.startswith("Row 7, column 'y': Expected a number in the declared range 0 … 5, found 5.5.")
    assert ready(source).target.kind == "number"  # an inferred range refuses none


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("cell", ["", "  ", None, math.nan])
def test_a_label_that_is_missing(part: str, cell: Any) -> None:
    source = parts(moods)
    source[part].loc[6, "y"] = cell
    assert refused(source) == (
        "Expected a label in row 7, column 'y', found an empty cell. Fill the cell or remove the row."
    )


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(("cell", "found"), [("", "an empty cell"), (math.nan, "NaN")])
def test_a_text_that_is_missing(part: str, cell: Any, found: str) -> None:
    source = parts(moods)
    source[part].loc[4, "text"] = cell
    assert refused(source).startswith(f"Expected input text in row 5, column 'text', found {found}. Fill")
    ready(source, inputs=("id",))  # a column that is not read may have gaps


def test_a_cell_of_one_table_keeps_its_row_after_the_split() -> None:
    for row in (0, 41, 99):
        source = numbers(100)
        source.loc[row, "y"] = "x"
        with pytest.raises(DataError, match=f"^Row {row + 1}, column 'y': Expected a finite number, found 'x'"):
            ready(source)


# ── Labels that training never saw ───────────────────────────────────────────────────────────────────────────


def test_unseen_labels_have_no_value_and_are_reported() -> None:
    source = parts(moods)
    source["validation"].loc[[1, 4, 5], "y"] = ["odd", "new", "odd"]
    with all_warnings() as warned:
        found = ready(source)
    assert [row for row, value in enumerate(found.validation_values) if value is None] == [1, 4, 5]
    (warning,) = warned
    assert isinstance(warning, UnseenLabelsWarning)
    assert str(warning) == (
        "3 rows have labels that were never seen in training ('new', 'odd'); they count as wrong. Add rows of them to "
        "the training part."
    )
    with all_warnings() as warned:
        ready(parts(moods))
    assert not warned


def test_values_of_a_held_out_column() -> None:
    rows = pd.DataFrame({"y": ["good", " bad ", "odd"]}, dtype=object)
    assert values_of(LABEL, rows, ["y"]) == ["good", "bad", None]
    assert unseen_labels(LABEL, ["good", "bad", None], rows, ["y"]) is not None
    assert unseen_labels(LABEL, ["good", "bad", "bad"], rows, ["y"]) is None
    numbers_ = pd.DataFrame({"y": ["1", 2.5]}, dtype=object)
    assert values_of(NUMBER, numbers_, ["y"]) == [1.0, 2.5]
    assert unseen_labels(NUMBER, [1.0, 2.5], numbers_, ["y"]) is None


# ── Settings that contradict the column ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (moods, {"kind": "label", "low": 0, "high": 1}, r"a range and decimals for a column of numbers, found"),
        (moods, {"kind": "label", "decimals": 1}, r"found the label column 'y' .*Declare --kind number"),
        (moods, {"kind": "label", "high": 1}, r"found the label column 'y'"),
        (moods, {"kind": "label", "number_form": "fixed"}, r"found the label column 'y' .*leave .* number_form and"),
        (moods, {"kind": "label", "logarithmic": False}, r"found the label column 'y' .* and logarithmic out\."),
        (numbers, {"logarithmic": True}, r"only values above 0 for a logarithmic number, found 0\."),
        (numbers, {"kind": "number", "label_text": {"0": "no"}}, r"number column 'y' \(declared\)\. Declare"),
        (numbers, {"kind": "number", "label_codes": True}, r"label texts for a column of labels"),
        (numbers, {"high": 9}, r"both ends of the declared range, found one"),
        (numbers, {"low": 0}, r"both ends of the declared range, found one"),
        (numbers, {"low": 9, "high": 1}, r"low end is below its high end, found 9\.0 … 1\.0"),
        (moods, {"label_text": {"godo": "fine"}}, r"label texts for the labels bad, good, found one for 'godo'"),
    ],
)
def test_settings_that_do_not_fit_the_column(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ready(parts(make), **settings)


@pytest.mark.parametrize("declared", [{"logarithmic": False}, {"decimals": 0}, {"number_form": "fixed"}])
def test_nothing_declared_outside_of_a_records_fields_is_lost(declared: dict[str, Any]) -> None:
    def two(num_rows: int, seed: int) -> Any:
        return numbers(num_rows, seed).assign(z=lambda frame: frame["y"])

    with pytest.raises(ConfigError, match=rf"in the setting fields, found {next(iter(declared))} outside it"):
        ready(parts(two), target="y,z", **declared)


def test_one_end_of_a_range_makes_whole_numbers_a_number() -> None:
    grades = parts(lambda num_rows, seed: table([row % 3 for row in range(num_rows)], seed))
    with pytest.raises(ConfigError, match="both ends of the declared range, found one"):
        ready(grades, high=9)


def test_numbers_declared_of_text() -> None:
    with pytest.raises(DataError, match=r"^Row 1, column 'y': Expected a finite number, found '(good|bad)'"):
        ready(parts(moods), kind="number")
    with pytest.raises(DataError, match="a column of labels, found 30 different values in 30 rows"):
        ready({name: table([f"text {row}" for row in range(len(part))]) for name, part in parts(moods).items()})


# ── Settings and their table ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("y",), ("y",)),
        (("y", " id"), ("y", "id")),
        (("y", "id", ""), ("y", "id")),
        (("first", " last"), ("first, last",)),  # a column whose own name has a comma
        (("first, last", "y"), ("first, last", "y")),
    ],
)
def test_the_names_of_a_target_are_columns(names: tuple[str, ...], columns: tuple[str, ...]) -> None:
    assert target_columns(names, numbers(3).assign(**{"first, last": "a"})) == columns


def test_columns_of_a_target_that_are_not_there_or_named_twice() -> None:
    with pytest.raises(UnknownNameError, match="mod"):
        target_columns(("y", "mod"), numbers(3))
    with pytest.raises(ConfigError, match="every column of the target once, found y,y"):
        target_columns(("y", "y"), numbers(3))


def test_a_run_is_of_settings_or_of_a_config() -> None:
    config = build_config({"data": "a.csv", "target": "y", "seed": 3})
    source = numbers(3)
    assert run_of("a.csv", "y", {"seed": 3}, None) == (config, "a.csv")
    assert run_of(None, None, {}, config) == (config, "a.csv")
    assert run_of("b.csv", None, {}, config) == (config.changed(data="b.csv"), "b.csv")
    made, table = run_of(source, None, {}, config)
    assert table is source
    assert made == config.changed(data="<table in memory>")
    assert made == run_of(source, ["y"], {"train": {"seed": 3}}, None)[0]
    assert run_of(None, None, {}, config.changed(data=TASK_ROWS))[1] is None


def test_settings_beside_a_config_and_no_data_are_refused() -> None:
    config = build_config({"data": "<table in memory>", "target": "y"})
    with pytest.raises(ConfigError, match=r"found both \(config and target, seed\)\. Set them with config\.changed"):
        run_of("a.csv", "y", {"seed": 3}, config)
    for given in (config, config.changed(data="")):
        with pytest.raises(ConfigError, match="Expected data, found none"):
            run_of(None, None, {}, given)
