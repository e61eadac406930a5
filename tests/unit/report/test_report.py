"""The tables that people read: no figure is cut, the best stand out, what is not defined is a dash."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from predgen.report.choice import choice_table, choice_text
from predgen.report.evaluation import evaluation_table
from predgen.report.plots import save_comparison, save_training
from predgen.report.tables import (
    comparison_markdown,
    comparison_tables,
    format_interval,
    format_number,
)
from predgen.report.tables import (
    tests_table as paired_table,
)


def result(value: float | None, **more: Any) -> dict[str, Any]:
    metrics = {"mse": value, "pearson": None if value is None else -value}
    return {
        "metrics": metrics,
        "ci95": {name: [None, None] if one is None else [one - 1, one + 1] for name, one in metrics.items()},
        "train_seconds": 12.34,
        "predict_examples_per_second": 99.6,
        "invalid_fraction": 0.25,
        "seeds": [metrics],
        "seed_deviation": dict.fromkeys(metrics),
        **more,
    }


@pytest.fixture
def comparison() -> dict[str, Any]:
    return {
        "methods": {
            "mean_or_majority": result(20.5, predict_examples_per_second=6e9, train_seconds=0.0),
            "predictor": result(3.25),
            "predgen": result(3.25),
            "broken": result(None, invalid_fraction=1.0),
        },
        "tests": [
            {
                **{"a": "predictor", "b": "predgen", "metric": "mse"},
                **{"difference": -0.5, "ci95": [-1.25, 0.25], "p_value": 0.04321, "p_holm": 0.25},
            },
            {
                **{"a": "mean_or_majority", "b": "predgen", "metric": "mse"},
                **{"difference": 17.25, "ci95": [15.0, 20.0], "p_value": 0.00001, "p_holm": 0.00006},
            },
        ],
        "rows": 44,
        "part": "test",
    }


def printed(*tables: Table, width: int = 200) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return captured.get()


def cells_of(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.98765, "0.988"),
        (-9.9994, "-9.999"),
        (12.345, "12.35"),
        (-345.67, "-345.7"),
        (2864.21, "2864"),
        (999999.4, "999999"),
        (1e6, "1.00e+06"),
        (0.00012, "1.20e-04"),
        (-0.00012, "-1.20e-04"),
    ],
)
def test_numbers_have_the_digits_that_people_read(value: float | None, text: str) -> None:
    assert format_number(value) == text


def test_intervals_stand_in_brackets_or_not_at_all() -> None:
    assert format_interval((0.5, 12.5)) == "[0.500, 12.50]"
    assert format_interval((None, None)) == ""
    assert format_interval((0.5, None)) == ""


def test_an_evaluation_has_a_row_for_each_metric() -> None:
    evaluation = {
        "metrics": {"accuracy": 0.5, "log_loss": None, "valid_mass": 0.125},
        "ci95": {"accuracy": [0.25, 0.75], "log_loss": [None, None]},
        "rows": 8,
        "invalid_fraction": 0.125,
    }
    text = printed(evaluation_table(evaluation))
    assert "8 rows, 12.5% invalid answers" in text
    assert cells_of(text) == [
        ["metric", "value", "95 % interval"],
        ["accuracy", "0.500", "[0.250, 0.750]"],
        ["log_loss", "–", ""],
        ["valid_mass", "0.125", ""],
    ]


def test_a_comparison_has_a_row_for_each_method(comparison: dict[str, Any]) -> None:
    (table,) = comparison_tables(comparison, 200)
    text = printed(table)
    assert "44 test rows; [95 % intervals] over the rows" in text
    assert cells_of(text) == [
        ["method", "mse", "pearson", "train s", "rows/s", "invalid"],
        ["mean_or_majority", "20.50", "-20.50", "0.0", ">1e6", "25.0%"],
        ["", "[19.50, 21.50]", "[-21.50, -19.50]", "", "", ""],
        ["predictor", "3.250", "-3.250", "12.3", "100", "25.0%"],
        ["", "[2.250, 4.250]", "[-4.250, -2.250]", "", "", ""],
        ["predgen", "3.250", "-3.250", "12.3", "100", "25.0%"],
        ["", "[2.250, 4.250]", "[-4.250, -2.250]", "", "", ""],
        ["broken", "–", "–", "12.3", "100", "100.0%"],
    ]


def test_the_best_of_each_metric_are_bold_and_ties_share_it(comparison: dict[str, Any]) -> None:
    markdown = comparison_markdown(comparison)
    assert re.findall(r"\*\*([^*]+)\*\*", markdown) == ["3.250", "-3.250", "3.250", "-3.250"]
    (table,) = comparison_tables(comparison, 200)
    bold = [[str(cell.style) == "bold" for cell in column.cells if str(cell)] for column in table.columns[1:3]]  # type: ignore[union-attr]
    assert bold == [[False, True, True, False]] * 2


@pytest.mark.parametrize("width", [34, 40, 60, 61, 80, 100, 200])
def test_no_figure_is_cut_however_narrow_the_terminal(comparison: dict[str, Any], width: int) -> None:
    comparison["methods"] = {name: result(value) for name, value in (("a", 123456.0), ("b", -2.5e-9), ("c", None))}
    tables = comparison_tables(comparison, width)
    text = printed(*tables, width=width)
    assert "…" not in text
    found = [cells_of(printed(table, width=width)) for table in tables]
    wide = cells_of(printed(*comparison_tables(comparison, 1000), width=1000))
    # Side by side, the tables hold the rows of the wide one.
    headers = [name for rows in found for name in rows[0][1:]]
    assert headers == wide[0][1:]
    for method in ("a", "b", "c"):
        (wanted,) = (row[1:] for row in wide if row[0] == method)
        assert [cell for rows in found for row in rows if row[0] == method for cell in row[1:]] == wanted
    assert (len(tables) == 1) == (width >= len(printed(*comparison_tables(comparison, 1000)).splitlines()[1]))


def test_paired_tests_say_the_difference_and_how_sure_it_is(comparison: dict[str, Any]) -> None:
    assert cells_of(printed(paired_table(comparison))) == [
        ["first", "second", "metric", "difference", "95 % interval", "p", "p (Holm)"],
        ["predictor", "predgen", "mse", "-0.5000", "[-1.250, 0.250]", "0.0432", "0.2500"],
        ["mean_or_majority", "predgen", "mse", "+17.2500", "[15.00, 20.00]", "<0.0001", "<0.0001"],
    ]


def test_markdown_holds_both_tables(comparison: dict[str, Any]) -> None:
    assert comparison_markdown(comparison).splitlines() == [
        "| method | mse | pearson | train s | rows/s | invalid |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `mean_or_majority` | 20.50 [19.50, 21.50] | -20.50 [-21.50, -19.50] | 0.0 | >1e6 | 25.0% |",
        "| `predictor` | **3.250** [2.250, 4.250] | **-3.250** [-4.250, -2.250] | 12.3 | 100 | 25.0% |",
        "| `predgen` | **3.250** [2.250, 4.250] | **-3.250** [-4.250, -2.250] | 12.3 | 100 | 25.0% |",
        "| `broken` | – | – | 12.3 | 100 | 100.0% |",
        "",
        "| first | second | metric | difference | 95 % interval | p | p (Holm) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| predictor | predgen | mse | -0.5000 | [-1.250, 0.250] | 0.0432 | 0.2500 |",
        "| mean_or_majority | predgen | mse | +17.2500 | [15.00, 20.00] | <0.0001 | <0.0001 |",
    ]


def test_the_spread_over_seeds_is_shown_apart(comparison: dict[str, Any]) -> None:
    seeds = [{"mse": 3.0, "pearson": -3.0}, {"mse": 3.5, "pearson": -3.5}]
    comparison["methods"]["predictor"] |= {"seeds": seeds, "seed_deviation": {"mse": 0.3536, "pearson": None}}
    text = printed(*comparison_tables(comparison, 200))
    assert "± one standard deviation over the seeds" in text
    rows = cells_of(text)
    place = next(position for position, row in enumerate(rows) if row[0] == "predictor")
    assert [row[1:3] for row in rows[place : place + 3]] == [
        ["3.250", "-3.250"],
        ["[2.250, 4.250]", "[-4.250, -2.250]"],
        ["± 0.354", ""],
    ]
    assert "| **3.250** [2.250, 4.250] ± 0.354 | **-3.250** [-4.250, -2.250] |" in comparison_markdown(comparison)


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────

PNG = b"\x89PNG\r\n\x1a\n"


def axes_of(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], None]) -> list[Axes]:
    """Returns the panels of the one figure that is drawn."""
    figures: list[Figure] = []
    usual = Figure.savefig

    def spy(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        usual(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    draw()
    (figure,) = figures
    return list(figure.axes)


def test_the_picture_of_a_comparison_holds_its_figures(
    comparison: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison["methods"]["predictor"]["seeds"] = [{"mse": 3.0, "pearson": -3.0}, {"mse": 3.5, "pearson": None}]
    path = tmp_path / "pictures" / "comparison.png"
    mse, pearson = axes_of(monkeypatch, lambda: save_comparison(comparison, path))
    assert path.read_bytes().startswith(PNG)
    assert (mse.get_title(), pearson.get_title()) == ("mse", "pearson")
    assert [label.get_text() for label in mse.get_yticklabels()] == list(comparison["methods"])
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in mse.get_lines()]
    assert drawn[:2] == [([19.5, 21.5], [0, 0]), ([20.5], [0])]
    assert ([3.0, 3.5], [1.22, 1.22]) in drawn
    assert len(drawn) == 2 * 3 + 1  # what is not defined has no dot
    assert len(pearson.get_lines()) == 2 * 3


def test_the_picture_of_training_shows_what_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [
        {"step": 1, "writer_loss": 2.0, "director_loss": 1.0, "sampling_probability": 0.0},
        {"step": 2, "eval_mse": 4.0, "eval_director_loss_gold": 0.1, "eval_director_loss_own": 0.9},
        {"step": 3, "writer_loss": 1.0, "director_loss": None, "sampling_probability": 0.5},
    ]
    path = tmp_path / "course.png"
    panels = axes_of(monkeypatch, lambda: save_training({"metric": "mse", "history": history}, path))
    assert path.read_bytes().startswith(PNG)
    found = {
        panel.get_title(): {
            str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True))  # type: ignore[arg-type]
            for line in panel.get_lines()
        }
        for panel in panels
    }
    assert list(found) == ["loss (training)", "L_D (validation)", "sampling probability p", "mse (validation)"]
    assert found["loss (training)"] == {"L_W": [(1, 2.0), (3, 1.0)], "L_D": [(1, 1.0)]}
    assert found["L_D (validation)"] == {"on gold tokens": [(2, 0.1)], "on own tokens": [(2, 0.9)]}
    assert found["sampling probability p"] == {"p": [(1, 0.0), (3, 0.5)]}


def test_a_picture_that_fails_leaves_what_was_there(
    comparison: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "comparison.png"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_comparison(comparison, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_exact_numbers_are_shown_where_they_are_asked_for(comparison: dict[str, Any]) -> None:
    for result in comparison["methods"].values():
        result["metrics"]["exact_match"], result["ci95"]["exact_match"] = 0.25, [0.0, 0.5]
    for metric, shown in ((None, False), ("mse", False), ("exact_match", True)):
        comparison["config"] = {"train": {"metric": metric}}
        assert ("exact_match" in printed(*comparison_tables(comparison, 200))) == shown


def choice(ci95: list[float | None], **more: Any) -> dict[str, Any]:
    """Returns the record's `auto`, with the interval of the difference."""
    figures = {"predictor": 0.8, "generator": None, "predgen": 0.85}
    candidates = {
        name: {"value": value, "ci95": [None, None] if value is None else [value - 0.125, 1.0], "seconds": 12.34}
        for name, value in figures.items()
    }
    second = {"second": "predictor", "difference": 0.05, "ci95": ci95, "note": "Optimistic."}
    return {
        "metric": "accuracy",
        "rows": 40,
        "candidates": candidates,
        "left_out": {},
        "best": "predgen",
        **second,
        **more,
    }


def test_the_methods_that_were_fitted_stand_side_by_side() -> None:
    text = printed(choice_table(choice([-0.0125, 0.125])))
    assert "40 validation rows; [95 % intervals] over the rows" in text
    assert cells_of(text) == [
        ["method", "accuracy", "95 % interval", "seconds"],
        ["predictor", "0.800", "[0.675, 1.000]", "12"],
        ["generator", "–", "", "12"],
        ["predgen", "0.850", "[0.725, 1.000]", "12"],
    ]


@pytest.mark.parametrize(
    ("ci95", "figures", "tells"),
    [
        ([-0.0125, 0.125], "0.050 [-0.013, 0.125]", False),
        ([0.0, 0.125], "0.050 [0.000, 0.125]", False),
        ([0.0125, 0.125], "0.050 [0.013, 0.125]", True),
        ([None, None], "0.050", True),  # nothing is known of it
    ],
)
def test_the_choice_says_by_how_much_and_whether_the_rows_tell(
    ci95: list[float | None], figures: str, tells: bool
) -> None:
    doubt = "" if tells else " The interval holds 0: these rows do not tell the two apart."
    expected = (
        f"Kept: predgen. Its accuracy minus that of predictor, the second: {figures}, paired over the rows.{doubt}"
    )
    assert choice_text(choice(ci95)) == f"{expected}\nOptimistic."


def test_a_lone_method_is_compared_with_nothing() -> None:
    alone = {name: value for name, value in choice([0.0, 0.0]).items() if name != "second"}
    assert choice_text(alone) == "Kept: predgen. It is the only one that was fitted."
