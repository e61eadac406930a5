"""Dates and formatted numbers through the whole program: fitted, saved, asked, measured, compared, reported."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
import torch

import predgen
from predgen.errors import DataError
from predgen.methods.predgen import PredGen
from predgen.sklearn import PredGenRegressor
from predgen.targets.date import Date
from predgen.writing.scoring import score_all

SETTINGS = {"kind": "date", "quiet": True, "backbone": "builtin:nano", "max_steps": 3}


def dues(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns texts that say a date, and the date three to six days later, as a table holds them."""
    drawn = np.random.default_rng(seed)
    days = [date(2021, 2, 20) + timedelta(days=int(day)) for day in drawn.integers(0, 20, num_rows)]
    later = drawn.integers(3, 7, num_rows)
    texts = [f"{count} days after {day.day}/{day.month} of {day.year}" for count, day in zip(later, days, strict=True)]
    due = [(day + timedelta(days=int(count))).isoformat() for count, day in zip(later, days, strict=True)]
    return pd.DataFrame({"text": texts, "due": due}, dtype=object)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> predgen.Model:
    out = tmp_path_factory.mktemp("dates") / "model"
    fitted = predgen.fit(dues(90), target="due", out=out, calibration=0.3, **SETTINGS)
    loaded = predgen.load(out)
    rows = dues(6, seed=1)[["text"]]
    pd.testing.assert_frame_equal(loaded.predict(rows, std=True), fitted.predict(rows, std=True))
    return loaded


def test_answers_are_dates_of_the_range_with_intervals_of_two_dates(model: predgen.Model) -> None:
    target = model.target
    assert isinstance(target, Date)
    answers = model.predict(dues(12, seed=1)[["text"]], std=True, interval=0.8)
    for column in ("prediction", "written"):
        assert all(target.low <= target.parse(cell) <= target.high for cell in answers[column])
    for low, answer, high in zip(answers["low"], answers["prediction"], answers["high"], strict=True):
        assert date.fromisoformat(low) <= date.fromisoformat(answer) <= date.fromisoformat(high)
    assert (answers["std"] > 0).all()
    found = model.evaluate(dues(30, seed=2), interval=0.8).metrics
    assert {"mse_days", "mae_days", "within_7_days", "crps", "coverage", "width"} <= set(found)
    assert 0 < found["mae_days"] < 40


def test_the_probabilities_of_all_dates_sum_to_1(model: predgen.Model) -> None:
    assert isinstance(model.method, PredGen)
    writer, backbone = model.method.writer, model.method.backbone
    trie = writer.trie_of(0)
    assert trie is not None
    assert len(trie.values) == model.target.num_values  # type: ignore[union-attr]
    encoded = model.encode(dues(3, seed=4)[["text"]])
    tokens, mask = backbone.collate(encoded.prompts)
    with torch.no_grad():
        scores = score_all(backbone, writer.symbols.read(tokens, mask), trie)
    assert scores.double().exp().sum(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_methods_and_baselines_are_compared_in_days() -> None:
    comparison = predgen.compare(
        dues(80), target="due", methods=["predictor", "generator"], baselines=["mean_or_majority", "tfidf_linear"],
        **SETTINGS,
    ).to_json()  # fmt: skip
    for method in ("mean_or_majority", "tfidf_linear", "predictor", "generator"):
        assert {"mse_days", "mae_days", "within_7_days", "r2"} <= set(comparison["methods"][method]["metrics"])
    days = comparison["methods"]["mean_or_majority"]["metrics"]["mse_days"]
    assert comparison["methods"]["tfidf_linear"]["metrics"]["mse_days"] < days < 200


def test_files_of_dates_and_of_formatted_numbers_are_compared() -> None:
    truth = pd.DataFrame({"y": ["1.3.2021", "15.3.2021", "20.3.2021"]})
    ours = pd.DataFrame({"prediction": ["2021-03-01", "2021-03-17", "2021-03-30"]})
    found = predgen.compare_files(truth, {"ours": ours}, "y", kind="date", date_format="%d.%m.%Y").to_json()
    assert found["methods"]["ours"]["metrics"]["mae_days"] == 4
    truth, ours = pd.DataFrame({"y": ["1.234,5", "2.000"]}), pd.DataFrame({"prediction": [1234.5, "2001"]})
    found = predgen.compare_files(truth, {"ours": ours}, "y", number_format="de").to_json()
    assert found["methods"]["ours"]["metrics"]["mae"] == 0.5


def test_a_report_shows_dates(model: predgen.Model) -> None:
    from predgen.report.run_page import run_page

    page = run_page(predgen.describe(model, dues(30, seed=3)))
    assert "2021-03-0" in page
    assert "mean 2021-03-" in page


def test_an_estimator_reads_numbers_as_declared_and_refuses_dates() -> None:
    texts, y = [f"{n} chairs" for n in range(10, 40)], [f"1.{n}0,5 €" for n in range(10, 40)]
    estimator = PredGenRegressor(number_format="de", backbone="builtin:nano", max_steps=1, method="predictor")
    assert estimator.fit(texts, y).model_.target.describe().endswith("read as de in € (inferred)")
    plain = [1000.5 + 10 * n for n in range(10, 40)]
    answers = estimator.predict(texts)
    expected = 1 - np.sum((answers - plain) ** 2) / np.sum((np.array(plain) - np.mean(plain)) ** 2)
    assert estimator.score(texts, y) == pytest.approx(expected)
    with pytest.raises(DataError, match=r"Expected numbers in y, found dates\. Fit them with predgen\.fit"):
        PredGenRegressor(backbone="builtin:nano").fit(texts, pd.date_range("2021-03-01", periods=30))
