"""Whether a task and its rows fit together, and where they do not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from predgen.backbones.template import Template
from predgen.catalogue.loading import load_task
from predgen.catalogue.rows import local_folder, task_rows
from predgen.catalogue.schema import PartName, Task
from predgen.errors import PredGenError, explain
from predgen.tables.reading import row_numbers
from predgen.targets.cells import describe, label_key, parse_number

# What rounding to a target's decimals may change of its answers on average, as a share of their standard deviation.
ROUNDING_SHARE = 0.05
# What a float's own error may be.
ROUNDING_FLOOR = 1e-9


@dataclass(frozen=True)
class Checked:
    """A task beside its rows.

    Attributes:
        task: the task.
        origin: where its rows were found; None if they were not looked at.
        rows: how many rows each part has.
        note: what is said of these parts.
        example: the prompt and the answer of the first training row.
        problems: what does not fit, a sentence each.
    """

    task: Task
    origin: str | None
    rows: dict[str, int]
    note: str | None
    example: dict[str, str] | None
    problems: tuple[str, ...]


def check_task(name: str | Path, data: str | Path | None = None) -> Checked:
    """Returns a task beside its local rows; nothing is downloaded.

    Args:
        name: a task's name or a YAML file.
        data: the folder of its rows, or the folder above; None for PREDGEN_DATA_DIR.

    Raises:
        ConfigError: the file is no task.
        UnknownNameError: no task has this name.
    """
    task = load_task(name)
    try:
        for parts in filter(None, (task.splits, task.fallback)):
            for other, _ in parts.sources():
                if other is not None:
                    load_task(other)
        if data is None and local_folder(task) is None:
            return Checked(task, None, {}, None, None, ())
        loaded = task_rows(task, data)
    except PredGenError as error:
        return Checked(task, None, {}, None, None, (str(error),))
    problems = [
        f"{part_name}: {problem}"
        for part_name, table in loaded.parts.items()
        for problem in answer_problems(task, table)
    ]
    problems = problems or list(rounding_problems(task, loaded.parts))
    rows: dict[str, int] = {part_name: len(table) for part_name, table in loaded.parts.items()}
    return Checked(
        task, loaded.origin, rows, loaded.note, example_of(task, loaded.parts["train"]), tuple(dict.fromkeys(problems))
    )


def example_of(task: Task, table: pd.DataFrame) -> dict[str, str]:
    """Returns the prompt and the written answer of a flat table's first row."""
    row: dict[str, Any] = {str(name): cell for name, cell in table.iloc[0].items()}
    key = label_key(row[task.target.column])
    return {
        "prompt": Template.parse(task.template, task.flat_columns).render(row),
        "answer": task.target.label_text.get(key, key),
    }


def answer_problems(task: Task, table: pd.DataFrame) -> Iterator[str]:
    """Yields the first answer of a flat table that is none, and how many there are."""
    target = task.target
    wrong = [
        (row, cell) for row, cell in zip(row_numbers(table), table[target.column], strict=True) if not _fits(task, cell)
    ]
    if wrong:
        known = ", ".join(target.label_text) if target.kind == "label" else f"{target.low:.15g} … {target.high:.15g}"
        more = f" ({len(wrong)} rows in all)" if len(wrong) > 1 else ""
        row, cell = wrong[0]
        yield explain(
            expected=f"one of the labels {known}" if target.kind == "label" else f"a number in {known}",
            found=describe(cell) + more,
            fix="Correct the task's target, or the rows.",
            row=row,
            column=target.column,
        )


def rounding_problems(task: Task, parts: Mapping[PartName, pd.DataFrame]) -> Iterator[str]:
    """Yields the first number that has more decimals than the target, where rounding changes the answers much.

    Args:
        task: the task.
        parts: its flat rows, all of whose answers fit.
    """
    if task.target.kind == "label":
        return
    assert task.target.decimals is not None
    column = task.target.column
    answers = {
        part_name: np.array([parse_number(cell) for cell in table[column]], float) for part_name, table in parts.items()
    }
    errors = {
        part_name: np.abs(values - np.round(values, task.target.decimals)) for part_name, values in answers.items()
    }
    # A few answers of many decimals are rounded without a word, and so are all of them by a little. Of all parts
    # together, as the answers of a few rows can be nearly alike.
    spread = np.concatenate(list(answers.values())).std()
    cost = np.sqrt(np.mean(np.concatenate(list(errors.values())) ** 2))
    if cost <= max(ROUNDING_SHARE * spread, ROUNDING_FLOOR):
        return
    part_name = next(part_name for part_name, part_errors in errors.items() if part_errors.max() > ROUNDING_FLOOR)
    row_index = int(np.argmax(errors[part_name] > ROUNDING_FLOOR))
    said = explain(
        expected=f"numbers that {task.target.decimals} decimals can write",
        found=describe(parts[part_name][column].iloc[row_index]),
        fix=f"Give the target more decimals: rounding to {task.target.decimals} changes the answers much.",
        row=row_numbers(parts[part_name])[row_index],
        column=column,
    )
    yield f"{part_name}: {said}"


def _fits(task: Task, cell: Any) -> bool:
    if task.target.kind == "label":
        return label_key(cell) in task.target.label_text
    value = parse_number(cell)
    assert task.target.low is not None
    assert task.target.high is not None
    return value is not None and task.target.low <= value <= task.target.high
