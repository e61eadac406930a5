"""File formats read row by row, and cells made plain.

Every reader yields data frames of object columns; `tables.py` puts them together.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from predgen.errors import DataError, explain

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
ROWS_PER_CHUNK = 2048
# A quote that is left open is found here at the latest, not at the end of a large file.
CSV_FIELD_LETTERS = 1 << 22


def frames_of(path: Path) -> Iterator[pd.DataFrame]:
    """Returns a file's rows in data frames of any size.

    Raises:
        DataError: while reading, at the first fault.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        return _csv_frames(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    return _parquet_frames(path) if path.suffix.lower() == ".parquet" else _jsonl_frames(path)


def _csv_frames(path: Path, delimiter: str) -> Iterator[pd.DataFrame]:
    # The limit is the process's; it is only ever raised, as other threads may be reading too.
    csv.field_size_limit(max(csv.field_size_limit(), CSV_FIELD_LETTERS))
    # Bytes that are not UTF-8 become half surrogates, so that their row and column can be told.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = _csv_header(reader, path)
        rows = _csv_rows(reader, header, path, delimiter)
        while chunk := list(islice(rows, ROWS_PER_CHUNK)):
            yield pd.DataFrame(dict(zip(header, zip(*chunk, strict=True), strict=True)), dtype=object)


def _csv_header(reader: Iterator[list[str]], path: Path) -> list[str]:
    """Returns the names of the columns, from the first line that is not empty."""
    try:
        header = next(filter(None, reader), [])
    except csv.Error as error:
        raise DataError(
            f"Expected a header of column names in '{path}', found a mistake: {error}. Perhaps a quote is not closed."
        ) from error
    if not _is_utf8(header) or any("\0" in name for name in header):  # every other byte of UTF-16 is NUL
        raise DataError(
            explain(expected=f"text in UTF-8 in '{path}'", found="other bytes in its header", fix="Convert the file.")
        )
    if not any(header):
        raise DataError(explain(expected="a header and rows", found=f"an empty file '{path}'", fix="Check the file."))
    refuse_double_columns(header)
    return header


def _csv_rows(reader: Iterator[list[str]], header: list[str], path: Path, delimiter: str) -> Iterator[list[str]]:
    """Yields the rows after the header, without empty lines; errors count them from 1."""
    number = 0
    try:
        for row in reader:
            if not row:
                continue
            number += 1
            if len(row) != len(header) or not _is_utf8(row):
                raise _broken_row(row, number, header, path, delimiter)
            yield row
    except csv.Error as error:
        raise _csv_error(error, number + 1, path, delimiter) from error
    if not number:
        raise DataError(explain(expected="at least one row", found=f"a header only in '{path}'", fix="Check the file."))


def _is_utf8(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken_row(row: list[str], number: int, header: list[str], path: Path, delimiter: str) -> DataError:
    if len(row) != len(header):
        quote = " Perhaps a quote in it is not closed." if any("\n" in cell or "\r" in cell for cell in row) else ""
        return DataError(
            f"Expected {len(header)} fields in row {number} of '{path}', found {len(row)}: "
            f"{delimiter.join(row)[:80]!r}.{quote} Correct the row; a field that holds the delimiter or a line break "
            "needs quotes."
        )
    column = next(name for name, cell in zip(header, row, strict=True) if not _is_utf8([cell]))
    return DataError(
        explain(
            expected=f"text in UTF-8 in '{path}'",
            found="other bytes",
            fix="Convert the file to UTF-8.",
            row=number,
            column=column,
        )
    )


def _csv_error(error: csv.Error, number: int, path: Path, delimiter: str) -> DataError:
    """Returns an error message for a row that the reader refused."""
    if "end of data" in str(error):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            *_, row = csv.reader(file, delimiter=delimiter)  # not strict, it gives the field as far as it goes
        return DataError(
            f"Expected the quote in row {number} of '{path}' to be closed, found the end of the file in a field that "
            f"begins with {row[-1][:60]!r}. Close the quote, or double a quote that belongs to the text."
        )
    if "field limit" in str(error):
        return DataError(
            f"Expected fields of at most {csv.field_size_limit()} letters in '{path}', found a longer one after row "
            f"{number - 1}. Perhaps a quote is not closed there; otherwise shorten the field, or use JSONL."
        )
    return DataError(
        f"Expected a quote in row {number} of '{path}' to enclose a whole field, found text after it ({error}). Close "
        "the field with its quote, and double a quote that belongs to the text."
    )


def _jsonl_frames(path: Path) -> Iterator[pd.DataFrame]:
    """Reads the file twice, so that every data frame has the columns of all rows."""
    names: dict[str, None] = {}
    for row in _json_rows(path):
        names |= dict.fromkeys(row)
    rows = _json_rows(path)
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield from_rows(chunk, names)


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
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


def _json_row(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = _first_double([name for name, _ in pairs])
        if twice is not None:
            raise ValueError(f"the key '{twice}' twice")
        return dict(pairs)

    row = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__}")
    if rb"\ud" in text.lower():  # half of a surrogate pair is no text that could be written again
        json.dumps(row, ensure_ascii=False).encode()
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


def refuse_double_columns(names: Sequence[str]) -> None:
    """Refuses two columns of one name.

    Raises:
        DataError: with the name.
    """
    twice = _first_double(names)
    if twice is not None:
        raise DataError(explain(expected="every column name once", found=f"'{twice}' twice", fix="Rename one of them."))


def _first_double(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def is_nan(cell: object) -> bool:
    """Returns whether a cell is the float NaN."""
    return isinstance(cell, float) and cell != cell
