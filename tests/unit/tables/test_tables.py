"""Files read whole and in chunks, one clear error for each broken one, and files written whole or not at all."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import predgen
from predgen.errors import ConfigError, DataError, OutputExistsError, UnknownNameError
from predgen.tables.reading import read_table, require_columns, stream_table
from predgen.tables.saving import TableWriter
from tests.helpers.warned import all_warnings

Write = Callable[[str, str | bytes], Path]
# Half surrogates are no text, NUL is not for tables, and a first U+FEFF in a file is its byte order mark.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), max_size=12)
NAMES = st.lists(TEXT.filter(lambda name: name.strip() != ""), min_size=1, max_size=3, unique=True)
CELL = st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), TEXT)
PROPERTY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to_file


def cells(table: pd.DataFrame) -> dict[str, list[object]]:
    return {str(name): table[name].tolist() for name in table.columns}


# ── CSV and TSV ──────────────────────────────────────────────────────────────────────────────────────────────


def test_csv_cells_are_the_files_text(write: Write) -> None:
    table = read_table(write("a.csv", 'text,n\n"one, two",007\nNA,\nnull,1e3\n'))
    assert cells(table) == {"text": ["one, two", "NA", "null"], "n": ["007", "", "1e3"]}
    assert list(table.dtypes) == [object, object]
    assert list(table.index) == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    ["\ufeffa,b\n1,x\n", '\ufeff"a",b\r\n1,x\r\n', "\n\na,b\n\n1,x\n\n", "a,b\r1,x\r", "a,b\n1,x"],
    ids=["bom", "bom, quotes, crlf", "empty lines", "carriage returns", "no last line break"],
)
def test_csv_forms_that_mean_the_same(write: Write, content: str) -> None:
    assert cells(read_table(write("a.csv", content))) == {"a": ["1"], "b": ["x"]}


def test_csv_quotes(write: Write) -> None:
    table = read_table(write("a.csv", '"a\nc",b\n"x\r\ny","say ""hi"""\n5" nail,z\n'))
    assert cells(table) == {"a\nc": ["x\r\ny", '5" nail'], "b": ['say "hi"', "z"]}


def test_csv_cells_may_be_long_hold_nul_and_end_in_line_breaks(write: Write) -> None:
    long = "x" * 1_000_000  # longer than Python's reader takes by itself
    assert cells(read_table(write("a.csv", f'a,b\n{long},y\0z\n"\n","\n"\n'))) == {
        "a": [long, "\n"],
        "b": ["y\0z", "\n"],
    }


def test_tsv_is_split_at_tabs(write: Write) -> None:
    assert cells(read_table(write("a.tsv", 'a\tb\n1,5\t"x\ty"\n'))) == {"a": ["1,5"], "b": ["x\ty"]}


def test_quotes_in_tsv_are_letters_unless_the_file_uses_them(write: Write) -> None:
    half_open = 'text\ty\n"half open quote here\tyes\nplain words here\tno\n"another open one\tyes\nlast row\tno\n'
    assert cells(read_table(write("a.tsv", half_open))) == {
        "text": ['"half open quote here', "plain words here", '"another open one', "last row"],
        "y": ["yes", "no", "yes", "no"],
    }
    closed = 'text\ty\n"half open quote here\tyes\nplain words here\tno\nanother open one"\tyes\n'
    assert len(read_table(write("a.tsv", closed))) == 3
    assert cells(read_table(write("a.tsv", 'a\tb\n"it is" what\tx\n"all of it"\t5" nail\n'))) == {
        "a": ['"it is" what', '"all of it"'],
        "b": ["x", '5" nail'],
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('"a"\t"b"\n"x"\t"y"\n', {"a": ["x"], "b": ["y"]}),
        ('a\tb\n"say ""hi"""\ty\n', {"a": ['say "hi"'], "b": ["y"]}),
        ('a\tb\n"x\nz"\ty\n', {"a": ["x\nz"], "b": ["y"]}),
        ('a\tb\n"x\tz"\ty\n', {"a": ["x\tz"], "b": ["y"]}),
    ],
)
def test_a_tsv_file_that_uses_quotes(write: Write, content: str, expected: dict[str, list[str]]) -> None:
    assert cells(read_table(write("a.tsv", content))) == expected


@PROPERTY
@given(rows=st.lists(st.tuples(*[st.text("ab\" '", max_size=6)] * 2), min_size=1, max_size=6))
def test_a_tsv_file_without_quotes_has_a_row_for_each_line(write: Write, rows: list[tuple[str, str]]) -> None:
    assume(not any(cell[:1] == cell[-1:] == '"' and '""' in cell[1:-1] for row in rows for cell in row))
    text = "text\ty\n" + "".join(f"{first}\t{second}\n" for first, second in rows)
    assert cells(read_table(write("a.tsv", text))) == {
        "text": [first for first, _ in rows],
        "y": [second for _, second in rows],
    }


def test_a_csv_cell_that_looks_like_rows_is_warned_of(write: Write) -> None:
    with pytest.warns(predgen.OpenQuoteWarning, match="^Row 1 .*each of its lines looks like a row"):
        assert len(read_table(write("a.csv", 'text,y\n"half open,yes\nplain,no\nclosed",yes\n'))) == 1
    with all_warnings() as found:
        assert len(read_table(write("a.csv", 'text,y\n"two\nlines",yes\n'))) == 1
    assert not found


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_with_other_signs_between_its_cells(write: Write, delimiter: str) -> None:
    content = f'text{delimiter}y\n"a, b{delimiter}c"{delimiter}6,62\n'
    assert cells(read_table(write("a.csv", content))) == {"text": [f"a, b{delimiter}c"], "y": ["6,62"]}
    assert cells(read_table(write("a.csv", f"a{delimiter}b,c\nx,1\n"))) == {f"a{delimiter}b": ["x"], "c": ["1"]}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_compressed_texts(tmp_path: Path, suffix: str) -> None:
    text = {".csv": "a,b\né,1\n", ".tsv": "a\tb\né\t1\n"}.get(suffix, '{"a": "é", "b": "1"}\n')
    path = tmp_path / f"rows{suffix}.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert cells(read_table(path)) == {"a": ["é"], "b": ["1"]}
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"Expected a whole compressed file at .*rows.* found damage"):
        read_table(path)
    path.write_bytes(text.encode())
    with pytest.raises(DataError, match=r"Expected a whole compressed file at"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,x\n2\n", r"Expected 2 fields in row 2 of .*found 1: '2'"),
        ("a,b\n1,x\n2,y,z\n", r"Expected 2 fields in row 2 of .*found 3: '2,y,z'"),
        ("\n\na,b\n\n1,x\n\n2\n", r"Expected 2 fields in row 2 of .*found 1: '2'"),
        ('a,b\n1,x\n"2,y\n3,z\n', r"Expected the quote in row 2 .*to be closed.*'2,y\\n3,z\\n'"),
        ('a,b\n1,x\n2,"y\n3,z\n', r"Expected the quote in row 2 .*to be closed.*'y\\n3,z\\n'"),
        ('a,b\n1,x\n2,"', r"Expected the quote in row 2 .*to be closed"),
        ('a,b\n1,x\n2,"y\n3,"z"\n4,w\n', r"Expected a quote in row 2 .*to enclose a whole field, found text after"),
        ('a,b\n"1"x,y\n', r"Expected a quote in row 1 .*to enclose a whole field, found text after it"),
        ('a,b\n1,"x" \n', r"Expected a quote in row 1 .*to enclose a whole field, found text after it"),
        ('a,b\n1,x\n"2,y\n3"\n', r"Expected 2 fields in row 2 .*a quote in it is not closed"),
        (b"a,b\n1,x\n2,\xe9\n", r"Expected text in UTF-8 .*in row 2, column 'b', found other bytes"),
        (b"a\xe9,b\n1,x\n", r"UTF-8 .*found other bytes in its header"),
        ("a,b\n1,x\n".encode("utf-16"), r"UTF-8 .*found other bytes in its header"),
        ("a,b\n1,x\n".encode("utf-16-le"), r"UTF-8 .*found other bytes in its header"),
        (b"a,b\n\xed\xa0\x80,x\n", r"Expected text in UTF-8 .*in row 1, column 'a', found other bytes"),
        ('"a"x,b\n1,2\n', r"Expected a header of column names .*found a mistake"),
        ("", r"found an empty file"),
        ("\n\n", r"found an empty file"),
        ("a,b\n", r"Expected at least one row, found a header only"),
        ("a,b", r"Expected at least one row, found a header only"),
        ("a,b,a\n1,2,3\n", r"Expected every column name once, found 'a' twice"),
        ('"a,b\n' + "1,x\n" * 50_000, r"Expected a header of column names .*a quote is not closed"),
    ],
)
def test_broken_csv(write: Write, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write("a.csv", content))


@pytest.mark.parametrize("last", ["7\n", b"7,\xe9\n"])
def test_broken_row_far_into_a_stream(write: Write, last: str | bytes) -> None:
    good = "a,b\n" + "".join(f'{row},"text\nof {row}"\n' for row in range(3000))
    path = write("a.csv", good.encode() + (last if isinstance(last, bytes) else last.encode()) + b"8,x\n")
    chunks = stream_table(path, 1000)
    assert len(next(chunks)) == 1000
    with pytest.raises(DataError, match="row 3001"):
        list(chunks)


def test_a_quote_left_open_in_a_large_file(write: Write) -> None:
    path = write("a.csv", 'a,b\n1,x\n2,"y\n' + "3,some text\n" * 400_000)
    with pytest.raises(DataError, match=r"found a longer one after row 1\. Perhaps a quote is not closed"):
        read_table(path)


@PROPERTY
@given(
    rows=st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    cut=st.booleans(),
)
def test_a_closed_quote_is_never_taken_for_an_open_one(
    tmp_path: Path, rows: list[list[str]], quoting: int, cut: bool
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows([["a", "b"], *rows])
    path = tmp_path / "a.csv"
    path.write_text(text.getvalue().removesuffix('"\n') if cut else text.getvalue(), encoding="utf-8", newline="")
    if cut:
        with pytest.raises(DataError, match="quote"):
            read_table(path)
    else:
        assert read_table(path).to_numpy().tolist() == rows


# ── JSON lines ───────────────────────────────────────────────────────────────────────────────────────────────


def test_jsonl_cells_keep_their_types(write: Write) -> None:
    lines = ['{"a": 1, "b": "é"}', "", '{"a": null, "c": [1, {"d": "é"}]}', '{"a": true, "b": 2.5}', '{"a": NaN}']
    table = read_table(write("a.jsonl", "\ufeff" + "\n".join(lines)))
    first, second, third, fourth = table["a"]
    assert (first, second, third) == (1, None, True)
    assert type(first) is int
    assert np.isnan(fourth)
    assert table["b"].tolist() == ["é", None, 2.5, None]
    assert table["c"].tolist() == [None, '[1, {"d": "é"}]', None, None]


def test_jsonl_numbers_that_are_not_finite_come_through(write: Write) -> None:
    assert read_table(write("a.json", '{"a": Infinity}\n{"a": -Infinity}\n'))["a"].tolist() == [np.inf, -np.inf]


@pytest.mark.slow
def test_every_chunk_has_the_columns_of_all_rows(write: Write) -> None:
    path = write("a.jsonl", '{"a": 1}\n' * 5000 + '{"a": 2, "b": 3}\n')
    chunks = list(stream_table(path, 2000))
    assert [list(chunk.columns) for chunk in chunks] == [["a", "b"]] * 3
    assert chunks[0]["b"].tolist() == [None] * 2000
    assert chunks[2].loc[5000].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', r"found a mistake at character 6 \(Expecting value\)"),
        ("[1, 2]", r"found a list: '\[1, 2\]'"),
        ('{"a": 1, "a": 2}', r"found the key 'a' twice"),
        (b'{"a": "\xe9"}', r"found bytes that are not UTF-8 \(byte 8\)"),
        ("[" * 100_000, r"found too deep a nesting"),
        ('{"a": ' + "9" * 5000 + "}", r"found a number of too many digits"),
        (r'{"a": "\ud83d"}', r"found half of a surrogate pair"),
    ],
)
def test_broken_json_line(write: Write, line: str | bytes, message: str) -> None:
    content = b'{"a": 1}\n\n' + (line if isinstance(line, bytes) else line.encode()) + b"\n"
    with pytest.raises(DataError, match=rf"Expected one JSON object in line 3 of .*{message}.*Correct the line"):
        read_table(write("a.jsonl", content))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_arrays(write: Write, name: str, indent: int | None) -> None:
    rows = [{"a": "x", "b": True}, {"a": "y", "c": [1, 2]}]
    table = read_table(write(name, "\ufeff \n" + json.dumps(rows, indent=indent)))
    assert cells(table) == {"a": ["x", "y"], "b": [True, None], "c": [None, "[1, 2]"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}, 2]', r"found a int as its item 2\. Give each row as an object"),
        ('[{"a": 1}', r"begins with \[, found a mistake at character 10"),
        ('[{"a": 1}]\n[{"a": 2}]', r"found a mistake at character 12 \(Extra data\)\. .*one object in each line"),
        ('[{"a": 1, "a": 2}]', r"found the key 'a' twice"),
        ("[" * 100_000, r"found too deep a nesting"),
        (r'[{"a": "\ud83d"}]', r"found half of a surrogate pair"),
    ],
)
def test_broken_json_arrays(write: Write, content: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"Expected one JSON array of objects in .*{message}"):
        read_table(write("a.json", content))


@pytest.mark.parametrize("content", ["", "\n\n", "{}\n{}\n", "[]"])
def test_jsonl_without_rows(write: Write, content: str) -> None:
    with pytest.raises(DataError, match="Expected at least one row"):
        read_table(write("a.jsonl", content))


# ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_parquet_cells_keep_their_types_or_become_text(tmp_path: Path) -> None:
    columns = {
        "i": [1, None],
        "f": [1.5, 2.0],
        "d": [date(2020, 1, 2), None],
        "m": [Decimal("1.10"), None],
        "b": [b"ab", b"\xff"],
        "l": [[1, 2], None],
    }
    pa_parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert cells(read_table(tmp_path / "a.parquet")) == {
        "i": [1, None],
        "f": [1.5, 2.0],
        "d": ["2020-01-02", None],
        "m": ["1.10", None],
        "b": ["ab", r"\xff"],
        "l": ["[1, 2]", None],
    }


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_truncated_parquet(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.table({"a": [1] * 100}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"Expected a Parquet file at .*found damage"):
        read_table(path)


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pa_parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(DataError, match="found 'a' twice"):
        read_table(path)


# ── Any file ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", [".csv", ".tsv", pytest.param(".jsonl", marks=pytest.mark.slow), ".parquet"])
def test_chunks_have_one_size_and_go_on_counting(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    table = pd.DataFrame({"a": [f"text {row}" for row in range(5001)], "b": "x"}).astype(object)
    with TableWriter(path) as writer:
        writer.write(table)
    chunks = list(stream_table(path, 700))
    assert [len(chunk) for chunk in chunks] == [700] * 7 + [101]
    pd.testing.assert_frame_equal(pd.concat(chunks), table)
    pd.testing.assert_frame_equal(read_table(path), table)


def test_missing_file_names_the_closest(write: Write, tmp_path: Path) -> None:
    write("reviews.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"Expected a file, found none at .*Did you mean '.*reviews\.csv'\?"):
        read_table(tmp_path / "review.csv")
    with pytest.raises(DataError, match=r"Tables there: reviews\.csv"):
        read_table(str(tmp_path / "something.jsonl"))


def test_paths_that_are_no_table(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected a file of \.csv, .*found 'a\.xlsx'"):
        read_table(write("a.xlsx", "x"))
    with pytest.raises(DataError, match="found the folder"):
        read_table(tmp_path)


def test_require_columns_suggests_the_closest() -> None:
    table = pd.DataFrame({"text": ["a"], "label": ["b"]})
    require_columns(table, ["label", "text"])
    with pytest.raises(UnknownNameError, match=r"Unknown column 'lable'\. Did you mean 'label'"):
        require_columns(table, ["lable"])
    with pytest.raises(UnknownNameError, match="Unknown column of the test rows 'x'"):
        require_columns(table, ["x"], "test rows")


# ── Rows in memory ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "source",
    [
        [{"a": 1, "b": "x"}, {"b": "y"}],
        {"a": [1, None], "b": ["x", "y"]},
        {"a": np.array([1, None]), "b": pd.Series(["x", "y"])},
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", "y"]}),
        pa.table({"a": [1, None], "b": ["x", "y"]}),
    ],
    ids=["rows", "columns", "arrays", "data frame", "arrow"],
)
def test_rows_in_memory(source: object) -> None:
    table = read_table(source)
    assert cells(table) == {"a": [1, None], "b": ["x", "y"]}
    assert type(table["a"][0]) is int  # a missing cell beside it does not make it a float


def test_dataset_in_memory() -> None:
    datasets = pytest.importorskip("datasets")
    source = datasets.Dataset.from_dict({"a": [1, None], "b": [["x"], ["y", "z"]]})
    assert cells(read_table(source)) == {"a": [1, None], "b": ['["x"]', '["y", "z"]']}


def test_a_data_frame_keeps_its_index_and_gets_plain_cells() -> None:
    source = pd.DataFrame(
        {
            "when": pd.to_datetime(["2020-01-02", None]),
            "list": [[np.int64(1)], {"x": np.array([2.5])}],
            "kind": pd.Categorical(["u", "v"]),
            3: np.array([True, False]),
        },
        index=["p", "q"],
    )
    table = read_table(source)
    assert list(table.index) == ["p", "q"]
    assert cells(table) == {
        "when": ["2020-01-02 00:00:00", None],
        "list": ["[1]", '{"x": [2.5]}'],
        "kind": ["u", "v"],
        "3": [True, False],
    }
    assert type(table["3"].iloc[0]) is bool


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["some text"], "Expected a mapping from columns to cells in row 1, found str"),
        ({"a": [1], "b": [1, 2]}, "Expected columns of one length"),
        ({"a": "some text"}, "Expected a list of cells in column 'a', found str"),
        ({"a": 5}, "Expected a list of cells in column 'a', found int"),
        ([], "Expected at least one row"),
        (pd.DataFrame({"a": []}), "Expected at least one row"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "found 'a' twice"),
        (None, "Expected a path, a data frame, rows or columns, found NoneType"),
        (b"bytes", "Expected a path, a data frame, rows or columns, found bytes"),
    ],
)
def test_sources_that_are_no_table(source: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(source)


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def table_of(names: list[str], rows: list[list[object]]) -> pd.DataFrame:
    return pd.DataFrame({name: [row[place] for row in rows] for place, name in enumerate(names)}, dtype=object)


def written(path: Path, frames: list[pd.DataFrame]) -> pd.DataFrame:
    with TableWriter(path, overwrite=True) as writer:
        for frame in frames:
            writer.write(frame)
    return read_table(path)


@PROPERTY
@given(data=st.data(), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_text_comes_back_as_it_was(tmp_path: Path, data: st.DataObject, suffix: str) -> None:
    names = data.draw(NAMES)
    row = st.lists(TEXT, min_size=len(names), max_size=len(names))
    frames = data.draw(st.lists(st.lists(row, min_size=1, max_size=4), min_size=1, max_size=3))
    tables = [table_of(names, rows) for rows in frames]
    pd.testing.assert_frame_equal(written(tmp_path / f"a{suffix}", tables), pd.concat(tables, ignore_index=True))


@PROPERTY
@given(frames=st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=3))
def test_jsonl_keeps_every_cell(tmp_path: Path, frames: list[list[object]]) -> None:
    tables = [pd.DataFrame({"a": cells}, dtype=object) for cells in frames]
    back = written(tmp_path / "a.jsonl", tables)["a"].tolist()
    assert back == [cell for frame in frames for cell in frame]
    assert [type(cell) for cell in back] == [type(cell) for frame in frames for cell in frame]


@PROPERTY
@given(frames=st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=3))
def test_parquet_takes_any_cells_in_any_order(tmp_path: Path, frames: list[list[object]]) -> None:
    back = written(tmp_path / "a.parquet", [pd.DataFrame({"a": cells}, dtype=object) for cells in frames])["a"]
    before = [cell for frame in frames for cell in frame]
    kinds = {type(cell) for cell in before if cell is not None}
    if len(kinds) <= 1:
        assert back.tolist() == before
    elif kinds == {int, float}:
        assert back.tolist() == [None if cell is None else float(cell) for cell in before]  # type: ignore[arg-type]
    else:
        assert [cell is None for cell in back] == [cell is None for cell in before]
        assert all(isinstance(cell, str) for cell in back if cell is not None)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2], [2.5], [1.0, 2.0, 2.5]),
        ([1], ["x"], ["1", "x"]),
        ([None], [3], [None, 3]),
        ([3], [None], [3, None]),
        ([1, "x", None], [True], ["1", "x", None, "True"]),
        ([2**70], [1], [str(2**70), "1"]),
    ],
)
def test_parquet_types_widen(tmp_path: Path, first: list[object], second: list[object], expected: list[object]) -> None:
    frames = [pd.DataFrame({"a": cells}, dtype=object) for cells in (first, second)]
    assert written(tmp_path / "a.parquet", frames)["a"].tolist() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_numpy_cells_and_missing_ones(tmp_path: Path) -> None:
    table = pd.DataFrame({"number": [1.5, np.nan], "flag": np.array([True, False]), "text": ["é", pd.NA]})
    lines = written(tmp_path / "a.jsonl", [table])
    assert cells(lines) == {"number": [1.5, None], "flag": [True, False], "text": ["é", None]}
    assert "é" in (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert cells(written(tmp_path / "a.csv", [table])) == {
        "number": ["1.5", ""],
        "flag": ["True", "False"],
        "text": ["é", ""],
    }
    assert cells(written(tmp_path / "a.parquet", [table])) == cells(lines)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str, error: type[BaseException]) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("precious")
    with pytest.raises(error, match="now"), TableWriter(path, overwrite=True) as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        assert path.read_text() == "precious"  # nothing appears before the end
        writer.write(pd.DataFrame({"a": [1.5]}))
        raise error("now")
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_is_in_the_same_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    with TableWriter(path) as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        assert not path.exists()
        assert len(list(path.parent.iterdir())) == 1
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


def test_an_existing_file_is_refused_up_front(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match=r"Expected a new file, found '.*a\.csv'"):
        TableWriter(path)
    assert path.read_text() == "precious"


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv, \.tsv, \.jsonl, \.parquet, found 'a\.xlsx'"):
        TableWriter(tmp_path / "a.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match="found the folder"):
        TableWriter(tmp_path / "folder.csv", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="its folder refuses"), TableWriter(tmp_path / "file" / "a.csv"):
        pass


def test_frames_of_other_columns_and_no_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected the columns a as in the rows before, found a, b"):
        written(tmp_path / "a.csv", [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1], "b": [2]})])
    with pytest.raises(DataError, match="Expected rows to write, found none"):
        written(tmp_path / "a.csv", [])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_jsonl_are_objects(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": ["x"]})])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1}, {"a": 2}, {"a": "x"}]


@pytest.mark.parametrize(("suffix", "name"), [(".csv", "0\t"), (".csv", "a;b"), (".tsv", "0\n"), (".tsv", 'a"\nb')])
def test_names_that_hold_other_signs_come_back(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"a{suffix}"
    with TableWriter(path) as writer:
        writer.write(pd.DataFrame({name: ["", "x", "a;b"]}))
    assert list(read_table(path)) == [name]
    assert read_table(path)[name].tolist() == ["", "x", "a;b"]


def test_whole_numbers_that_no_float_holds_are_written_as_texts_beside_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with TableWriter(path) as writer:
        writer.write(
            pd.DataFrame({"a": pd.Series([10**400, 0.5], dtype=object), "b": pd.Series([1, 0.5], dtype=object)})
        )
    table = read_table(path)
    assert table["a"].tolist() == [str(10**400), "0.5"]
    assert table["b"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("first", [2**60 + 1, 0.5])
def test_whole_numbers_that_no_float_holds_keep_their_digits_whatever_rows_come_later(
    first: float, tmp_path: Path
) -> None:
    second = 0.5 if isinstance(first, int) else 2**60 + 1
    path = tmp_path / "a.parquet"
    with TableWriter(path) as writer:
        for a, b in [(first, 1), (second, 0.5), (7, 2)]:
            writer.write(pd.DataFrame({"a": [a], "b": [b]}))
    table = read_table(path)
    assert table["a"].tolist() == [str(first), str(second), "7"]
    assert table["b"].tolist() == [1.0, 0.5, 2.0]
