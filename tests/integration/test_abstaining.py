"""Models that answer only where few answers are wrong: predictions, evaluations, calibrations, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import predgen
from predgen import ConfigError, Model
from predgen.measures.abstaining import abstaining
from predgen.models.evaluating import calibrations_from
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

FAST: dict[str, Any] = {"inputs": ["review"], "quiet": True, "device": "cpu", "backbone": "builtin:nano"}
SPLIT = {"split": "50/10/40"}


pytestmark = pytest.mark.usefixtures("few_resamples")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return reviews(150, seed=4)


@pytest.fixture(scope="module")
def moods(table: pd.DataFrame, tmp_path_factory: Any) -> tuple[Model, Path]:
    out = tmp_path_factory.mktemp("moods") / "model"
    model = predgen.fit(table, "mood", max_steps=12, **SPLIT, **FAST)
    model.calibrate(table)
    model.save(out)
    return model, out


@pytest.fixture(scope="module")
def stars(table: pd.DataFrame, tmp_path_factory: Any) -> tuple[Model, Path]:
    out = tmp_path_factory.mktemp("stars") / "model"
    model = predgen.fit(table, "stars", method="generator", decimals=1, low=0, high=5, max_steps=2, **SPLIT, **FAST)
    model.calibrate(table)
    model.save(out)
    return model, out


@pytest.fixture(params=["moods", "stars"])
def asked(request: Any) -> tuple[Model, dict[str, Any]]:
    """A model, and a risk at which it answers some rows and abstains from others, near that of all rows."""
    model: Model = request.getfixturevalue(request.param)[0]
    (calibration,) = model.contents.calibrations.values()
    if request.param == "stars":  # barely trained: its spread says nothing of its errors, so they are made to follow it
        ranks = np.argsort(np.argsort([-score for score in calibration.sureness]))
        learned = replace(calibration, errors=tuple(np.sort(calibration.errors)[ranks].tolist()))
        model = Model(model.method, replace(model.contents, calibrations={"": learned}))
        calibration = learned
    scores, errors = np.array(calibration.sureness), np.array(calibration.errors)
    tolerance = 0.0 if request.param == "moods" else float(np.quantile(errors, 0.5))
    for risk in np.arange(0.02, 0.9, 0.005).tolist():
        chosen = abstaining(scores, errors > tolerance * (1 + 1e-9), risk=risk, delta=0.05)
        if 0 < chosen.rows < len(scores):
            return model, {"abstain_risk": risk, **({"abstain_error": tolerance} if request.param == "stars" else {})}
    raise AssertionError("no risk at which some rows are answered")


def test_given_answers_are_those_of_a_prediction_of_all_rows(
    asked: tuple[Model, dict[str, Any]], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, risk = asked
    plain = model.predict(table)
    times = []
    answers_each = Model.answers_each
    monkeypatch.setattr(Model, "answers_each", lambda *given: times.append(1) or answers_each(*given))
    found = model.predict(table, **risk)
    assert times == [1]
    abstained = found.pop("abstained")
    assert 0 < abstained.sum() < len(table)
    assert found["prediction"].isna().tolist() == abstained.tolist()
    pd.testing.assert_frame_equal(found[~abstained], plain[~abstained])
    pd.testing.assert_frame_equal(found.drop(columns="prediction"), plain.drop(columns="prediction"))


def test_an_evaluation_has_the_risk_of_the_rows_that_are_answered(
    asked: tuple[Model, dict[str, Any]], table: pd.DataFrame
) -> None:
    model, risk = asked
    answered = ~model.predict(table, **risk)["abstained"].to_numpy()
    predicted = model.predict(table)["prediction"]
    if "abstain_error" in risk:
        errors = np.abs(predicted.astype(float) - table["stars"].astype(float)).to_numpy()
        wrong = errors > risk["abstain_error"] * (1 + 1e-9)
    else:
        wrong = (predicted != table["mood"]).to_numpy()
    plain, found = model.evaluate(table), model.evaluate(table, **risk)
    expected = {"answered_share": answered.mean(), "risk_answered": wrong[answered].mean(), "risk_all": wrong.mean()}
    assert list(found.metrics) == [*plain.metrics, *expected]
    assert found.metrics == pytest.approx({**plain.metrics, **expected}, rel=1e-6)
    assert list(found.ci95)[: len(plain.ci95)] == list(plain.ci95)
    for name, ends in plain.ci95.items():
        assert found.ci95[name] == pytest.approx(ends, rel=1e-6)
    for name in ("answered_share", "risk_all"):
        assert found.ci95[name][0] < found.metrics[name] < found.ci95[name][1]
    low, high = found.ci95["risk_answered"]
    assert low <= found.metrics["risk_answered"] <= high
    assert found.metric_rows["risk_answered"] == answered.sum()
    facts = found.to_json()["abstaining"]
    assert facts["bound"] <= risk["abstain_risk"]
    assert facts["calibration_rows_answered"] == pytest.approx(answered.sum(), abs=2)  # padding rounds otherwise
    weights = np.random.default_rng(0).integers(1, 4, len(table))
    weighed = model.evaluate(table.assign(trust=weights), weight="trust", **risk).metrics
    assert weighed["answered_share"] == pytest.approx(np.average(answered, weights=weights))
    assert weighed["risk_answered"] == pytest.approx(np.average(wrong[answered], weights=weights[answered]))
    assert weighed["risk_all"] == pytest.approx(np.average(wrong, weights=weights))


def test_a_calibration_learns_the_same_with_and_without_the_spread(
    stars: tuple[Model, Path], table: pd.DataFrame
) -> None:
    model = stars[0]
    (calibration,) = calibrations_from(model, table).values()
    off = np.abs(model.predict(table)["prediction"] - table["stars"].astype(float))  # asked for no spread
    assert calibration.scores == tuple(np.sort(off).tolist())
    assert len(calibration.sureness) == len(calibration.errors) == len(table)
    assert calibration == next(iter(predgen.load(stars[1]).contents.calibrations.values()))


@pytest.mark.parametrize("name", ["moods", "stars"])
def test_the_commands_answer_abstain_and_refuse(
    name: str, request: Any, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = request.getfixturevalue(name)[1]
    table.head(30).to_csv("rows.csv", index=False)
    error = ["--abstain-error", "5"] if name == "stars" else []
    out = ["rows.csv", "--out", "answers.csv", "--overwrite", "--quiet"]
    done = run("predict", folder, *out, "--abstain-risk", "0.9", *error)
    assert (done.code, "of the answers are wrong (0.9 was asked for)" in done.stdout) == (0, True)
    assert not pd.read_csv("answers.csv")["abstained"].any()
    done = run("predict", folder, *out, "--abstain-risk", "0.001", *error)
    assert "Every row is abstained" in done.stdout
    assert pd.read_csv("answers.csv")["abstained"].all()
    text = ["--text", "A lovely film.", "--quiet", "--abstain-risk"]
    assert run("predict", folder, *text, "0.001", *error).stdout.strip() == "abstained"
    assert "abstained" not in run("predict", folder, *text, "0.9", *error).stdout
    done = run("evaluate", folder, "rows.csv", "--abstain-risk", "0.001", *error, "--quiet", "--json", "scores.json")
    assert "Every row is abstained" in done.stdout
    scores = json.loads(Path("scores.json").read_text())
    assert (scores["metrics"]["answered_share"], scores["metrics"]["risk_answered"]) == (0.0, None)
    new = ["rows.csv", "--out", "new.csv"]
    for command in (["predict", folder, *new], ["evaluate", folder, "rows.csv"]):
        assert "abstain_risk between 0 and 1" in refused(*command, "--abstain-risk", "1", *error)
        assert "Expected abstain_risk with abstain_error" in refused(*command, "--abstain-error", "1")
        other = [] if error else ["--abstain-error", "1"]
        assert "Expected abstain_error" in refused(*command, "--abstain-risk", "0.1", *other)
    assert not Path("new.csv").exists()


def test_an_artifact_without_the_scores_loads_and_says_what_to_run(
    stars: tuple[Model, Path], table: pd.DataFrame, tmp_path: Path
) -> None:
    model = predgen.load(stars[1])
    old = {name: replace(one, sureness=(), errors=()) for name, one in model.contents.calibrations.items()}
    model.contents = replace(model.contents, calibrations=old)
    model.save(tmp_path / "old")
    assert '"sureness"' not in (tmp_path / "old" / "predgen.json").read_text()
    loaded = predgen.load(tmp_path / "old")
    ends = ["low", "high"]
    expected = stars[0].predict(table.head(8), interval=0.9)[ends]
    pd.testing.assert_frame_equal(loaded.predict(table.head(8), interval=0.9)[ends], expected)
    with pytest.raises(ConfigError, match=r"without the scores of its rows\. Run predgen calibrate"):
        loaded.predict(table, abstain_risk=0.1, abstain_error=1.0)
    loaded.contents = replace(loaded.contents, calibrations={})
    with pytest.raises(ConfigError, match=r"without calibration\. Run predgen calibrate"):
        loaded.predict(table, abstain_risk=0.1, abstain_error=1.0)


def test_the_threshold_that_was_calibrated_with_must_stay(table: pd.DataFrame, tmp_path: Path) -> None:
    settings = {"threshold": "f1", "max_steps": 1, "split": "40/20/40"}
    model = predgen.fit(table, "mood", out=tmp_path / "cut", **settings, **FAST)
    model.calibrate(table)
    model.save(tmp_path / "cut", overwrite=True)
    assert predgen.load(tmp_path / "cut").predict(table.head(4), abstain_risk=0.9)["abstained"].tolist() == [False] * 4
    with pytest.raises(ConfigError, match="without the scores of its rows"):
        predgen.load(tmp_path / "cut", threshold=False).predict(table.head(4), abstain_risk=0.9)


def test_dates_count_days_and_distributions_their_largest_share(table: pd.DataFrame) -> None:
    days = [f"2021-03-{1 + int(4 * number):02d}" for number in table["stars"]]
    dated = predgen.fit(table.assign(day=days), "day", method="generator", kind="date", max_steps=1, **SPLIT, **FAST)
    some = table.assign(day=days).head(40)
    dated.calibrate(some)
    found = dated.evaluate(some, abstain_risk=0.5, abstain_error=7.0).metrics
    assert found["risk_all"] == pytest.approx(1 - found["within_7_days"])
    shares = np.where(table["mood"] == "good", 0.8, 0.1)
    rows = table.assign(good=shares, bad=1 - shares)
    spread = predgen.fit(rows, ["good", "bad"], kind="distribution", columns="shares", max_steps=1, **SPLIT, **FAST)
    spread.calibrate(rows)
    evaluated = spread.evaluate(rows, abstain_risk=0.9)
    assert evaluated.metrics["risk_all"] == pytest.approx(1 - evaluated.metrics["accuracy"])
    assert evaluated.metrics["answered_share"] > 0
    assert [line["label"] for line in evaluated.per_label] == ["bad", "good"]
    assert "error" not in evaluated.metrics


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("tags", {"kind": "set"}, "one of sets of labels"),
        (["mood", "stars"], {}, "a record of 2 columns"),
        ("stars", {"method": "predictor"}, "the predictor, whose numbers have no spread"),
    ],
)
def test_what_cannot_abstain_is_refused(table: pd.DataFrame, target: Any, settings: Any, message: str) -> None:
    tags = np.where(table["mood"] == "good", "a;b", "a")
    model = predgen.fit(table.assign(tags=tags).head(40), target, **{"max_steps": 1, **settings}, **FAST)
    with pytest.raises(ConfigError, match=message):
        model.predict(table, abstain_risk=0.1)
