"""Tables of every form that predgen reads, with odd cells, odd names, ragged rows and damaged bytes."""

import contextlib
import csv
import gzip
import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from predgen.codec.codec import Codec
from predgen.config import build_config
from predgen.models.asked import Asked
from predgen.models.model import Model
from predgen.models.streaming import predict_file
from predgen.tables.reading import read_table
from predgen.tables.saving import TableWriter
from predgen.training.preparing import prepare
from scripts.checks.fuzzing import odd
from scripts.checks.fuzzing.law import ANSWERED, check_answers, hold
from scripts.checks.fuzzing.world import MODELS, rows, world

TYPED = ("rows", "frame", "columns", "arrow", "dataset", ".jsonl", ".json", ".jsonl.gz", ".parquet")
FORMS = (*TYPED, ".csv", ".csv.gz", ".tsv", "folder")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "utf-32")
ACTIONS = ("read", "save", "prepare", "predict", "evaluate", "calibrate", "stream")


@dataclass(frozen=True)
class Drawn:
    """A table, how it is stored, and what it is used for.

    Attributes:
        form: how it is stored.
        names: of its columns.
        cells: its rows, which may be ragged.
        delimiter: between the cells of CSV.
        quoting: of CSV and TSV, as the module csv says it; None joins the cells as they are.
        line_end: of texts.
        encoding: of texts.
        damage: what is done to the bytes: where, as a share of them, how many go, and what comes.
        action: what it is used for.
        of: the fitted model, or the target.
        kind: what the target is declared as.
        inputs: the input columns; None for those that are inferred.
    """

    form: str
    names: tuple[str, ...]
    cells: tuple[tuple[Any, ...], ...]
    delimiter: str
    quoting: int | None
    line_end: str
    encoding: str
    damage: tuple[tuple[float, int, bytes], ...]
    action: str
    of: str
    kind: str | None
    inputs: tuple[str, ...] | None

    @property
    def whole(self) -> bool:
        """Whether the number of its rows is known."""
        return not self.damage and self.form in TYPED

    @property
    def mappings(self) -> list[dict[str, Any]]:
        """The rows as mappings; a ragged row lacks its last columns."""
        return [dict(zip(self.names, row, strict=False)) for row in self.cells]


def tables() -> tuple[st.SearchStrategy[Drawn], Callable[[Drawn], str]]:
    """Returns what draws tables, and what tries one."""
    return drawn_tables(), tried


@st.composite
def drawn_tables(draw: st.DrawFn) -> Drawn:
    """Draws a table that was right, and what was changed of it."""
    form = draw(st.sampled_from(FORMS))
    action = draw(st.sampled_from(("read", "save", "prepare", "read", "save", "prepare", "prepare", *ACTIONS)))
    base = rows(draw(st.integers(1, 16)), seed=draw(st.integers(0, 3)))
    names, cells = list(base.columns), [list(row) for row in base.itertuples(index=False)]
    odd_cell = odd.plain_cells() if form.startswith(".") or form == "folder" else odd.cells_in_memory()
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3)))):
        _change(draw, names, cells, odd_cell)
    is_file = form.startswith(".") or form == "folder"
    damage: list[tuple[float, int, bytes]] = []
    if is_file and draw(st.integers(0, 7)) == 0:
        damage = draw(st.lists(st.tuples(st.floats(0, 1), st.sampled_from((0, 1, 5, 10**6)), odd_bytes()), max_size=2))
    target = draw(st.sampled_from(("mood", "stars", "tags", "mood,stars", *(name for name in names if name))))
    return Drawn(
        form,
        tuple(names),
        tuple(map(tuple, cells)),
        draw(st.sampled_from((",", ",", ",", ";", "\t", "|"))),
        draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, None))),
        draw(st.sampled_from(("\n", "\n", "\r\n", "\r"))),
        draw(st.sampled_from(("utf-8",) * 8 + ENCODINGS)),
        tuple(damage),
        action,
        draw(st.sampled_from(list(MODELS))) if action in ACTIONS[3:] else target,
        draw(st.sampled_from((None, None, None, None, "number", "label", "set", "ordinal"))),
        draw(st.sampled_from((("review",), ("review",), None, ("review", "tags")))),
    )


def odd_bytes() -> st.SearchStrategy[bytes]:
    """Bytes that text, archives and Parquet do not expect."""
    odd_ones = (
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b'"',
        b"\n\n",
        b"\r",
        b",",
        b"[",
        b"{",
        b"\x1f\x8b",
        b"PAR1",
    )
    return st.one_of(st.sampled_from(odd_ones), st.binary(max_size=4))


def _change(draw: st.DrawFn, names: list[str], cells: list[list[Any]], odd_cell: st.SearchStrategy[Any]) -> None:
    """Changes a table in one way."""
    what = draw(st.sampled_from(("cell", "cell", "cell", "column", "column", "name", "drop", "ragged", "none")))
    if not names:
        return
    column = draw(st.integers(0, len(names) - 1))
    row = draw(st.integers(0, max(0, len(cells) - 1)))
    if what == "cell" and cells and column < len(cells[row]):
        cells[row][column] = draw(odd_cell)
    elif what == "column":
        few = draw(st.lists(odd_cell, min_size=1, max_size=4))
        for number, one in enumerate(cells):
            if column < len(one):
                one[column] = few[number % len(few)]
    elif what == "name":
        names[column] = draw(st.one_of(st.sampled_from(odd.NAMES), odd.texts()))
    elif what == "drop":
        del names[column]
        for one in cells:
            del one[column : column + 1]
    elif what == "ragged" and cells:
        cells[row] = [*cells[row], "more"] if draw(st.booleans()) else cells[row][:-1]
    elif what == "none":
        del cells[draw(st.integers(0, 1)) :]


# ---- stored


def stored(table: Drawn) -> Any:
    """Returns a table as its form has it: in memory, or written to a new folder."""
    if not table.form.startswith(".") and table.form != "folder":
        return _in_memory(table)
    folder = world().scratch / "table"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if table.form == "folder":
        half = max(1, len(table.cells) * 2 // 3)
        for name, part in (("train", table.cells[:half]), ("test", table.cells[half:])):
            (folder / f"{name}.csv").write_bytes(_damaged(table, _text(replace(table, form=".csv", cells=part))))
        return str(folder)
    path = folder / f"table{table.form}"
    bare = table.form.removesuffix(".gz")
    content = _parquet(table) if bare == ".parquet" else _text(replace(table, form=bare))
    if table.form.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    path.write_bytes(_damaged(table, content))
    return str(path)


def _in_memory(table: Drawn) -> Any:
    if table.form == "rows":
        return table.mappings
    columns = {
        name: [row[position] if position < len(row) else None for row in table.cells]
        for position, name in enumerate(table.names)
    }
    if table.form == "columns":
        return columns
    if table.form == "frame":
        # As objects: pandas itself refuses to make texts of half letters.
        frame = pd.DataFrame(table.mappings, columns=list(dict.fromkeys(table.names)), dtype=object)
        with contextlib.suppress(ValueError):
            frame.columns = list(table.names)  # the same name twice
        return frame
    typed = pa.table({name: _arrow_array(cells) for name, cells in columns.items()})
    if table.form == "arrow":
        return typed
    import datasets

    try:
        return datasets.Dataset(typed)
    except Exception:  # that library does not take every table
        return typed


def _arrow_array(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        texts = [None if cell is None else str(cell).encode(errors="replace").decode() for cell in cells]
        return pa.array(texts, pa.string())


def _parquet(table: Drawn) -> bytes:
    buffer = io.BytesIO()
    arrays = [
        _arrow_array([row[position] if position < len(row) else None for row in table.cells])
        for position in range(len(table.names))
    ]
    names = [name.encode(errors="replace").decode() for name in table.names]
    try:
        pa_parquet.write_table(pa.Table.from_arrays(arrays, names=names), buffer)
    except (pa.ArrowException, OSError):
        arrays = [_arrow_array([str(cell) for cell in array.to_pylist()]) for array in arrays]
        pa_parquet.write_table(pa.Table.from_arrays(arrays, names=names), buffer)
    return buffer.getvalue()


def _text(table: Drawn) -> bytes:
    """Returns the bytes of CSV, TSV, JSONL or JSON."""
    if table.form in (".jsonl", ".json"):
        mappings = [json.dumps(row, default=str, ensure_ascii=False) for row in table.mappings]
        text = f"[{', '.join(mappings)}]" if table.form == ".json" else table.line_end.join([*mappings, ""])
        if table.form == ".jsonl" and table.line_end == "\r":
            text = "\n".join([*mappings, ""])
        return text.encode(table.encoding, errors="replace")
    delimiter = "\t" if table.form == ".tsv" else table.delimiter
    lines = [table.names, *table.cells]
    if table.quoting is None:
        text = table.line_end.join([*(delimiter.join(str(cell) for cell in line) for line in lines), ""])
    else:
        written = io.StringIO()
        csv.writer(written, delimiter=delimiter, quoting=table.quoting, lineterminator=table.line_end).writerows(
            [["" if cell is None else str(cell) for cell in line] for line in lines]
        )
        text = written.getvalue()
    return text.encode(table.encoding, errors="replace")


def _damaged(table: Drawn, content: bytes) -> bytes:
    for place, gone, new in table.damage:
        at = int(place * len(content))
        content = content[:at] + new + content[at + gone :]
    return content


# ---- tried


def tried(table: Drawn) -> str:
    """Stores a table and uses it; returns that it was answered.

    Raises:
        PredGenError: it was refused.
        BrokenError: it was answered wrongly.
    """
    source = stored(table)
    if table.action == "prepare":
        _prepared(table, source)
    elif table.action in ("read", "save"):
        frame = read_table(source if table.form != "folder" else f"{source}/train.csv")
        if table.whole:
            hold(len(frame) == len(table.cells), f"number of rows: {len(frame)} of {len(table.cells)}")
        plain = (str, int, float, bool, type(None))
        for name in frame.columns:
            hold(all(type(cell) in plain for cell in frame[name]), f"cells are not plain: {frame[name].tolist()}")
        if table.action == "save":
            _saved(frame, world().scratch / "saved")
    else:
        _answered(table, source, world().model(table.of))
    return ANSWERED


def _saved(frame: pd.DataFrame, folder: Path) -> None:
    """Writes a table in every form, and reads it back."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        path = folder / f"table{suffix}"
        with TableWriter(path) as writer:
            writer.write(frame)
        again = read_table(path)
        hold(list(again.columns) == list(frame.columns), f"{suffix} has other columns: {list(again.columns)}")
        hold(len(again) == len(frame), f"{suffix} has another number of rows: {len(again)} for {len(frame)}")
        for name in frame.columns:
            for before, after in zip(frame[name], again[name], strict=True):
                if isinstance(before, str) and before:
                    hold(before == after, f"{suffix} has another text: {after!r} for {before!r}")


def _prepared(table: Drawn, source: Any) -> None:
    """Prepares a target and prompts, and writes and reads all values."""
    settings = {"data.data": "drawn", "data.target": table.of, "data.kind": table.kind, "data.inputs": table.inputs}
    prepared = prepare(build_config(settings).data, source, 0)
    splits, target = prepared.splits, prepared.target
    parts = [splits.train, splits.validation, splits.test]
    num_rows = sum(len(part) for part in parts if part is not None)
    if table.whole:
        hold(num_rows == len(table.cells), f"number of rows in parts: {num_rows} of {len(table.cells)}")
    hold(len(prepared.train_values) == len(splits.train), "number of values")
    for row in splits.train.to_dict("records"):
        hold(isinstance(prepared.template.render(row), str), "a prompt is no text")
    codec = Codec(target, world().backbone)
    codec.encode(prepared.train_values)
    for value in prepared.train_values:
        text = target.to_text(value)
        hold(target.from_text(text) is not None, f"a text is no value: {text!r}")
        written, again = codec.value_and_text(codec.path(value))
        hold(again == text, f"a path writes another text: {again!r} for {text!r}")
        numbers = written.values() if isinstance(written, dict) else [written]
        hold(all(math.isfinite(one) for one in numbers if isinstance(one, float)), f"a value is not finite: {value}")


def _answered(table: Drawn, source: Any, model: Model) -> None:
    """Predicts a table with a fitted model, scores it, or calibrates a copy of the model."""
    if table.action == "evaluate":
        evaluation = model.evaluate(source).to_json()
        json.dumps(evaluation, allow_nan=False)
        return
    if table.action == "calibrate":
        Model(model.method, model.contents).calibrate(source)
        return
    labels = any(field.labels for field in model.target.fields.values())
    numeric = any(field.numeric for field in model.target.fields.values())
    asked = Asked(probabilities=labels, std=numeric and model.method.writes)
    if table.action == "predict" or not isinstance(source, str):
        answers = model.predict(source, probabilities=asked.probabilities, std=asked.std)
        frame = source if isinstance(source, list) and not source else read_table(source)
        if len(frame):
            check_answers(model, frame, answers, asked)
        return
    out = world().scratch / "answers.jsonl"
    out.unlink(missing_ok=True)
    done = predict_file(model, source, TableWriter(out), asked=asked)
    hold(len(read_table(out)) == done.rows, "number of rows written")
