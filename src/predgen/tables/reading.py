"""Tables: read whole, read in chunks, written whole or not at all.

A table is a pandas data frame of object columns whose index counts its source's rows from 0 (a data frame in memory
keeps its own). Cells are text, whole numbers, floats, booleans or None. CSV and TSV cells are text exactly as in the
file; JSONL and Parquet cells keep their types; nested values become JSON text, and dates, decimals and bytes text.
"""

import difflib
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from predgen.errors import DataError, explain, unknown_name
from predgen.tables.delimited import ROWS_PER_CHUNK
from predgen.tables.files import SUFFIXES, table_suffix
from predgen.tables.formats import frames_of, from_columns, from_rows, plain_frame, refuse_half_letters

TableLike = Any  # a path, a data frame, rows as mappings, columns as a mapping, or a datasets.Dataset


def require_columns(table: pd.DataFrame, names: Sequence[str], what: str = "table") -> None:
    """Refuses a table that lacks a column.

    Args:
        table: the table.
        names: the columns that it must have.
        what: how a message calls the table.

    Raises:
        UnknownNameError: a column is missing; the closest existing name is suggested.
    """
    for name in names:
        if name not in table.columns:
            kind = "column" if what == "table" else f"column of the {what}"
            raise unknown_name(kind, name, [str(column) for column in table.columns])


def row_numbers(table: pd.DataFrame) -> list[int]:
    """Returns the rows' numbers in their source, counted from 1 without the header.

    An index that is no count of rows gives their positions in the table.
    """
    counts = pd.api.types.is_integer_dtype(table.index)
    return [int(row) + 1 for row in (table.index if counts else range(len(table)))]


def read_table(source: TableLike) -> pd.DataFrame:
    """Returns a table from a path or from rows in memory.

    Args:
        source: a CSV, TSV, JSONL, JSON or Parquet file, texts also compressed (.gz); a data frame; a list of rows; a
            mapping of columns; a `datasets.Dataset`.

    Raises:
        DataError: the source is missing, empty or broken; the message names the row.
    """
    if isinstance(source, str | Path):
        frames = list(stream_table(source))
        table = pd.concat(frames) if len(frames) > 1 else frames[0]
    else:
        table = _table_in_memory(source)
        refuse_half_letters(table)
    if table.empty:
        raise DataError(
            explain(expected="at least one row and one column", found="none", fix="Check where the rows come from.")
        )
    return table


def stream_table(path: str | Path, rows_per_chunk: int = ROWS_PER_CHUNK) -> Iterator[pd.DataFrame]:
    """Yields a file's rows in chunks of one size and one set of columns; their index goes on, and memory stays flat.

    Raises:
        DataError: the file is missing, empty or broken; the message names the row.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise DataError(
            explain(expected="a table file", found=f"the folder '{path}'", fix="Name one of the files in it.")
        )
    if table_suffix(path) is None:
        raise DataError(
            explain(
                expected=f"a file of {', '.join(SUFFIXES)} (texts also as .gz)",
                found=f"'{path.name}'",
                fix=f"Convert or rename it.{close_file(path)}",
            )
        )
    if not path.is_file():
        raise DataError(explain(expected="a file", found=f"none at '{path}'", fix=f"Check the path.{close_file(path)}"))
    first = 0
    try:
        for frame in _rechunk(frames_of(path), rows_per_chunk):
            frame.index = pd.RangeIndex(first, first + len(frame))
            first += len(frame)
            yield frame
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"Expected a whole compressed file at '{path}', found damage ({str(error).rstrip('.')}). Copy it again."
        ) from error
    except OSError as error:
        raise DataError(
            explain(expected=f"a file that can be read at '{path}'", found=str(error.strerror), fix="Check its rights.")
        ) from error
    if not first:
        raise DataError(explain(expected="at least one row", found=f"none in '{path}'", fix="Check the file."))


def close_file(path: Path) -> str:
    """Returns a hint at a file of nearly the same name in the same folder, or at the tables there, or nothing."""
    try:
        there = sorted(sibling.name for sibling in path.parent.iterdir())
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, there, n=1, cutoff=0.7)
    if close and close[0] != path.name:
        return f" Did you mean '{path.parent / close[0]}'?"
    tables = [name for name in there if table_suffix(name) is not None]
    return f" Tables there: {', '.join(tables[:5])}." if tables else ""


def _table_in_memory(source: Any) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return plain_frame(source)
    if hasattr(source, "column_names") and hasattr(source, "to_dict"):  # datasets.Dataset; its to_pandas loses whole
        return from_columns(source.to_dict())  # numbers beside missing cells
    if hasattr(source, "to_pylist"):  # pyarrow.Table
        return from_columns(source.to_pydict())
    if hasattr(source, "to_pandas"):
        return plain_frame(source.to_pandas())
    if isinstance(source, Mapping):
        return from_columns(source)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        for number, row in enumerate(source, start=1):
            if not isinstance(row, Mapping):
                raise DataError(
                    explain(
                        expected="a mapping from columns to cells",
                        found=type(row).__name__,
                        fix="Give rows such as {'text': 'some words'}.",
                        row=number,
                    )
                )
        return from_rows(source, dict.fromkeys(name for row in source for name in row))
    raise DataError(
        explain(
            expected="a path, a data frame, rows or columns",
            found=type(source).__name__,
            fix="Hand over one of these.",
        )
    )


def _rechunk(frames: Iterator[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    """Yields the same rows in data frames of one size."""
    waiting: list[pd.DataFrame] = []
    count = 0
    for frame in frames:
        waiting.append(frame)
        count += len(frame)
        if count >= rows:
            joined = pd.concat(waiting, ignore_index=True)
            whole = len(joined) - len(joined) % rows
            for start in range(0, whole, rows):
                yield joined.iloc[start : start + rows].copy()
            waiting = [joined.iloc[whole:]]
            count = len(joined) - whole
    if count:
        yield pd.concat(waiting, ignore_index=True)
