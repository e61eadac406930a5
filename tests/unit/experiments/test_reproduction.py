"""The reproduction's tables, plan and figures of the paper, without any model."""

from typing import Any

import pytest

from predgen.errors import UnknownNameError
from predgen.experiments.reproduction.gpus import GPUS, USED, Work, gpu_named
from predgen.experiments.reproduction.paper import COMMONSENSE, REPORTED, reported
from predgen.report.reproduction import plan_markdown, reproduction_html, reproduction_markdown

LLAMA = "meta-llama/Llama-2-7b-hf"


def cell(task: str, method: str, value: float, **more: Any) -> dict[str, Any]:
    metric = more.pop("metric", "accuracy")
    family = {"accuracy": "labels", "mse": "numbers", "pearson": "numbers", "exact_match": "arithmetic"}[metric]
    return {
        "task": task, "method": method, "peft": "lora", "backbone": LLAMA, "seed": 0, "family": family,
        "metrics": {metric: value}, "ci95": {metric: [value - 0.02, value + 0.02]},
        "simple": {metric: 0.5}, "notes": [], "capped": False, "official": True,
        "rows": {"train": 9, "validation": 3, "test": 5}, **more,
    }  # fmt: skip


def found(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "preset": "small",
        "versions": ["1"],
        "settings": {},
        "cells": list(cells),
        "missing": [],
        "failed": [],
        **more,
    }


def rows_of(markdown: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [one.strip() for one in cells[1:]] for cells in lines}


def test_the_papers_figures_stand_beside_ours() -> None:
    markdown = reproduction_markdown(
        found(*(cell(task, method, 0.7) for task in COMMONSENSE for method in ("predictor", "predgen")))
    )
    rows = rows_of(markdown)
    assert rows["method"] == [*COMMONSENSE, "average of 8"]
    paper = dict(zip(rows["method"], rows["paper: predgen"], strict=True))
    assert paper["boolq"] == "73.82"
    assert paper["hellaswag"] == "93.14"
    assert paper["piqa"] == ""
    assert paper["average of 8"] == "79.67"
    assert rows["`predictor`"][-1] == "70.00"


def test_an_average_is_over_what_was_run_and_the_papers_is_left_out_beside_a_part() -> None:
    rows = rows_of(reproduction_markdown(found(cell("boolq", "predgen", 0.6), cell("piqa", "predgen", 0.8))))
    assert rows["method"] == ["boolq", "piqa", "average of 2"]
    assert rows["`predgen`"][-1] == "70.00"
    assert rows["paper: predgen"] == ["73.82", "", ""]


def test_a_model_at_chance_is_marked_and_a_better_one_is_not() -> None:
    rows = rows_of(reproduction_markdown(found(cell("boolq", "predgen", 0.51), cell("boolq", "predictor", 0.53))))
    assert rows["`predgen`"] == ["51.00†"]
    assert rows["`predictor`"] == ["**53.00**"]
    assert rows["`simple baseline`"] == ["50.00"]


def test_a_model_below_the_simple_baseline_or_that_is_better_by_one_seed_alone_is_at_chance_too() -> None:
    below = rows_of(reproduction_markdown(found(cell("boolq", "predgen", 0.4))))
    assert below["`predgen`"] == ["40.00†"]
    of_seeds = [cell("boolq", "predgen", value, seed=seed) for seed, value in enumerate((0.6, 0.5))]
    assert rows_of(reproduction_markdown(found(*of_seeds)))["`predgen`"] == ["55.00 ± 7.07†"]
    error = rows_of(reproduction_markdown(found(cell("stsb", "predgen", 0.6, metric="mse"))))
    assert error["`predgen`"] == ["0.600†"]


def test_a_correlation_is_held_against_0() -> None:
    values = (("predgen", 0.01), ("predictor", 0.03))
    cells = [cell("stsb", method, value, metric="pearson", simple={"pearson": None}) for method, value in values]
    rows = rows_of(reproduction_markdown(found(*cells)))
    assert rows["`predgen`"] == ["0.010†"]
    assert rows["`predictor`"] == ["**0.030**"]


def test_capped_rows_stand_beside_no_figure_of_the_paper() -> None:
    markdown = reproduction_markdown(found(cell("boolq", "predgen", 0.6, capped=True), settings={"max_train_rows": 9}))
    assert "paper: predgen" not in markdown
    assert "`max_train_rows=9`" in markdown
    assert "`boolq`: 9 / 3 / 5 rows to train / choose / test on" in markdown


def test_seeds_are_averaged_with_their_spread() -> None:
    rows = rows_of(
        reproduction_markdown(found(*(cell("sst2", "predgen", 0.7 + seed / 10, seed=seed) for seed in range(3))))
    )
    assert rows["`predgen`"] == ["80.00 ± 10.00"]


def test_the_best_error_is_the_smallest() -> None:
    values = (("predgen", 2.0), ("predictor", 1.0))
    cells = [cell("stsb", method, value, metric="mse", simple={"mse": 3.0}) for method, value in values]
    rows = rows_of(reproduction_markdown(found(*cells)))
    assert rows["`predictor`"] == ["**1.000**"]
    assert rows["`predgen`"] == ["2.000"]


def test_other_parts_are_marked_and_stand_beside_no_figure_of_the_paper() -> None:
    cells = [cell(task, "predgen", 0.7, official=task != "hellaswag") for task in COMMONSENSE]
    rows = rows_of(reproduction_markdown(found(*cells)).partition("## The paper")[0])
    assert "hellaswag*" in rows["method"]
    paper = dict(zip(rows["method"], rows["paper: predgen"], strict=True))
    assert (paper["boolq"], paper["hellaswag*"], paper["average of 8"]) == ("73.82", "", "")


def test_the_papers_table_stands_below_models_that_it_does_not_have() -> None:
    markdown = reproduction_markdown(found(cell("boolq", "predgen", 0.6, backbone="builtin:nano", capped=True)))
    ours, _, paper = markdown.partition("## The paper")
    assert "73.82" not in ours
    assert f"| {LLAMA} | lora | `predgen` | 73.82 | 93.14 | 83.21 | 84.79 | 79.67 |" in paper
    assert "## The paper" not in reproduction_markdown(found(cell("sst2", "predgen", 0.6)))


def test_cells_that_failed_are_named() -> None:
    failed = {"task": "sst2", "method": "predgen", "peft": "lora", "backbone": "b", "seed": 1, "reason": "found nan"}
    markdown = reproduction_markdown(found(cell("boolq", "predgen", 0.6), failed=[failed]))
    assert "- `sst2`, `predgen`, lora, b, seed 1: failed: found nan" in markdown


def test_notes_and_what_was_not_run_are_said_once() -> None:
    one, other = (cell("multiarith", method, 0.1, metric="exact_match", notes=["trained on gsm8k"]) for method in "ab")
    markdown = reproduction_markdown(found(one, other, missing=[{"task": "clear", "reason": "no data"}]))
    assert markdown.count("`multiarith`: trained on gsm8k") == 1
    assert "`clear`: not run: no data" in markdown
    assert "**Arithmetic: exact match, %**" in markdown


def test_the_page_has_the_tables_and_needs_no_other_file() -> None:
    page = reproduction_html(found(cell("boolq", "predgen", 0.9, notes=["<script>alert(1)</script>"])))
    assert page.startswith("<!doctype html>")
    assert page.count("<table>") == 2  # ours, and the paper's
    assert "<strong>" not in page.partition("<tbody>")[2].partition("</tbody>")[0]  # one method is not the best of many
    assert "<script>" not in page
    assert "http" not in page


def test_what_the_paper_reports() -> None:
    assert reported(LLAMA, "lora", "predgen")["average"] == 79.67
    assert reported("meta-llama/Llama-2-13b-hf", "lora", "predictor") == {"average": 76.20}
    assert reported(LLAMA, "rocoft", "predgen") == {}
    names = {*COMMONSENSE, "average"}
    assert all(set(row.accuracy) <= names and all(0 < one < 100 for one in row.accuracy.values()) for row in REPORTED)


def test_work_is_counted_by_weights_and_tokens() -> None:
    work = Work(
        parameters=10,
        all_trained=False,
        train_rows=3,
        test_rows=5,
        epochs=2.0,
        prompt_tokens=7.0,
        target_tokens=2,
        passes=1,
    )
    # Forward and backward through frozen weights is 4 operations for a weight and token, a sampling pass 2.
    assert work.operations == 10 * (2 * 3 * (4 * 9 + 2 * 2) + 5 * 2 * 9)
    assert work.hours(GPUS["A100"]) == pytest.approx(work.operations / (USED * 312e12) / 3600)
    with pytest.raises(UnknownNameError, match="A100"):
        gpu_named("A10O")


@pytest.mark.parametrize(
    ("hours", "not_counted", "said", "shown"),
    [
        (2345.6, 0, "about 2346 hours, if 40%", "2346 hours"),
        (0.05, 0, "about 3 minutes, if 40%", "3 minutes"),
        (2e-5, 0, "about 0.072 seconds, if 40%", "0.072 seconds"),
        (1.234, 2, "at least 1.23 hours; 2 cells not counted, if 40%", "≥ 1.23 hours"),
        (None, 3, "the time is not known.", "–"),
        (0.0, 0, "about 0 seconds, if 40%", "0 seconds"),
    ],
)
def test_a_plan_says_how_much_of_its_time_is_known(
    hours: float | None, not_counted: int, said: str, shown: str
) -> None:
    row = {
        "backbone": LLAMA, "peft": "lora", "method": "predgen", "cells": 3, "fit_bytes": 2**30, "fits": True,
        "hours": hours, "not_counted": not_counted,
    }  # fmt: skip
    plan = {
        "cells": 3, "finished": 0, "gpu": "H100", "gpu_memory_bytes": 80 * 2**30, "gpu_flops": 989e12, "used": 0.4,
        "hours": hours, "not_counted": not_counted, "rows": [row], "notes": ["a note"],
    }  # fmt: skip
    markdown = plan_markdown(plan)
    assert said in markdown
    assert rows_of(markdown)[LLAMA] == ["lora", "predgen", "3", "1.0", "yes", shown]
    assert markdown.endswith("- a note\n")
