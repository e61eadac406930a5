"""Tuning: equal trials for every method, chosen on validation rows, the same whether interrupted or not."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import predgen
from predgen.adapters import TUNED_HEAD_LEARNING_RATE
from predgen.errors import DivergenceError, TrainingError
from predgen.experiments import results, tuning
from predgen.measures.statistics import bootstrap
from predgen.names import PEFT_METHODS
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "bootstrap", partial(bootstrap, resamples=5))


def trials_of(folder: Path, method: str) -> list[dict[str, Any]]:
    paths = sorted(folder.glob(f"{method}-trial*.json"), key=lambda path: int(path.stem.rpartition("trial")[2]))
    return [json.loads(path.read_text()) for path in paths]


@pytest.mark.slow
def test_every_method_gets_the_same_number_of_trials_and_its_best_one(tmp_path: Path) -> None:
    methods = ["predictor", "generator", "predgen"]
    found = predgen.compare(reviews(40), "stars", methods=methods, trials=3, runs=tmp_path / "runs", **SMALL)
    for method in methods:
        trials = trials_of(tmp_path / "runs", method)
        assert len(trials) == 3
        first = trials[0]["settings"]
        assert first["train.learning_rate"] == pytest.approx(PEFT_METHODS["lora"].learning_rate(256, method))
        if method == "generator":
            assert set(first) == {"train.learning_rate"}
        else:
            assert first["train.head_learning_rate"] == pytest.approx(TUNED_HEAD_LEARNING_RATE)
        for trial in trials[1:]:
            for name, value in trial["settings"].items():
                assert first[name] / 5.001 <= value <= first[name] * 5.001
                assert value != first[name]
        best = min(trials, key=lambda one: one["mse"])
        assert found.tuned[method] == best["settings"]
        assert found.to_json()["methods"][method]["tuned"] == best["settings"]
        used = json.loads((tmp_path / "runs" / f"{method}-of3-seed0.json").read_text())
        assert used["settings"]["train"]["learning_rate"] == best["settings"]["train.learning_rate"]
        assert used["validation"] == best["mse"]  # the same run again
    assert "tuned" not in found.to_json()["methods"]["tfidf_linear"]


@pytest.mark.slow
def test_an_interrupted_search_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"methods": ["predictor"], "trials": 4, **SMALL, "max_steps": 1}
    whole = predgen.compare(reviews(40), "mood", **options)
    original, calls = tuning.fit_prepared, 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(tuning, "fit_prepared", dying)
    with pytest.raises(KeyboardInterrupt):
        predgen.compare(reviews(40), "mood", runs=tmp_path / "runs", **options)
    found = predgen.compare(reviews(40), "mood", runs=tmp_path / "runs", resume=True, **options)
    assert calls == 5  # two trials, the one that died, and the two that were left
    assert found.tuned == whole.tuned


def test_a_trial_that_diverges_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    original, calls = tuning.fit_prepared, 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1 or everything:
            raise error("Expected a finite loss, found nan at step 1.")
        return original(*args, **kwargs)

    monkeypatch.setattr(tuning, "fit_prepared", failing)
    options: dict[str, Any] = {"methods": ["predictor"], **SMALL, "max_steps": 1}
    everything, error = False, DivergenceError
    found = predgen.compare(reviews(40), "mood", trials=2, **options)
    assert found.tuned["predictor"]["train.learning_rate"] != pytest.approx(
        PEFT_METHODS["lora"].learning_rate(256, "predictor")
    )
    assert "The trial failed: Expected a finite loss" in caplog.text
    everything = True
    with pytest.raises(TrainingError, match=r"a trial of predictor with finite figures, found none in 2"):
        predgen.compare(reviews(40), "mood", trials=2, **options)
    error = TrainingError  # as a full disk raises: the search stops, and the trial is not held against its settings
    with pytest.raises(TrainingError, match="at step 1"):
        predgen.compare(reviews(40), "mood", trials=2, **options)


def test_what_was_fitted_without_trials_is_not_taken_for_tuned(tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ["predictor"], "runs": tmp_path / "runs", **SMALL}
    predgen.compare(reviews(40), "mood", **options)
    tuned = predgen.compare(reviews(40), "mood", trials=3, resume=True, **options).tuned["predictor"]
    for name, rate in (("predictor-seed0", None), ("predictor-of3-seed0", tuned["train.learning_rate"])):
        used = json.loads((tmp_path / "runs" / f"{name}.json").read_text())
        assert used["settings"]["train"]["learning_rate"] == rate


def test_trials_are_some_or_none() -> None:
    with pytest.raises(predgen.ConfigError, match="no trials or some, found -1"):
        predgen.compare(reviews(40), "mood", trials=-1, **SMALL)
