"""What notebooks show: results as data frames and tables, and callbacks of one's own."""

from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import predgen
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {
    "inputs": ["review"],
    "batch_size": 8,
    "max_steps": 3,
    "quiet": True,
    "device": "cpu",
    "backbone": "builtin:nano",
}


class Steps(TrainerCallback):  # type: ignore[misc]
    """Remembers the steps, and stops after the second."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seen.append(state.global_step)
        control.should_training_stop = state.global_step == 2


def test_callbacks_are_called_and_may_stop_a_run() -> None:
    steps = Steps()
    model = predgen.fit(reviews(40), "stars", callbacks=[steps], **SMALL)
    assert steps.seen == [1, 2]
    assert model.record["steps"] == 2
    with pytest.raises(predgen.ConfigError, match="no callbacks with the method auto"):
        predgen.fit(reviews(40), "stars", callbacks=[steps], method="auto", **SMALL)


def test_results_are_data_frames_and_tables() -> None:
    comparison = predgen.compare(reviews(60), "stars", methods=["predictor"], baselines=["mean_or_majority"], **SMALL)
    shown = comparison.to_json()
    frame = comparison.to_frame()
    assert list(frame.index) == ["mean_or_majority", "predictor"]
    for name, result in shown["methods"].items():
        assert frame.loc[name, "mse"] == result["metrics"]["mse"]
        assert [frame.loc[name, "mse_low"], frame.loc[name, "mse_high"]] == result["ci95"]["mse"]
        assert frame.loc[name, "train_seconds"] == result["train_seconds"]
    tests = comparison.tests_frame()
    assert len(tests) == len(shown["tests"])
    assert [tests["low"][0], tests["high"][0]] == shown["tests"][0]["ci95"]
    assert "predictor" in comparison._repr_html_()

    model = predgen.fit(reviews(60), "mood", **SMALL)
    evaluation = model.evaluate(reviews(20, seed=3))
    frame = evaluation.to_frame()
    assert frame.loc["accuracy", "value"] == evaluation.metrics["accuracy"]
    assert (frame["rows"] == 20).all()
    assert np.isfinite(frame[["low", "high"]].to_numpy()).all()
    assert "accuracy" in evaluation._repr_html_()
    assert all(text in model._repr_html_() for text in ("mood", "review", "builtin:nano", "predgen"))
