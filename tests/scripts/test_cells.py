"""Grids of runs: a finished cell is kept, and the tables of all cells."""

from pathlib import Path
from typing import Any

import pytest

from scripts import cells
from scripts.nano import tune_learning_rates as tuning


def test_a_finished_cell_is_never_run_again(tmp_path: Path) -> None:
    ran: list[tuple[Any, ...]] = []

    def run(name: str, rate: float) -> dict[str, Any]:
        ran.append((name, rate))
        if name == "broken":
            raise ValueError("broken")
        return {"name": name, "figure": rate}

    grid = [("a", 0.1), ("b", 0.1), ("a", 0.2)]
    first = cells.run_cells(grid, run, tmp_path, ["a", "0.1"])
    assert (first, ran) == ([{"name": "a", "figure": 0.1}], [("a", 0.1)])
    assert [one["name"] for one in cells.run_cells(grid, run, tmp_path, ["b"])] == ["a", "b"], (
        "of all that are finished"
    )
    with pytest.raises(ValueError, match="broken"):
        cells.run_cells([*grid, ("broken", 0.1), ("c", 0.1)], run, tmp_path)
    assert ran == [("a", 0.1), ("b", 0.1), ("a", 0.2), ("broken", 0.1)]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a-0.1.json", "a-0.2.json", "b-0.1.json"]
    assert [one["figure"] for one in cells.run_cells(grid, run, tmp_path)] == [0.1, 0.1, 0.2]
    assert len(ran) == 4


def test_tables_are_markdown() -> None:
    assert cells.markdown(("name", "figure"), [("a", 0.12345), ("b", None), ("c", 7)]) == (
        "| name | figure |\n| --- | --- |\n| a | 0.123 |\n| b |  |\n| c | 7 |"
    )
    found = [{"peft": "lora", "learning_rate": 0.001, "task": "sst2", "method": "predgen", "figure": 0.25}]
    assert tuning.table(found).splitlines() == [
        "| peft | learning rate | lcp predictor | lcp predgen | sst2 predictor | sst2 predgen |",
        "| --- | --- | --- | --- | --- | --- |",
        "| lora | 0.001 |  |  |  | 0.250 |",
    ]
