"""Thresholds of two labels and weighted evaluations of fitted models, from the fit to the answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

import predgen
from predgen import ConfigError, Model
from predgen.measures.cuts import best_cut, cost_threshold
from predgen.sklearn import PredGenClassifier
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

FAST: dict[str, Any] = {"inputs": ["review"], "quiet": True, "device": "cpu", "backbone": "builtin:nano"}


pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = reviews(70, seed=4)
    rare = rows[rows["mood"] == "bad"].head(18)
    return pd.concat([rows[rows["mood"] == "good"], rare]).sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module", params=["predictor", "generator"])
def model(request: Any, table: pd.DataFrame, tmp_path_factory: Any) -> tuple[Model, Path]:
    out = tmp_path_factory.mktemp("models") / str(request.param)
    settings = {"method": request.param, "threshold": "f1", "max_steps": 6, "split": "50/40/10"}
    return predgen.fit(table, "mood", out=out, **settings, **FAST), out


def test_the_best_cut_is_that_of_trying_all() -> None:
    generator = np.random.default_rng(0)
    for size in (2, 3, 8, 30):
        for _ in range(5):
            scores = generator.random(size).round(1)
            held = generator.random(size) < 0.4
            held[:2] = True, False
            tries = np.unique([0.0, 0.5, *scores, *(scores + 1e-6)])
            tries = tries[tries <= 1]
            answered = scores >= tries[:, None]
            f1 = [sk.f1_score(held, one, zero_division=0) for one in answered]
            youden = [2 * sk.balanced_accuracy_score(held, one) - 1 for one in answered]
            cost = [(2 * (one & ~held).sum() + 5 * (~one & held).sum()) / size for one in answered]
            for rule, values, best in (("f1", f1, max), ("youden", youden, max), ("cost", cost, min)):
                cut = best_cut(scores, held, rule, (2.0, 5.0))
                assert cut.value == pytest.approx(best(values))
                assert cut.at_half == pytest.approx(values[list(tries).index(0.5)])
                # What it says is what the threshold does, whatever the order of the rows.
                order = generator.permutation(size)
                assert best_cut(scores[order], held[order], rule, (2.0, 5.0)) == cut
                assert any((one == (scores >= cut.threshold)).all() for one in answered)


def test_of_equal_cuts_the_one_nearest_to_one_half_is_taken() -> None:
    assert best_cut(np.array([0.2, 0.9]), np.array([False, True]), "f1").threshold == pytest.approx(0.55)
    assert best_cut(np.array([0.0, 0.1, 0.2]), np.array([False, True, True]), "youden").threshold == pytest.approx(0.05)
    # Positive rows cost nothing if they are missed: no row is answered so, but for a probability of 1.
    assert best_cut(np.array([0.2, 0.9]), np.array([False, True]), "cost", (1.0, 0.0)).threshold == pytest.approx(0.55)
    assert best_cut(np.array([0.2, 0.9]), np.array([True, False]), "cost", (1.0, 0.0)).threshold == pytest.approx(0.95)
    assert best_cut(np.array([0.2, 1.0]), np.array([True, False]), "cost", (1.0, 0.0)).value == 0.5
    near = np.array([0.5, np.nextafter(0.5, 1)])
    assert best_cut(near, np.array([False, True]), "f1").threshold == near[1]
    assert cost_threshold((1.0, 4.0)) == 0.2


def test_answers_follow_the_threshold_and_probabilities_stay(model: tuple[Model, Path], table: pd.DataFrame) -> None:
    fitted, folder = model
    facts = fitted.record["threshold"]
    assert (facts["rule"], facts["positive"], facts["chosen_on"]) == ("f1", "bad", "validation")
    assert facts["value"] >= facts["value_at_half"]
    found = fitted.predict(table, probabilities=True)
    reached = found["probability_bad"] >= facts["threshold"]
    assert found["prediction"].tolist() == np.where(reached, "bad", "good").tolist()
    loaded, likeliest = predgen.load(folder), predgen.load(folder, threshold=False)
    pd.testing.assert_frame_equal(loaded.predict(table, probabilities=True), found)
    plain = likeliest.predict(table, probabilities=True)
    assert plain["probability_bad"].tolist() == found["probability_bad"].tolist()
    if fitted.config.model.method != "generator":  # whose answer is then what it writes
        assert plain["prediction"].tolist() == np.where(plain["probability_bad"] > 0.5, "bad", "good").tolist()
    assert "threshold" not in likeliest.evaluate(table).to_json()
    evaluated = loaded.evaluate(table).to_json()
    assert evaluated["threshold"] == {**facts, "calibrated": facts["threshold"]}
    assert evaluated["metrics"]["average_precision"] == pytest.approx(
        sk.average_precision_score(table["mood"] == "bad", found["probability_bad"])
    )
    assert evaluated["metrics"]["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(table["mood"], found["prediction"])
    )
    assert 0 <= evaluated["ci95"]["balanced_accuracy"][0] <= evaluated["metrics"]["balanced_accuracy"]


def test_a_calibration_moves_the_threshold_that_is_shown_and_no_answer(
    model: tuple[Model, Path], table: pd.DataFrame
) -> None:
    loaded = predgen.load(model[1])
    before = loaded.predict(table)["prediction"].tolist()
    loaded.calibrate(table)
    found = loaded.predict(table, probabilities=True)
    assert found["prediction"].tolist() == before
    shown = loaded.evaluate(table).facts["threshold"]["calibrated"]
    assert (found["probability_bad"] >= shown).tolist() == [label == "bad" for label in before]


def test_weights_of_an_evaluation_are_repeated_rows(model: tuple[Model, Path], table: pd.DataFrame) -> None:
    fitted = model[0]
    if fitted.config.model.method == "generator":
        pytest.skip("the method plays no part")
    weights = np.random.default_rng(0).integers(0, 3, len(table))
    found = fitted.evaluate(table.assign(trust=weights), weight="trust")
    expected = fitted.evaluate(table.loc[np.repeat(table.index, weights)].reset_index(drop=True))
    assert found.rows == (weights > 0).sum()
    assert found.metrics == pytest.approx(expected.metrics, rel=1e-5)
    assert [line["support"] for line in found.per_label] == [line["support"] for line in expected.per_label]
    with pytest.raises(predgen.DataError, match="a weight above 0 in the column 'trust', found none"):
        fitted.evaluate(table.assign(trust=0), weight="trust")
    with pytest.raises(predgen.DataError, match="row 1, column 'trust'"):
        fitted.evaluate(table.assign(trust=-1), weight="trust")


def test_the_command_line_shows_the_threshold_and_each_label(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table.to_csv(tmp_path / "rows.csv", index=False)
    fit = ["fit", "rows.csv", "--target", "mood", "--inputs", "review", "--backbone", "builtin:nano", "--out", "m"]
    short = ["--set", "max_steps=2", "--split", "60/40/0", "--quiet", "--positive", "good"]
    assert run(*fit, *short, "--threshold", "cost", "--cost", "1,9").code == 0
    done = run("evaluate", "m", "rows.csv", "--per-label", "--json", "scores.json", "--quiet")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert done.code == 0
    assert "Threshold: 'good' is answered from the probability" in done.stdout
    assert "Were the probabilities right, it would be 0.100." in done.stdout
    assert "average precision" in done.stdout
    assert [line["label"] for line in scores["per_label"]] == ["bad", "good"]
    assert scores["threshold"]["cost"] == [1.0, 9.0]
    assert "Threshold" not in run("evaluate", "m", "rows.csv", "--no-threshold", "--quiet").stdout
    again = [*fit, "--overwrite"]
    assert "Expected the costs of a false positive" in refused(*again, "--threshold", "cost")
    assert "found them with threshold 'f1'" in refused(*again, "--threshold", "f1", "--cost", "1,2")
    assert "such as 1,5" in refused(*again, "--threshold", "cost", "--cost", "1")
    assert "Expected one of two labels as the positive one" in refused(*again, "--positive", "fine")
    stars = ["fit", "rows.csv", "--target", "stars", "--inputs", "review", "--backbone", "builtin:nano", "--out", "n"]
    assert "Expected one target of two labels with a threshold" in refused(*stars, "--threshold", "f1")


def test_the_estimator_and_a_validation_part_of_one_label(table: pd.DataFrame, tmp_path: Path) -> None:
    moods = PredGenClassifier(
        threshold="youden", max_steps=2, backbone="builtin:nano", device="cpu", split=(0.6, 0.4, 0)
    )
    moods.fit(table["review"].tolist(), table["mood"])
    answers, shares = moods.predict(table["review"].tolist()), moods.predict_proba(table["review"].tolist())
    threshold = moods.model_.record["threshold"]["threshold"]
    assert answers.tolist() == np.where(shares[:, 0] >= threshold, "bad", "good").tolist()
    table[table["mood"] == "good"].head(10).to_csv(tmp_path / "good.csv")
    with pytest.warns(predgen.UntunedThresholdsWarning, match="do not have both labels"):
        fitted = predgen.fit(table, "mood", validation=str(tmp_path / "good.csv"), threshold="f1", max_steps=2, **FAST)
    assert fitted.config.model.threshold == "none"
    assert fitted.contents.answering.thresholds == (None,)


def test_only_a_threshold_of_two_labels_is_taken(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="free decoding"):
        predgen.fit(table, "mood", threshold="f1", method="generator", decoding="free", **FAST)
    assert torch.is_grad_enabled()
