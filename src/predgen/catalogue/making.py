"""From a source's columns to flat ones: lists and nested cells become texts that a template can read."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from predgen.catalogue.schema import AfterMark, CellType, Filled, Joined, Making, Names, Numbered, Position, Task
from predgen.errors import DataError, explain, unknown_name
from predgen.tables.reading import row_numbers
from predgen.targets.cells import describe, is_missing, label_key, parse_number

# What a cell of each type is called in messages.
CALLED: dict[CellType, str] = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "texts": "a list of texts",
}
_MARKED = re.compile(r"<([^<>]*)/>")


def flat_table(task: Task, table: pd.DataFrame, *, with_target: bool = True) -> pd.DataFrame:
    """Returns a table with the columns that a task makes, beside its own.

    Args:
        task: what makes them.
        table: rows as the task's source has them.
        with_target: whether the answers must be there; else they are made where their columns are.

    Raises:
        DataError: a cell is not what the task's columns say; the message names row and column.
        UnknownNameError: a column that is read is missing.
    """
    wanted = [*task.inputs, task.target.column]
    if not with_target and not set(_sources(task, task.target.column)) <= set(map(str, table.columns)):
        wanted.remove(task.target.column)
    for name in dict.fromkeys(source for column in wanted for source in _sources(task, column)):
        if name not in table.columns:
            raise unknown_name(f"column of the task {task.name}", name, [str(column) for column in table.columns])
    rows = row_numbers(table)
    read = {
        name: [_read(cell, task.columns[name], row, name) for cell, row in zip(table[name], rows, strict=True)]
        for name in dict.fromkeys(source for column in wanted for source in _sources(task, column))
    }
    flat = table.copy()
    for name in wanted:
        if name not in task.make:
            continue
        making = task.make[name]
        cells = [
            _column(task, read, rows, source, making.needs.get(key)) for key, source in _column_paths(making).items()
        ]
        made = []
        for row, *making_cells in zip(rows, *cells, strict=True):
            try:
                made.append(_make(making, making_cells))
            except ValueError as error:
                expected, problem = error.args
                raise DataError(
                    explain(
                        expected=expected,
                        found=problem,
                        fix="Correct or remove the row.",
                        row=row,
                        column=making.of.partition(".")[0],
                    )
                ) from error
        flat[name] = pd.Series(made, index=flat.index, dtype=object)
    return flat


def _column_paths(making: Making) -> dict[str, str]:
    """Returns the column paths that a made column reads, by the names of its settings and in their order."""
    return {key: getattr(making, key) for key in ("of", "by", "among") if hasattr(making, key)}


def _sources(task: Task, name: str) -> list[str]:
    """Returns the source's columns that a flat column comes from."""
    if name not in task.make:
        return [name]
    return [source.partition(".")[0] for source in _column_paths(task.make[name]).values()]


def _column(
    task: Task, read: Mapping[str, Sequence[Any]], rows: Sequence[int], source: str, needed: CellType | None
) -> list[Any]:
    """Returns the cells at a column path; cells of type `any` are read as the needed type.

    Raises:
        DataError: a cell is not of the needed type.
    """
    name, _, key = source.partition(".")
    cells = [cell[key] if key else cell for cell in read[name]]
    if needed is None or task.column_type(source) != "any":
        return cells
    return [_read(cell, needed, row, name) for cell, row in zip(cells, rows, strict=True)]


def _read(cell: Any, kind: CellType | Mapping[str, CellType], row: int, name: str) -> Any:
    """Returns a cell as its type says; nested ones may be JSON, as tables hold them.

    Raises:
        DataError: it is not of that type.
    """
    value = cell
    if (not isinstance(kind, str) or kind == "texts") and isinstance(cell, str):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            value = cell
    if isinstance(kind, Mapping):
        if not isinstance(value, Mapping) or not set(kind) <= set(value):
            raise _fault(f"a cell with {' and '.join(kind)}", cell, row, name)
        nested = {key: _read(value[key], nested_kind, row, name) for key, nested_kind in kind.items()}
        lengths = {len(value) for value in nested.values() if isinstance(value, list)}
        if len(lengths) > 1:
            raise _fault(f"lists of one length in {' and '.join(kind)}", cell, row, name)
        return nested
    if kind != "any" and (is_missing(value) or not _TYPES[kind](value)):
        raise _fault(CALLED[kind], cell, row, name)
    return value


_TYPES: dict[CellType, Callable[[Any], bool]] = {
    "text": lambda cell: isinstance(cell, str),
    "integer": lambda cell: (parse_number(cell) or 0.0).is_integer() and parse_number(cell) is not None,
    "number": lambda cell: parse_number(cell) is not None,
    "boolean": lambda cell: label_key(cell).lower() in ("true", "false"),
    "texts": lambda cell: isinstance(cell, list) and bool(cell) and all(isinstance(text, str) for text in cell),
}


def _fault(expected: str, cell: Any, row: int, name: str) -> DataError:
    return DataError(
        explain(expected=expected, found=describe(cell), fix="Correct or remove the row.", row=row, column=name)
    )


def _make(making: Making, cells: list[Any]) -> str:
    """Returns a made cell.

    Raises:
        ValueError: with what was expected and what was found.
    """
    match making:
        case Numbered():
            texts = [f"{making.word}{number}: {text}" for number, text in enumerate(cells[0], start=1)]
            return making.separator.join(texts)
        case Names():
            return making.separator.join(f"{making.word}{number}" for number in range(1, len(cells[0]) + 1))
        case Position():
            if cells[0] not in cells[1]:
                raise ValueError(f"one of {', '.join(cells[1])}", describe(cells[0]))
            return str(cells[1].index(cells[0]) + 1)
        case AfterMark():
            _, mark, text = cells[0].rpartition(making.mark)
            if not mark or not text.strip():
                raise ValueError(f"a text with '{making.mark}' before its answer", describe(cells[0]))
            return str(text).strip().replace(",", "")
        case Joined():
            return f"{cells[0].strip()} {cells[1].strip()}"
        case _:
            marks = _MARKED.findall(cells[0])
            if len(marks) != 1:
                raise ValueError("a text with one mark <word/>", f"{len(marks)} in {describe(cells[0])}")
            word = cells[1].strip() if isinstance(making, Filled) else marks[0]
            return str(_MARKED.sub(lambda _: word, cells[0]))
