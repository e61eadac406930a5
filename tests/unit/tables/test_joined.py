"""Several columns as one target: shares, counts, JSON cells and annotators say the same, and bad rows are named."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import predgen
from predgen.config import build_config
from predgen.tables.joined import joining_of, labels_of_columns, spread_of_annotators
from predgen.tables.reading import read_table
from predgen.targets.distribution import Distribution
from predgen.training.preparing import Prepared, prepare

TEXTS = [f"this is the text of row {row}" for row in range(10)]
ANSWERS = [
    ("a", "b", None, "a"),
    ("b", "b", "b", "b"),
    (None, "c", None, None),
    ("a", "a", "b", "b"),
    ("c", "a", "b", "b"),
] * 2
LABELS = ("a", "b", "c")


def prepared(given_columns: dict[str, Any], target: str, **settings: Any) -> Prepared:
    table = pd.DataFrame({"text": TEXTS, **given_columns})
    data = build_config({"data": "x", "target": target, "inputs": ["text"]}, settings).data
    return prepare(data, {"train": table, "validation": table}, 0)


def forms(label_order: tuple[str, ...] = LABELS) -> dict[str, Prepared]:
    counts = [[row.count(label) for label in LABELS] for row in ANSWERS]
    table = np.array(counts, float)
    shares = table / table.sum(axis=1, keepdims=True)
    cells = [json.dumps(dict(zip(LABELS, row, strict=True))) for row in shares.tolist()]
    raters = {f"ann{one + 1}": [row[one] for row in ANSWERS] for one in range(4)}
    by_label = {f"p_{label}": [str(float(share)) for share in shares[:, LABELS.index(label)]] for label in label_order}
    counted = {f"n_{label}": table[:, LABELS.index(label)].astype(int) for label in label_order}
    return {
        "shares": prepared(by_label, ",".join(by_label), kind="distribution"),
        "counts": prepared(counted, ",".join(counted), columns="counts"),
        "cells": prepared({"label": cells}, "label"),
        "counts in cells": prepared(
            {"label": [json.dumps(dict(zip(LABELS, row, strict=True))) for row in counts]}, "label", columns="counts"
        ),
        "annotators": prepared(raters, ",".join(raters), columns="annotators"),
    }


def test_all_forms_give_one_target() -> None:
    found = forms()
    expected = [tuple(row.count(label) / sum(map(bool, row)) for label in LABELS) for row in ANSWERS]
    for name, one in found.items():
        assert one.target == Distribution(LABELS, LABELS), name
        np.testing.assert_allclose(one.train_values, expected, atol=1e-12, err_msg=name)
        assert one.train_values == one.validation_values


def test_the_order_of_the_columns_changes_no_input_of_the_model() -> None:
    one, other = forms(), forms(("c", "a", "b"))
    for name in ("shares", "counts"):
        assert one[name].target == other[name].target
        assert one[name].train_values == other[name].train_values
        rows = one[name].splits.train.iloc[0].to_dict()
        assert one[name].template.render(rows) == other[name].template.render(rows) == f"{TEXTS[0]}\nlabel:"


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6).filter(any), st.randoms())
def test_shares_come_back(counts: list[int], random: Any) -> None:
    labels = tuple(f"l{position}" for position in range(len(counts)))
    field = Distribution(labels, labels)
    shares = [count / sum(counts) for count in counts]
    pairs = list(zip(labels, shares, strict=True))
    random.shuffle(pairs)
    value = field.parse(json.dumps(dict(pairs)))
    assert value == pytest.approx(shares, abs=1e-12)
    assert sum(value) == pytest.approx(1, abs=1e-12)
    assert field.parse(json.dumps(dict(zip(labels, value, strict=True)))) == pytest.approx(value, abs=1e-15)
    assert value[labels.index(field.cell(value))] == max(value)


@pytest.mark.parametrize(
    ("columns", "target", "settings", "message"),
    [
        ({"p_a": [0.5] * 10, "p_b": [0.5] * 9 + [0.4]}, "p_a,p_b", {}, r"Row 10, column 'p_a, p_b'.*0.9.*counts"),
        ({"p_a": [0.5] * 10, "p_b": [0.5, -0.5] * 5}, "p_a,p_b", {}, r"Row 2, column 'p_b'.*at least 0.*'-0.5'"),
        ({"p_a": [0.5, None] * 5, "p_b": [0.5] * 10}, "p_a,p_b", {}, r"Row 2, column 'p_a'.*NaN.*write 0"),
        ({"n_a": [3, 0] * 5, "n_b": [1, 0] * 5}, "n_a,n_b", {"columns": "counts"}, r"Row 2.*0 of all"),
        ({"x": ["a", ""] * 5, "y": ["b", None] * 5}, "x,y", {"columns": "annotators"}, "annotator at least in row 2"),
        ({"y": ['{"a": 1}'] * 10}, "y", {}, "At least two labels|at least two labels"),
        ({"y": ['{"a": 1}', "a"] * 5}, "y", {}, r"Row 2, column 'y'.*a share for each label"),
        ({"y": ['{"a": 0.5, "a": 0.5}'] * 10}, "y", {}, r"Row 1, column 'y'.*every label once"),
        ({"p_a": [1] * 10, "p_b": [0] * 10}, "p_a,p_b", {"labels": ["x"]}, "each of the 2 target columns"),
    ],
)  # fmt: skip
def test_what_is_no_distribution_is_named(columns: Any, target: str, settings: Any, message: str) -> None:
    settings = settings if "columns" in settings else {"kind": "distribution", **settings}
    with pytest.raises(predgen.PredGenError, match=re.compile(message, re.DOTALL)):
        prepared(columns, target, **settings)


def test_rounded_shares_are_divided_by_their_sum_and_columns_may_have_other_labels() -> None:
    thirds = {f"share {name}": [0.33, 0.5] * 5 for name in ("one", "two")} | {"share three": [0.33, 0] * 5}
    found = prepared(thirds, ",".join(thirds), kind="distribution", labels=["z", "y", "x"])
    assert found.target == Distribution(("x", "y", "z"), ("x", "y", "z"))
    np.testing.assert_allclose(found.train_values[:2], [[1 / 3] * 3, [0, 0.5, 0.5]])
    assert labels_of_columns(["a.b", "a.c"]) == ["b", "c"]


def test_a_label_that_training_never_saw_is_unknown_in_other_rows() -> None:
    field = Distribution(("a", "b"), ("a", "b"))
    assert field.known('{"a": 0.5, "z": 0.5}') is None
    assert field.known('{"a": 1, "z": 0}') == (1.0, 0.0)
    with pytest.raises(predgen.TargetError, match="'z'"):
        field.parse('{"a": 0.5, "z": 0.5}')


def test_numbers_of_annotators_are_a_mean_and_have_a_spread() -> None:
    raters = {"r1": [0.5, 2.25, None, 1, 4] * 2, "r2": [1.5, 2.75, 3.5, 1, 1] * 2}
    found = prepared(raters, "r1,r2", columns="annotators", kind="number")
    assert found.target.kind == "number"
    assert found.train_values[:5] == [1.0, 2.5, 3.5, 1.0, 2.5]
    data = build_config({"data": "x", "target": "r1,r2", "columns": "annotators"}).data
    table = read_table(pd.DataFrame(raters))
    joining = joining_of(data, table)
    assert joining is not None
    assert joining.numeric
    spread = spread_of_annotators(data, table)
    assert spread is not None
    np.testing.assert_allclose(
        spread[:5], [np.std([0.5, 1.5], ddof=1), np.std([2.25, 2.75], ddof=1), np.nan, 0, 4.5**0.5]
    )
