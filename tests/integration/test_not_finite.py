"""Answers that are computed from what is no number are invalid, whatever writes and chooses them."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import predgen
from predgen.measures.calibration import Calibration
from predgen.measures.label import LabelMeasure
from predgen.targets.label import Label
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}
LONG = {"low": 0.0, "high": 5.0, "decimals": 9}
FORMS: dict[str, dict[str, Any]] = {
    "predictor-label": {"target": "mood", "method": "predictor"},
    "predictor-number": {"target": "stars", "method": "predictor"},
    "generator-greedy": {"target": "stars", "method": "generator", "decoding": "greedy", "estimate": "text"},
    "generator-beam": {"target": "mood", "method": "generator", "decoding": "beam"},
    "generator-free": {"target": "mood", "method": "generator", "decoding": "free"},
    "generator-median": {"target": "stars", "method": "generator", "estimate": "median"},
    "generator-long": {"target": "stars", "method": "generator", **LONG},
    "generator-record": {"target": ["mood", "stars"], "method": "generator"},
    "predgen-label": {"target": "mood"},
    "predgen-number": {"target": "stars"},
    "predgen-states": {"target": "stars", "director_form": "states", "predict_from": "mean", "decoding": "greedy"},
}


def with_broken_rows(model: predgen.Model, token: int) -> None:
    """Lets a token's state be no number, as it is where a product overflows."""
    embeddings = model.method.backbone.model.get_input_embeddings()

    def spoil(_: Any, given: tuple[torch.Tensor], states: torch.Tensor) -> torch.Tensor:
        return states.masked_fill((given[0] == token).unsqueeze(-1), math.nan)

    embeddings.register_forward_hook(spoil)


FAST = ("predictor-label", "generator-greedy", "predgen-number")


@pytest.mark.parametrize(
    "form", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FORMS]
)
def test_a_row_whose_states_are_no_numbers_is_invalid_and_the_others_are_as_before(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, **FORMS[form]}
    target = settings.pop("target")
    model = predgen.fit(reviews(40), target, **settings)
    if form == "generator-free":  # it has not learned to write a label yet
        monkeypatch.setattr(model.method, "_read_freely", lambda tokens: ("good", "good"))
    rows = reviews(6, seed=9)
    rows.loc[2, "review"] = "A zebra."
    before = model.predict(rows)
    assert not before["invalid"].any()
    zebra = set(model.method.backbone.tokenize_prompts(["A zebra."])[0][0])
    prompts = model.method.backbone.tokenize_prompts(list(rows["review"].drop(2)))
    others = {token for tokens, _ in prompts for token in tokens}
    with_broken_rows(model, min(zebra - others))
    after = model.predict(rows)
    assert list(after["invalid"]) == [False, False, True, False, False, False]
    columns = [name for name in after.columns if name.startswith("prediction")]
    assert after.loc[2, columns].isna().all()
    assert after.drop(index=2)[columns].equals(before.drop(index=2)[columns])
    evaluation = model.evaluate(rows)
    assert evaluation.invalid_fraction == pytest.approx(1 / 6)
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_an_invalid_row_has_no_set_and_no_share_in_the_metrics_of_probabilities() -> None:
    """It counts as wrong where rows are counted, and as infinitely far off where a calibration is made."""
    truth, valid = np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    table = np.insert(valid, 1, np.nan, axis=0)
    measure = LabelMeasure(Label(("a", "b"), ("a", "b")))
    found = measure.metrics(truth, np.array([0, -1, 1, 0]), table, None)
    alone = measure.metrics(truth[[0, 2, 3]], np.array([0, 1, 0]), valid, None)
    assert found["accuracy"] == 0.75
    assert (found["log_loss"], found["ece"]) == (alone["log_loss"], alone["ece"])
    several = np.tile(table, (4, 1))  # each half of the rows has invalid ones
    calibration = measure.calibrate(np.tile(truth, 4), np.tile([0, -1, 1, 0], 4), several)
    assert 0 < calibration.temperature < math.inf
    assert calibration.scores[-2:] == (1.0, 1.0)
    assert calibration.scores[-3] < 1.0
    columns = measure.interval_columns(Calibration(1.0, (0.1,) * 20), 0.9, np.array([0, -1, 1, 0]), table)
    assert columns["set"][1] is None
    assert columns["set"][0] == "a"
    empty = measure.metrics(truth, np.full(4, -1), np.full((4, 2), np.nan), None)
    assert empty["accuracy"] == 0
    assert math.isnan(empty["log_loss"])
    assert math.isnan(empty["ece"])
