"""Tables written chunk by chunk, whole or not at all."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from predgen.errors import ConfigError, DataError, OutputExistsError, explain
from predgen.files import new_beside, put
from predgen.tables.delimited import OTHER_DELIMITERS, ROWS_PER_CHUNK
from predgen.tables.formats import is_nan, plain_frame

# What a cell of a TSV file cannot hold without quotes.
_TSV_SIGNS = frozenset('\t\n\r"')
OUTPUT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


class TableWriter:
    """Writes data frames to a table file, under a temporary name until all went well.

    What stands at the path stays as it was if anything fails, an interruption included. In Parquet a column's type
    is the narrowest that holds all its cells, so far written or new; a column of several kinds becomes text.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        overwrite: replace a file that is there.

    Raises:
        OutputExistsError: the file exists and was not to be overwritten, when the work begins or when it ends.
        ConfigError: the suffix is none of these, or the path is a folder.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.suffix = self.path.suffix.lower()
        if self.suffix not in OUTPUT_SUFFIXES or self.path.is_dir():
            given = f"the folder '{self.path}'" if self.path.is_dir() else f"'{self.path.name}'"
            raise ConfigError(
                f"Expected an output file of {', '.join(OUTPUT_SUFFIXES)}, found {given}. Name another file."
            )
        if self.path.exists() and not overwrite:
            raise OutputExistsError(f"Expected a new file, found '{self.path}'. Name another, or use --overwrite.")
        self._overwrite = overwrite
        self._temporary: Path | None = None
        self._file: IO[str] | None = None
        self._parquet: pa_parquet.ParquetWriter | None = None
        self._columns: list[str] | None = None
        self._wide: set[str] = set()  # columns with whole numbers that floats do not hold
        self._quoted = False

    def __enter__(self) -> "TableWriter":
        try:
            self._temporary = new_beside(self.path)
        except OSError as error:
            raise ConfigError(
                f"Expected to write '{self.path}', but its folder refuses: {error.strerror}. Name another file."
            ) from error
        if self.suffix != ".parquet":
            self._file = self._temporary.open("w", encoding="utf-8", newline="")
        return self

    def write(self, frame: pd.DataFrame) -> None:
        """Adds rows.

        Raises:
            DataError: the frame's columns are not those of the first one.
        """
        frame = plain_frame(frame)
        names = list(frame.columns)
        if self._columns is not None and names != self._columns:
            raise DataError(
                f"Expected the columns {', '.join(self._columns)} as in the rows before, found {', '.join(names)}. "
                "Give all rows the same columns."
            )
        if self.suffix == ".parquet":
            self._write_parquet(frame)
        elif self.suffix == ".jsonl":
            assert self._file is not None
            for row in frame.to_dict("records"):
                plain = {name: None if is_nan(cell) else cell for name, cell in row.items()}
                self._file.write(json.dumps(plain, ensure_ascii=False) + "\n")
        else:
            self._write_delimited(frame)
        self._columns = names

    def _write_delimited(self, frame: pd.DataFrame) -> None:
        """Writes CSV with quotes where they are needed, and TSV with quotes around all cells or around none."""
        texts = [cell for cell in [*frame.columns, *frame.to_numpy().ravel()] if isinstance(cell, str)]
        # Python below 3.13 leaves a lone carriage return unquoted, and readers take it as the row's end.
        quotes_all = any("\r" in text for text in texts)
        # A header without a comma and with one of these would be read as one that they part.
        quotes_all = quotes_all or any(sign in str(name) for name in frame.columns for sign in OTHER_DELIMITERS)
        if self.suffix == ".tsv":
            quotes_all = len(frame.columns) == 1 or any(not _TSV_SIGNS.isdisjoint(text) for text in texts)
            if quotes_all and not self._quoted and self._columns is not None:
                self._quote_rows()
            self._quoted = quotes_all = quotes_all or self._quoted
        frame.to_csv(
            self._file,
            sep="\t" if self.suffix == ".tsv" else ",",
            index=False,
            header=self._columns is None,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if quotes_all else csv.QUOTE_MINIMAL,
        )

    def _quote_rows(self) -> None:
        """Writes the rows of a TSV file so far once more, with quotes around all cells."""
        assert self._file is not None
        assert self._temporary is not None
        self._file.close()
        before, self._temporary = self._temporary, new_beside(self.path)
        try:
            self._file = self._temporary.open("w", encoding="utf-8", newline="")
            writer = csv.writer(self._file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
            with before.open(encoding="utf-8", newline="") as file:
                writer.writerows(line.removesuffix("\n").split("\t") for line in file)
        finally:
            before.unlink(missing_ok=True)

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        schema = pa.schema([(name, _arrow_type(frame[name])) for name in frame.columns])
        if self._parquet is None:
            self._parquet = pa_parquet.ParquetWriter(self._temporary, schema)
        before = self._parquet.schema
        self._wide |= {name for name in frame.columns if not all(map(_fits_a_float, frame[name]))}
        types = {one.name: _common_type(one.type, schema.field(one.name).type) for one in before}
        floats = {name for name, found in types.items() if found == pa.float64()}
        common = pa.schema(types | dict.fromkeys(floats & self._wide, pa.string()))
        if common != before:
            self._rewrite_parquet(common)
        self._parquet.write_table(_arrow_table({name: frame[name].tolist() for name in frame.columns}, common))

    def _rewrite_parquet(self, schema: pa.Schema) -> None:
        """Writes the rows so far once more, with column types that hold the next data frame, too."""
        assert self._parquet is not None
        assert self._temporary is not None
        self._parquet.close()
        before, self._temporary = self._temporary, new_beside(self.path)
        try:
            self._parquet = pa_parquet.ParquetWriter(self._temporary, schema)
            with pa_parquet.ParquetFile(before) as file:
                for batch in file.iter_batches(ROWS_PER_CHUNK):
                    self._parquet.write_table(_arrow_table(batch.to_pydict(), schema))
        finally:
            before.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._temporary is not None
        try:
            if self._file is not None:
                self._file.close()
            if self._parquet is not None:
                self._parquet.close()
            if kind is None:
                if self._columns is None:
                    raise DataError(
                        explain(expected="rows to write", found=f"none for '{self.path}'", fix="Check the input.")
                    )
                put(self._temporary, self.path, replace=self._overwrite)
        finally:
            self._temporary.unlink(missing_ok=True)


def _arrow_type(cells: pd.Series) -> pa.DataType:
    """Returns the narrowest type that holds a column's cells."""
    there = [cell for cell in cells if cell is not None and not is_nan(cell)]
    kinds = {type(cell) for cell in there}
    if not kinds:
        return pa.null()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(-(2**63) <= cell < 2**63 for cell in there):
        return pa.int64()
    exact = kinds <= {int, float} and all(map(_fits_a_float, there))
    return pa.float64() if exact and float in kinds else pa.string()


def _fits_a_float(cell: Any) -> bool:
    return type(cell) is not int or abs(cell) <= 2**53


def _unchanged(cell: Any) -> Any:
    return cell


def _common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    return pa.float64() if {first, second} == {pa.int64(), pa.float64()} else pa.string()


def _arrow_table(columns: Mapping[str, list[Any]], schema: pa.Schema) -> pa.Table:
    converters: dict[pa.DataType, Callable[[Any], Any]] = {pa.string(): str, pa.float64(): float}
    arrays = []
    for field in schema:
        convert = converters.get(field.type, _unchanged)
        cells = [None if cell is None or is_nan(cell) else convert(cell) for cell in columns[field.name]]
        arrays.append(pa.array(cells, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
