"""A table means the same in every format: labels and numbers come through files, data frames and datasets."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predgen.tables.reading import read_table
from predgen.tables.saving import TableWriter
from predgen.targets.cells import is_missing, label_key, parse_number
from predgen.targets.label import infer_label

PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), max_size=8)
NUMBERS = [st.integers(-(2**53), 2**53), st.floats(allow_nan=False)]
# One kind of cell in a column, as readers of types have it, or a mix of kinds.
COLUMNS = st.one_of(
    *[st.lists(st.none() | kind, min_size=1, max_size=8) for kind in (st.booleans(), *NUMBERS, TEXT)],
    st.lists(st.one_of(st.booleans(), *NUMBERS), min_size=1, max_size=8),
)


def _file(suffix: str) -> Callable[[pd.DataFrame, Path], object]:
    def through(table: pd.DataFrame, folder: Path) -> object:
        with TableWriter(folder / f"rows{suffix}", overwrite=True) as writer:
            writer.write(table)
        return folder / f"rows{suffix}"

    return through


def _json_array(table: pd.DataFrame, folder: Path) -> object:
    (folder / "rows.json").write_text(json.dumps(table.to_dict("records"), indent=1), encoding="utf-8")
    return folder / "rows.json"


def _compressed(table: pd.DataFrame, folder: Path) -> object:
    path = Path(str(_file(".csv")(table, folder)))
    (folder / "rows.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder / "rows.csv.gz"


FORMATS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    "CSV": _file(".csv"),
    "TSV": _file(".tsv"),
    "JSONL": _file(".jsonl"),
    "Parquet": _file(".parquet"),
    "JSON": _json_array,
    "compressed": _compressed,
    "rows": lambda table, folder: table.to_dict("records"),
    "pandas": lambda table, folder: table.convert_dtypes(),
    "numpy": lambda table, folder: {name: table[name].infer_objects().to_numpy() for name in table},
}


@pytest.mark.parametrize("name", FORMATS)
@PROPERTY
@given(cells=COLUMNS)
def test_every_format_has_the_same_labels_and_numbers(tmp_path: Path, cells: list[object], name: str) -> None:
    table = pd.DataFrame({"text": "some words", "y": pd.Series(cells, dtype=object)}, dtype=object)
    back = read_table(FORMATS[name](table, tmp_path))["y"].tolist()
    there = [cell for cell in cells if not is_missing(cell)]
    assert [is_missing(cell) for cell in back] == [is_missing(cell) for cell in cells]
    back = [cell for cell in back if not is_missing(cell)]
    assert list(map(label_key, back)) == list(map(label_key, there))
    if not any(isinstance(cell, bool) for cell in cells):  # a column of booleans is none of numbers
        assert list(map(parse_number, back)) == list(map(parse_number, there))


@pytest.mark.parametrize("cells", [[True, False], [1, 0], [0.5, 2.0], ["true", "False"], ["yes", "no"]], ids=str)
def test_a_label_of_one_format_is_known_in_every_other(tmp_path: Path, cells: list[object]) -> None:
    table = pd.DataFrame({"text": ["a", "b"] * 3, "y": pd.Series(cells * 3, dtype=object)}, dtype=object)
    sources = {name: read_table(form(table, tmp_path)) for name, form in FORMATS.items()}
    sources["datasets"] = read_table(datasets.Dataset.from_dict({"text": ["a", "b"] * 3, "y": cells * 3}))
    for name, source in sources.items():
        label = infer_label(source["y"].tolist())
        for other in sources.values():
            assert [label.index(cell) for cell in other["y"]] == [label.index(cell) for cell in source["y"]], name
