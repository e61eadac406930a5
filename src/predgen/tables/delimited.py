"""CSV and TSV: which sign stands between the cells, whether quotes enclose them, and one clear error for a broken row.

A TSV file has no quotes unless it is seen to use them: in texts separated by tabs a quote is a letter like any other.
"""

import csv
import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd

from predgen.errors import DataError, explain
from predgen.tables.files import is_utf8, open_text, refuse_double_columns
from predgen.warning_kinds import OpenQuoteWarning, warn

log = logging.getLogger("predgen")

ROWS_PER_CHUNK = 2048
# A quote that is left open is found here at the latest, not at the end of a large file.
CSV_FIELD_LETTERS = 1 << 22
# Signs between the cells of files whose name says CSV, where their header has no comma.
OTHER_DELIMITERS = (";", "\t")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def delimited_frames(path: Path, suffix: str) -> Iterator[pd.DataFrame]:
    """Returns the rows of a CSV or TSV file in data frames.

    Args:
        path: the file.
        suffix: `.csv` or `.tsv`.

    Raises:
        DataError: while reading, at the first fault.
    """
    # The limit is the process's; it is only ever raised, as other threads may be reading too.
    csv.field_size_limit(max(csv.field_size_limit(), CSV_FIELD_LETTERS))
    delimiter = "\t" if suffix == ".tsv" else _delimiter_of(path)
    has_quotes = suffix == ".csv" or _uses_quotes(path, delimiter)
    with open_text(path) as file:
        reader = csv.reader(
            file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE, strict=True
        )
        header = _csv_header(reader, path)
        rows = _csv_rows(reader, header, path, delimiter)
        while chunk := list(islice(rows, ROWS_PER_CHUNK)):
            yield pd.DataFrame(dict(zip(header, zip(*chunk, strict=True), strict=True)), dtype=object)


def _delimiter_of(path: Path) -> str:
    """Returns a comma, or what the header has in its place."""
    with open_text(path) as file:
        header = next((line for line in iter(partial(file.readline, CSV_FIELD_LETTERS), "") if line.strip()), "")
    bare = _QUOTED.sub("", header)
    found = [delimiter for delimiter in OTHER_DELIMITERS if delimiter in bare]
    if "," in bare or not found:
        return ","
    log.info("Cells: '%s' has %s between them, not commas", path, "tabs" if found[0] == "\t" else found[0])
    return found[0]


def _uses_quotes(path: Path, delimiter: str) -> bool:
    """Returns whether quotes enclose cells of a file whose kind has none by itself.

    They do where the rows fit the header with quotes alone; or both ways, and each name of the header is quoted, or one
    is quoted and goes on in the next line, or a quoted cell doubles the quotes in it.
    """
    with open_text(path) as file:
        plain = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        try:
            header = next(filter(None, plain), [])
            has_quotes = any('"' in name for name in header)
            goes_on = bool(header) and header[-1].startswith('"') and not _is_quoted(header[-1])
            evident = goes_on or (bool(header) and all(map(_is_quoted, header)))
            fits = True
            for row in filter(None, plain):
                fits = fits and len(row) == len(header)
                for cell in row:
                    has_quotes = has_quotes or '"' in cell
                    evident = evident or (_is_quoted(cell) and '""' in cell[1:-1])
        except csv.Error:
            return False  # which the reading tells of
    return has_quotes and (evident or not fits) and _fits_with_quotes(path, delimiter)


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _fits_with_quotes(path: Path, delimiter: str) -> bool:
    """Returns whether all rows are as long as the header where quotes enclose cells."""
    with open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(filter(None, reader), [])
            return all(len(row) == len(header) for row in filter(None, reader))
        except csv.Error:
            return False


def _csv_header(reader: Iterator[list[str]], path: Path) -> list[str]:
    """Returns the names of the columns, from the first line that is not empty."""
    try:
        header = next(filter(None, reader), [])
    except csv.Error as error:
        raise DataError(
            f"Expected a header of column names in '{path}', found a mistake: {error}. Perhaps a quote is not closed."
        ) from error
    if not is_utf8(header) or any("\0" in name for name in header):  # every other byte of UTF-16 is NUL
        raise DataError(
            explain(expected=f"text in UTF-8 in '{path}'", found="other bytes in its header", fix="Convert the file.")
        )
    if not any(header):
        raise DataError(explain(expected="a header and rows", found=f"an empty file '{path}'", fix="Check the file."))
    refuse_double_columns(header)
    return header


def _csv_rows(reader: Iterator[list[str]], header: list[str], path: Path, delimiter: str) -> Iterator[list[str]]:
    """Yields the rows after the header, without empty lines; errors count them from 1."""
    number, warned = 0, False
    try:
        for row in reader:
            if not row:
                continue
            number += 1
            if len(row) != len(header) or not is_utf8(row):
                raise _broken_row(row, number, header, path, delimiter)
            if not warned and any("\n" in cell for cell in row) and _looks_like_rows(row, delimiter):
                warned = True
                warn(
                    OpenQuoteWarning(
                        f"Row {number} of '{path}' holds a line break inside quotes, and each of its lines looks like "
                        "a row of its own. If a quote was left open there, double it."
                    )
                )
            yield row
    except csv.Error as error:
        raise _csv_error(error, number + 1, path, delimiter) from error
    if not number:
        raise DataError(explain(expected="at least one row", found=f"a header only in '{path}'", fix="Check the file."))


def _looks_like_rows(row: Sequence[str], delimiter: str) -> bool:
    """Returns whether each line of a row has as many cells as the row."""
    lines = delimiter.join(row).splitlines()
    return len(row) > 1 and len(lines) > 1 and all(line.count(delimiter) == len(row) - 1 for line in lines)


def _broken_row(row: list[str], number: int, header: list[str], path: Path, delimiter: str) -> DataError:
    if len(row) != len(header):
        quote = " Perhaps a quote in it is not closed." if any("\n" in cell or "\r" in cell for cell in row) else ""
        return DataError(
            f"Expected {len(header)} fields in row {number} of '{path}', found {len(row)}: "
            f"{delimiter.join(row)[:80]!r}.{quote} Correct the row; a field that holds the delimiter or a line break "
            "needs quotes."
        )
    column = next(name for name, cell in zip(header, row, strict=True) if not is_utf8([cell]))
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
        with open_text(path, errors="replace") as file:
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
