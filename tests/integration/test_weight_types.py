"""The type of weights that suits a processor: measured once, chosen for large frozen backbones, and exact enough."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import predgen
from predgen.backbones import weight_types
from predgen.backbones.remembered import FOLDER_VARIABLE
from predgen.config import build_config
from predgen.training import training_run
from predgen.training.training_run import settled

FAST, SLOW = 3.0, 1.1
# How far a probability or a number (of a range of 5) may move with the batch that its row is in.
BATCH_TOLERANCE = 0.03


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))


def settings(**given: Any) -> Any:
    return build_config({"data.data": "", "data.target": "", "train.device": "cpu"}, given)


def test_a_processor_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([FAST, SLOW])
    monkeypatch.setattr(weight_types, "_measured", lambda: next(measured))
    assert [weight_types.speed_of_bfloat16() for _ in range(2)] == [FAST, FAST]
    monkeypatch.setattr(weight_types.torch, "get_num_threads", lambda: 77)
    assert weight_types.speed_of_bfloat16() == SLOW  # with other threads it is another machine
    kept = json.loads((tmp_path / "cache" / weight_types.MEASURED_FILE).read_text())
    assert sorted(kept.values()) == [SLOW, FAST]
    (tmp_path / "cache" / weight_types.MEASURED_FILE).write_text("damaged")
    monkeypatch.setattr(weight_types, "_measured", lambda: FAST)
    assert weight_types.speed_of_bfloat16() == FAST


def test_the_measurement_is_a_ratio_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.0

    def linear(left: torch.Tensor, _: torch.Tensor) -> None:
        nonlocal seconds
        seconds += {torch.float32: 6.0, torch.bfloat16: 2.0}[left.dtype]

    monkeypatch.setattr(weight_types.torch.nn.functional, "linear", linear)
    monkeypatch.setattr(weight_types.time, "perf_counter", lambda: seconds)
    assert weight_types._measured() == 3.0


@pytest.mark.parametrize(
    ("given", "width", "speed", "dtype"),
    [
        ({}, 576, FAST, "bfloat16"),
        ({}, 576, SLOW, "float32"),
        ({}, 384, FAST, "float32"),  # a small model gains nothing
        ({"peft": "none"}, 576, FAST, "float32"),  # trained weights would lose their small steps
        ({"dtype": "float16"}, 576, FAST, "float16"),
        ({"quantization": "8bit"}, 576, FAST, "float32"),
    ],
)
def test_the_type_is_chosen_for_large_frozen_backbones_and_said(
    given: dict[str, Any],
    width: int,
    speed: float,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(training_run, "width_of", lambda _: width)
    monkeypatch.setattr(training_run, "speed_of_bfloat16", lambda: speed)
    caplog.set_level(logging.INFO, "predgen")
    chosen = settled(settings(**given))
    assert chosen.model.weights_type == chosen.model.dtype == dtype
    assert ("--set dtype" in caplog.text) is (width >= 512 and not given)
    assert settled(chosen) == chosen


def test_artifacts_without_a_type_are_float32() -> None:
    assert settings().model.weights_type == "float32"


@pytest.mark.parametrize(
    "method", ["predictor", *(pytest.param(name, marks=pytest.mark.slow) for name in ("generator", "predgen"))]
)
def test_answers_in_bfloat16_do_not_depend_on_the_batch(method: str) -> None:
    texts = [f"{'a long and ' * (row % 9)}fine film, number {row}" for row in range(130)]
    table = pd.DataFrame({"text": texts, "mood": ["good", "bad"] * 65, "stars": np.arange(130) % 50 / 10})
    short = {"inputs": "text", "method": method, "dtype": "bfloat16", "max_steps": 2, "quiet": True, "device": "cpu"}
    for target, declared in (("mood", {}), ("stars", {"low": 0.0, "high": 5.0})):
        model = predgen.fit(table.head(60), target, **declared, **short)
        answers = []
        for size, rows in ((128, 130), (7, 42), (1, 18)):  # a processor without bfloat16 takes long for each row
            config = model.contents.config.changed(**{"train.eval_batch_size": size})
            model.contents = replace(model.contents, config=config)
            predicted = model.predict(table.head(rows), probabilities=target == "mood")
            column = "probability_good" if target == "mood" else "prediction"
            answers.append(predicted[column].to_numpy(dtype=float))
        for other in answers[1:]:
            assert np.abs(answers[0][: len(other)] - other).max() < BATCH_TOLERANCE
