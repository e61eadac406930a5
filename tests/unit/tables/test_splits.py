"""Splits that keep their promises, and sources with parts."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predgen.errors import ConfigError, DataError, UnknownNameError
from predgen.tables.saving import TableWriter
from predgen.tables.splits import (
    Splits,
    held_out_rows,
    load_splits,
    stream_rows,
)

WORDS = ["river", "stone", "lamp", "green", "quiet", "runs", "under", "bright", "seven", "house", "cold", "paper"]


def sentence(draw: random.Random, num_words: int = 8) -> str:
    return " ".join(draw.choices(WORDS, k=num_words))


def table(num_rows: int, num_labels: int = 2, **columns: Any) -> pd.DataFrame:
    draw = random.Random(0)
    labels = [str(row % num_labels) for row in range(num_rows)]
    return pd.DataFrame({"text": [f"{row} {sentence(draw)}" for row in range(num_rows)], "y": labels, **columns})


def split(source: Any, *, labels: bool = True, **changes: Any) -> Splits:
    settings: dict[str, Any] = {"validation": None, "test": None, "split": (0.8, 0.1, 0.1), "group": None, "seed": 0}
    return load_splits(source, target=("y",), stratify=lambda _: "y" if labels else None, **(settings | changes))


def sizes(splits: Splits) -> tuple[int, int, int | None]:
    return len(splits.train), len(splits.validation), None if splits.test is None else len(splits.test)


def parts(splits: Splits) -> list[pd.DataFrame]:
    return [part for part in (splits.train, splits.validation, splits.test) if part is not None]


def save(rows: pd.DataFrame, path: Path) -> Path:
    with TableWriter(path) as writer:
        writer.write(rows)
    return path


# ── One table ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40)
@given(
    num_rows=st.integers(10, 120),
    num_labels=st.integers(1, 12),
    labels=st.booleans(),
    seed=st.integers(0, 5),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (80.0, 10.0, 10.0), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0), (1.0, 1.0, 1.0)]),
)
def test_every_row_is_in_one_part(
    num_rows: int, num_labels: int, labels: bool, seed: int, shares: tuple[float, float, float]
) -> None:
    source = table(num_rows, num_labels)
    splits = split(source, labels=labels, seed=seed, split=shares)
    rows = pd.concat(parts(splits))
    assert sorted(rows.index) == list(range(num_rows))
    pd.testing.assert_frame_equal(rows.sort_index(), source.astype(object))
    for share, part in zip(shares, (splits.train, splits.validation, splits.test), strict=True):
        assert (part is None) == (share == 0)
        assert part is None or abs(len(part) - num_rows * share / sum(shares)) <= 1.5


def test_default_shares_and_the_line_for_people() -> None:
    splits = split(table(100))
    assert sizes(splits) == (80, 10, 10)
    assert splits.how == "80 train / 10 validation / 10 test (split at random, stratified by label; seed 0)"
    assert "stratified" not in split(table(100), labels=False).how


def test_the_seed_decides() -> None:
    source = table(100)
    assert list(split(source, seed=1).train.index) == list(split(source, seed=1).train.index)
    assert list(split(source, seed=1).train.index) != list(split(source, seed=2).train.index)


def test_labels_keep_their_shares() -> None:
    source = table(200).assign(y=["rare"] * 20 + ["common"] * 180)
    for seed in range(5):
        assert [Counter(part["y"])["rare"] for part in parts(split(source, seed=seed))] == [16, 2, 2]


def test_a_labels_only_row_is_learned_from() -> None:
    source = table(101).assign(y=["a"] * 50 + ["b"] * 50 + ["only"])
    for seed in range(10):
        splits = split(source, seed=seed)
        assert "only" in set(splits.train["y"])
        assert "labels of one row stay in train (only)" in splits.how


def test_too_few_rows_to_stratify_are_split_all_the_same() -> None:
    many_labels = split(table(100, num_labels=40))
    assert sizes(many_labels) == (80, 10, 10)
    assert "too few rows to stratify" in many_labels.how
    assert sizes(split(table(10, num_labels=10))) == (8, 1, 1)
    assert sizes(split(table(3))) == (1, 1, 1)


def test_groups_stay_together() -> None:
    source = table(120, group=[f"g{row % 30}" for row in range(120)])
    splits = split(source, group="group")
    groups = [set(part["group"]) for part in parts(splits)]
    assert [len(one) for one in groups] == [24, 3, 3]
    assert sum(len(one) for one in groups) == len(set.union(*groups))
    assert "whole groups of 'group'" in splits.how
    three = split(table(30, group=[row % 3 for row in range(30)]), group="group")
    assert sizes(three) == (10, 10, 10)


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match=r"Expected a group for each part, .*column 'group'"):
        split(table(30, group=[row % 2 for row in range(30)]), group="group")


@pytest.mark.parametrize(
    ("num_rows", "shares", "message"),
    [
        (100, (0.9, 0.0, 0.1), r"enough rows for a validation part, .*--validation"),
        (2, (0.8, 0.1, 0.1), r"enough rows for a validation part, found 1 rows"),
        (1, (0.8, 0.1, 0.1), r"enough rows for a test part, found 1 rows"),
    ],
)
def test_a_part_without_rows(num_rows: int, shares: tuple[float, float, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(table(num_rows), split=shares)


@pytest.mark.parametrize("shares", [(0.0, 0.5, 0.5), (0.8, -0.1, 0.3)])
def test_shares_that_make_no_split(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match=r"Expected shares .* such as 0\.8/0\.1/0\.1"):
        split(table(100), split=shares)


def test_an_index_of_names_becomes_row_numbers() -> None:
    source = table(50).set_axis([f"row{row}" for row in range(50)])
    assert sorted(pd.concat(parts(split(source))).index) == list(range(50))


# ── Parts that are given ─────────────────────────────────────────────────────────────────────────────────────


def test_given_tables_are_not_cut_again(tmp_path: Path) -> None:
    validation = save(table(7), tmp_path / "held.csv")
    assert sizes(split(table(100), validation=validation)) == (90, 7, 10)
    assert sizes(split(table(100), test=table(7))) == (90, 10, 7)
    both = split(table(100), validation=validation, test=table(6))
    assert sizes(both) == (100, 7, 6)
    assert both.how == "100 train / 7 validation / 6 test (as given)"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("validation", ["validation", "valid", "val", "dev"])
def test_a_folder_of_files(tmp_path: Path, suffix: str, validation: str) -> None:
    for name, num_rows in (("train", 50), (validation, 7), ("test", 6)):
        save(table(num_rows), tmp_path / f"{name}{suffix}")
    (tmp_path / "train.md").write_text("not a table")
    assert sizes(split(tmp_path)) == (50, 7, 6)
    assert sizes(split(str(tmp_path), test=table(3))) == (50, 7, 3)


def test_what_a_folder_lacks(tmp_path: Path) -> None:
    save(table(50), tmp_path / "train.jsonl")
    assert sizes(split(tmp_path)) == (40, 5, 5)  # one table
    save(table(6), tmp_path / "test.CSV".lower())
    assert sizes(split(tmp_path)) == (45, 5, 6)
    (tmp_path / "test.csv").rename(tmp_path / "validation.csv")
    assert sizes(split(tmp_path)) == (50, 6, None)


def test_folders_that_are_not_clear(tmp_path: Path) -> None:
    save(table(9), tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"Expected a train file .*found rows\.csv"):
        split(tmp_path)
    save(table(9), tmp_path / "train.csv")
    save(table(9), tmp_path / "dev.csv")
    save(table(9), tmp_path / "validation.jsonl")
    with pytest.raises(DataError, match=r"Expected one validation file, found validation\.jsonl and dev\.csv"):
        split(tmp_path)


@pytest.mark.parametrize(
    "form",
    [lambda rows: rows, lambda rows: rows.to_dict("records"), lambda rows: rows.to_dict("list")],
    ids=["data frames", "rows", "columns"],
)
def test_a_mapping_of_tables(form: Any) -> None:
    source = {"train": form(table(50)), "dev": form(table(7)), "other": form(table(3))}
    assert sizes(split(source)) == (50, 7, None)


def test_a_column_may_be_called_train() -> None:
    source = {"train": [f"the {row} o'clock train" for row in range(50)], "y": [str(row % 2) for row in range(50)]}
    assert sizes(split(source)) == (40, 5, 5)


def test_saved_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    one = datasets.Dataset.from_dict(table(50).to_dict("list"))
    several = datasets.DatasetDict({"train": one, "validation": one.select(range(7))})
    one.save_to_disk(str(tmp_path / "one"))
    several.save_to_disk(str(tmp_path / "several"))
    assert sizes(split(tmp_path / "one")) == sizes(split(one)) == (40, 5, 5)
    assert sizes(split(tmp_path / "several")) == sizes(split(several)) == (50, 7, None)
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"damage")
    with pytest.raises(DataError, match=r"Expected a saved dataset in .*found damage .*Save it again"):
        split(tmp_path / "one")


def test_tables_without_a_train_part() -> None:
    with pytest.raises(DataError, match="Expected a train part in the tables, found test"):
        split({"test": table(9)})


def test_a_part_without_the_column() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown column of the test rows 'y'\. Did you mean 'yy'"):
        split(table(50), test=table(9).rename(columns={"y": "yy"}))
    with pytest.raises(UnknownNameError, match="Unknown column of the train rows 'group'"):
        split(table(50), group="group")


# ── Sources that are not there ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere", "Offline"), ("someone/nowhere", "Offline"), ("not a name", "HFValidationError")],
)
def test_an_unknown_name_without_a_network(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=rf"no such path exists here, and the hub could not be reached .*\({reason}"):
        split(name)


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    with pytest.raises(DataError, match=r"found 'someone/nowhere': no such path .*no route to the hub.*the network"):
        split("someone/nowhere")


def test_what_looks_like_a_path_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("huggingface_hub.HfApi.dataset_info")
    (tmp_path / "reviews").mkdir()
    with pytest.raises(DataError, match=r"Expected a table file or a folder, found none .*Did you mean '.*reviews'"):
        split(str(tmp_path / "review"))
    with pytest.raises(DataError, match=r"Expected a file, found none"):
        split("nowhere.csv")


# ── Rows to predict and to score ─────────────────────────────────────────────────────────────────────────────


def test_held_out_rows_are_the_test_part_else_the_validation_part() -> None:
    source = {"train": table(50), "validation": table(7), "test": table(6)}
    assert len(held_out_rows(source)) == 6
    assert len(held_out_rows({name: source[name] for name in ("train", "validation")})) == 7
    assert len(held_out_rows(table(9))) == 9


def test_stream_rows_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    save(table(50), tmp_path / "train.csv")
    save(table(25), tmp_path / "test.csv")
    assert [len(chunk) for chunk in stream_rows(str(tmp_path / "train.csv"), 20)] == [20, 20, 10]
    chunks = list(stream_rows(str(tmp_path), 20))
    assert [chunk.index[0] for chunk in chunks] == [0, 20]


@pytest.mark.parametrize(("num_labels", "per_label"), [(150, 2), (500, 3), (40, 1), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_every_label_keeps_a_training_row(num_labels: int, per_label: int, seed: int) -> None:
    table = pd.DataFrame({"y": [f"label {row % num_labels}" for row in range(num_labels * per_label)]}, dtype=object)
    splits = load_splits(
        table,
        target=["y"],
        stratify=lambda _: "y",
        validation=None,
        test=None,
        split=(0.8, 0.1, 0.1),
        group=None,
        seed=seed,
        calibration=0.1,
    )
    parts = [part for part in (splits.train, splits.validation, splits.test, splits.calibration) if part is not None]
    assert sorted(row for part in parts for row in part.index) == list(range(len(table)))
    if per_label > 1:
        assert set(splits.train["y"]) == set(table["y"])
        assert all(abs(len(part) - 0.1 * len(table)) <= 2 for part in parts[1:3])
