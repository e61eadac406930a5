"""What each row weighs: columns of weights, weights of labels, and what is refused."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen import Label, LabelSet, Number, Ordinal, Record
from predgen.config import DataSettings
from predgen.errors import ConfigError, DataError, PredGenError, UnknownNameError
from predgen.training.weighting import training_weights, weights_in

MOODS = Label(("bad", "good"), ("bad", "good"))
GRADES = Ordinal(("low", "middle", "high"), ("low", "middle", "high"))
FEELINGS = LabelSet(("joy", "fear"), ("joy", "fear"))


def settings(**given: Any) -> DataSettings:
    return DataSettings(data="x.csv", target="y", **given)


def weights_of(target: Any, values: list[Any], column: list[Any] | None = None, **given: Any) -> np.ndarray | None:
    table = pd.DataFrame({"w": column or [1] * len(values)}).astype(object)
    return training_weights(settings(weight="w" if column else None, **given), target, values, table)


def test_weights_are_1_on_average_and_equal_ones_are_none() -> None:
    found = weights_of(MOODS, ["good", "bad", "bad"], [2, "1", 0.0])
    assert found is not None
    assert found.tolist() == [2.0, 1.0, 0.0]
    assert weights_of(MOODS, ["good", "bad"], [3, 3.0]) is None
    assert weights_of(MOODS, ["good", "bad"]) is None


def test_the_effective_number_of_rows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "predgen"):
        weights_of(MOODS, ["good"] * 4, [3, 1, 1, 1])
    assert "0.667 to 2 times the mean; for the variance of a mean they are like 3 of 4 equal rows" in caplog.text


@given(st.lists(st.sampled_from(["low", "middle", "high"]), min_size=2, max_size=40))
def test_balanced_labels_count_alike_as_in_scikit_learn(values: list[str]) -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    found = weights_of(GRADES, values, class_weights="balanced")
    expected = compute_sample_weight("balanced", values)
    np.testing.assert_allclose(np.ones(len(values)) if found is None else found, expected / expected.mean())


def test_labels_have_the_weights_that_are_given_and_1_else() -> None:
    found = weights_of(GRADES, ["low", "high", "middle", "low"], class_weights={"low": 3, "high": 0.5})
    assert found is not None
    np.testing.assert_allclose(found, np.array([3, 0.5, 1, 3]) / 1.875)
    both = weights_of(GRADES, ["low", "high"], [1, 6], class_weights="low=3")
    assert both is not None
    np.testing.assert_allclose(both, [3 / 4.5, 6 / 4.5])


def test_a_set_has_the_mean_weight_of_its_labels() -> None:
    found = weights_of(FEELINGS, [("joy", "fear"), (), ("joy",), ("joy",)], class_weights="balanced")
    joy, fear = 4 / (2 * 3), 4 / (2 * 1)
    expected = np.array([(joy + fear) / 2, 1, joy, joy])
    np.testing.assert_allclose(found, expected / expected.mean())


@pytest.mark.parametrize("text", ["{a: 3, b: 1}", "a=3,b=1", " a = 3 , b = 1 ", {"a": 3, "b": "1"}])
def test_weights_of_labels_are_read_from_texts(text: Any) -> None:
    assert settings(class_weights=text).class_weights == {"a": 3.0, "b": 1.0}
    assert settings(class_weights={0: 3, True: 1}).class_weights == {"0": 3.0, "true": 1.0}
    assert settings(class_weights="none").class_weights == "none"


@pytest.mark.parametrize("wrong", ["equal", "a=", "a=-1", "a=inf", "a=nan", "", {}, {"a": True}, 3, "a=1,b"])
def test_other_weights_of_labels_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"class_weights[\s\S]*(expected balanced or none, or a number|valid)"):
        settings(class_weights=wrong)


@pytest.mark.parametrize(
    ("cell", "found"), [(-1, "'-1'"), ("", "an empty cell"), (None, "NaN"), ("many", "'many'"), (float("inf"), "'inf'")]
)
def test_a_cell_that_is_no_weight_is_refused_with_its_row(cell: Any, found: str) -> None:
    with pytest.raises(DataError, match=f"a number of at least 0 in row 2, column 'w', found {found}"):
        weights_in(pd.DataFrame({"w": [1, cell]}).astype(object), "w")


@pytest.mark.parametrize(
    ("target", "values", "given_settings", "error", "message"),
    [
        (Number(0.0, 1.0, 1), [0.0, 0.5], {"class_weights": "balanced"}, ConfigError, "one column of labels"),
        (
            Record({"a": MOODS, "b": MOODS}),
            [{"a": "bad", "b": "bad"}] * 2,
            {"class_weights": "balanced"},
            ConfigError,
            "found several columns, a, b",
        ),
        (MOODS, ["bad", "good"], {"class_weights": {"god": 2}}, UnknownNameError, "Did you mean 'good'"),
        (MOODS, ["bad", "good"], {"weight": "v"}, UnknownNameError, "'v'"),
        (MOODS, ["bad", "bad"], {"class_weights": {"bad": 0}}, DataError, "the weight 0 for all of them"),
    ],
)
def test_what_cannot_be_weighed_is_refused(
    target: Any, values: list[Any], given_settings: dict[str, Any], error: type[PredGenError], message: str
) -> None:
    with pytest.raises(error, match=message):
        training_weights(settings(**given_settings), target, values, pd.DataFrame({"w": [1, 1]}))
