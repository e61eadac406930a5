"""Whether a task and its rows fit together, with the place of what does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from predgen.catalogue.loading import load_task
from predgen.catalogue.rows import local_folder, task_rows
from predgen.catalogue.schema import Task
from predgen.errors import PredGenError, explain
from predgen.tables import row_numbers
from predgen.targets import describe, label_key, parse_number
from predgen.template import Template


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
    if data is None and local_folder(task) is None:
        return Checked(task, None, {}, None, None, ())
    try:
        for other in {part.task for part in (task.splits.train, task.splits.validation) if part.task} - {None}:
            load_task(other)
        found = task_rows(task, data)
    except PredGenError as error:
        return Checked(task, None, {}, None, None, (str(error),))
    problems = [f"{part}: {problem}" for part, table in found.parts.items() for problem in answer_problems(task, table)]
    rows: dict[str, int] = {part: len(table) for part, table in found.parts.items()}
    return Checked(
        task, found.origin, rows, found.note, example_of(task, found.parts["train"]), tuple(dict.fromkeys(problems))
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


def _fits(task: Task, cell: Any) -> bool:
    if task.target.kind == "label":
        return label_key(cell) in task.target.label_text
    value = parse_number(cell)
    assert task.target.low is not None
    assert task.target.high is not None
    return value is not None and task.target.low <= value <= task.target.high
