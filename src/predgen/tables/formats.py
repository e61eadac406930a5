"""File formats read row by row, and cells made plain.

Every reader yields data frames of object columns; `tables.py` puts them together.
"""

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from predgen.errors import DataError, explain

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
ROWS_PER_CHUNK = 2048
# A row must fit into a block.
CSV_BLOCK_BYTES = 1 << 22


def frames_of(path: Path) -> Iterator[pd.DataFrame]:
    """Returns a file's rows in frames of any size.

    Raises:
        DataError: while reading, at the first fault.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        return _csv_frames(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    return _parquet_frames(path) if path.suffix.lower() == ".parquet" else _jsonl_frames(path)


def _csv_frames(path: Path, delimiter: str) -> Iterator[pd.DataFrame]:
    header, num_blank = _csv_header(path, delimiter)
    num_rows, last = 0, ""
    try:
        reader = pa_csv.open_csv(
            path,
            # Without threads pyarrow knows the broken row's number.
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=CSV_BLOCK_BYTES,
                column_names=header,
                skip_rows=num_blank,
                skip_rows_after_names=1,
            ),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False, check_utf8=True
            ),
        )
        for batch in reader:
            if batch.num_rows:
                num_rows += batch.num_rows
                last = batch.column(batch.num_columns - 1)[-1].as_py()
                for first in range(0, batch.num_rows, ROWS_PER_CHUNK):  # a block can hold many thousand rows
                    yield pd.DataFrame(batch.slice(first, ROWS_PER_CHUNK).to_pydict(), dtype=object)
    except pa.ArrowInvalid as error:
        raise _csv_error(path, error, header, num_rows, num_blank + 1) from error
    if num_rows and _ends_inside_quotes(path, last, delimiter):
        raise DataError(
            f"Expected the quote in row {num_rows} of '{path}' to be closed, found the end of the file in a field that "
            f"begins with {last[:60]!r}. Close the quote, or double a quote that belongs to the text."
        )


# A handler for invalid rows would know them too, but pyarrow's threads give it back at exit and abort the process.
_BROKEN_ROW = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


def _csv_error(path: Path, error: Exception, header: list[str], num_rows: int, num_skipped: int) -> DataError:
    """Returns what pyarrow means, with rows counted from 1, without the header and empty lines."""
    broken = _BROKEN_ROW.search(str(error))
    if broken:
        row, expected, found, text = int(broken[1]) - num_skipped, broken[2], broken[3], broken[4]
        quote = " Perhaps a quote in it is not closed." if text.count('"') % 2 else ""
        return DataError(
            f"Expected {expected} fields in row {row} of '{path}', found {found}: {text[:80]!r}.{quote} Correct the "
            "row; a field that holds the delimiter or a line break needs quotes."
        )
    place = re.search(r"column #(\d+): Row #(\d+): .*invalid UTF8", str(error))
    if place:
        return DataError(
            explain(
                expected=f"text in UTF-8 in '{path}'",
                found="other bytes",
                fix="Convert the file to UTF-8.",
                row=int(place[2]) - num_skipped,
                column=header[int(place[1])],
            )
        )
    if "straddling" in str(error):
        return DataError(
            f"Expected rows of at most {CSV_BLOCK_BYTES >> 20} MiB in '{path}', found a longer one after row "
            f"{num_rows}. Perhaps a quote is not closed there; otherwise shorten the row, or use JSONL."
        )
    return DataError(f"Expected a readable table in '{path}', found a mistake: {error}. Correct the file.")


def _ends_inside_quotes(path: Path, last: str, delimiter: str) -> bool:
    """Returns whether a file ends before the quote of its last field is closed; pyarrow takes that silently.

    Such a file ends with the field as it was read, right after a quote that opens it. A closed field ends with its
    own quote instead, and an unquoted one has no quote before it.
    """
    ending = b'"' + last.replace('"', '""').encode()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(ending) - 1))
        tail = file.read()
    return tail.endswith(ending) and tail[: -len(ending)] in {delimiter.encode(), b"\n", b"\r"}


def _csv_header(path: Path, delimiter: str) -> tuple[list[str], int]:
    """Returns the names of the columns, and how many empty lines stand before them."""
    header: list[str] = []
    num_blank = 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for header in csv.reader(file, delimiter=delimiter):
                if header:
                    break
                num_blank += 1
            has_rows = any(line.strip("\r\n") for line in file)
        "".join(header).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            explain(expected=f"text in UTF-8 in '{path}'", found="other bytes in its header", fix="Convert the file.")
        ) from error
    except csv.Error as error:
        raise DataError(
            f"Expected a header of column names in '{path}', found a mistake: {error}. Perhaps a quote is not closed."
        ) from error
    if not any(header):
        raise DataError(explain(expected="a header and rows", found=f"an empty file '{path}'", fix="Check the file."))
    refuse_double_columns(header)
    if not has_rows:
        raise DataError(explain(expected="at least one row", found=f"a header only in '{path}'", fix="Check the file."))
    return header, num_blank


def _jsonl_frames(path: Path) -> Iterator[pd.DataFrame]:
    """Reads twice, so that every frame has the columns of all rows."""
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
        return {str(name): _nested(one) for name, one in value.items()}
    if hasattr(value, "tolist"):
        return _nested(value.tolist())
    return [_nested(one) for one in value] if isinstance(value, list | tuple | set) else _cell(value)


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
