"""File formats read row by row, and cells made plain.

Every reader yields data frames of object columns; `tables.py` puts them together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from predgen.errors import DataError, explain
from predgen.tables.delimited import ROWS_PER_CHUNK, delimited_frames
from predgen.tables.files import first_double, half_letter, is_utf8, open_bytes, refuse_double_columns, table_suffix


def frames_of(path: Path) -> Iterator[pd.DataFrame]:
    """Returns a file's rows in data frames of any size.

    Raises:
        DataError: while reading, at the first fault.
    """
    suffix = table_suffix(path)
    if suffix in (".csv", ".tsv"):
        return delimited_frames(path, suffix)
    return _parquet_frames(path) if suffix == ".parquet" else _jsonl_frames(path)


def _jsonl_frames(path: Path) -> Iterator[pd.DataFrame]:
    """Reads the file twice, so that every data frame has the columns of all rows."""
    names: dict[str, None] = {}
    for row in _json_rows(path):
        names |= dict.fromkeys(row)
    rows = _json_rows(path)
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield from_rows(chunk, names)


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with open_bytes(path) as file:
        if _begins_array(file):
            yield from _array_rows(file.read(), path)
            return
        for number, line in enumerate(file, start=1):
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if not text:
                continue
            try:
                row = _json_row(text)
            except (ValueError, RecursionError) as error:
                shown = text[:60].decode(errors="replace")
                raise DataError(
                    f"Expected one JSON object in line {number} of '{path}', found {_json_fault(error)}: {shown!r}. "
                    "Correct the line; each row is one object in one line, in UTF-8."
                ) from error
            yield row


def _begins_array(file: BufferedIOBase) -> bool:
    """Returns whether a file holds one JSON array; the file stands at its beginning again."""
    begin = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return begin.startswith(b"[")


def _array_rows(text: bytes, path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of one JSON array."""
    expected = f"Expected one JSON array of objects in '{path}'"
    try:
        rows = _parsed(text.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{expected}, for it begins with [, found {_json_fault(error)}. Correct it, or write one object in each "
            "line."
        ) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(
                f"{expected}, found a {type(row).__name__} as its item {number}. Give each row as an object of its "
                "columns."
            )
        yield row


def _parsed(text: bytes) -> Any:
    """Returns what a JSON text holds.

    Raises:
        ValueError: it is none, a key stands in an object twice, or half of a surrogate pair is in it.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = first_double([name for name, _ in pairs])
        if twice is not None:
            raise ValueError(f"the key '{twice}' twice")
        return dict(pairs)

    parsed = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    if rb"\ud" in text.lower():  # half of a surrogate pair is no text that could be written again
        json.dumps(parsed, ensure_ascii=False).encode()
    return parsed


def _json_row(text: bytes) -> dict[str, Any]:
    row = _parsed(text)
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__}")
    return row


def _json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"a mistake at character {error.pos + 1} ({error.msg})"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8 (byte {error.start + 1})"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    if isinstance(error, RecursionError):
        return "too deep a nesting"
    return "a number of too many digits" if "integer string conversion" in str(error) else str(error)


def _parquet_frames(path: Path) -> Iterator[pd.DataFrame]:
    try:
        file = pa_parquet.ParquetFile(path)
        refuse_double_columns(file.schema_arrow.names)
        for batch in file.iter_batches(ROWS_PER_CHUNK):
            yield from_columns(batch.to_pydict())
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"Expected a Parquet file at '{path}', found damage ({str(error).rstrip('.')}). Copy it again."
        ) from error


def from_rows(rows: Sequence[Mapping[str, Any]], names: Mapping[str, None]) -> pd.DataFrame:
    """Returns the table of some rows; a row's missing columns become None."""
    return from_columns({name: [row.get(name) for row in rows] for name in names})


def from_columns(columns: Mapping[Any, Any]) -> pd.DataFrame:
    """Returns the table of some columns, their cells made plain."""
    refuse_double_columns([str(name) for name in columns])
    plain: dict[str, list[Any]] = {}
    for name, cells in columns.items():
        if isinstance(cells, str | bytes | Mapping) or not hasattr(cells, "__iter__"):
            raise DataError(
                explain(
                    expected="a list of cells",
                    found=type(cells).__name__,
                    fix="For a single row, put it into a list: [{…}].",
                    column=str(name),
                )
            )
        plain[str(name)] = [_cell(cell) for cell in cells]
    lengths = {name: len(cells) for name, cells in plain.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            explain(expected="columns of one length", found=f"lengths {lengths}", fix="Give each row all its cells.")
        )
    return pd.DataFrame(plain, dtype=object)


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a data frame with object columns of plain cells and the same index."""
    names = [str(name) for name in frame.columns]
    refuse_double_columns(names)
    cells = {name: [_cell(cell) for cell in frame.iloc[:, position]] for position, name in enumerate(names)}
    return pd.DataFrame(cells, dtype=object, index=frame.index)


def _cell(value: Any) -> Any:
    """Returns a cell as text, whole number, float, boolean or None."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if hasattr(value, "tolist"):  # numpy, torch
        return _cell(value.tolist())
    if isinstance(value, dict | list | tuple | set):
        return json.dumps(_nested(value), ensure_ascii=False)
    if value is pd.NaT or value is pd.NA:
        return None
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _nested(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _nested(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return _nested(value.tolist())
    return [_nested(item) for item in value] if isinstance(value, list | tuple | set) else _cell(value)


def refuse_half_letters(table: pd.DataFrame) -> None:
    """Refuses halves of surrogate pairs, which are no text: no file could hold them, and no tokenizer reads them.

    Raises:
        DataError: with row and column.
    """
    for position, name in enumerate(map(str, table.columns)):
        cells = [cell for cell in table.iloc[:, position] if isinstance(cell, str)]
        if is_utf8(cells):
            continue
        every = table.iloc[:, position]
        row = next(row for row, cell in enumerate(every, start=1) if isinstance(cell, str) and not is_utf8([cell]))
        raise half_letter(row=row, column=name)


def is_nan(cell: object) -> bool:
    """Returns whether a cell is the float NaN."""
    return isinstance(cell, float) and cell != cell
