"""What the package says of its backbone: that nano is for trying, once; which one it is, of any other."""

from pathlib import Path
from typing import Any

import pytest

import predgen
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model
from tests.helpers.tables import reviews

QUICK: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "device": "cpu"}


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {(one.name, one.levelname) for one in caplog.records} <= {("predgen", "WARNING")}
    return [one.getMessage() for one in caplog.records]


def test_fit_says_once_that_nano_is_for_trying(caplog: pytest.LogCaptureFixture) -> None:
    predgen.fit(reviews(30), "mood", backbone="builtin:nano", quiet=True, **QUICK)
    assert messages(caplog) == []
    predgen.fit(reviews(30), "mood", backbone="builtin:nano", quiet=False, **QUICK)
    [message] = messages(caplog)
    assert "builtin:nano is a small model for trying things out" in message
    assert "Qwen/Qwen3-0.6B" in message


@pytest.mark.slow
def test_compare_says_it_once_for_all_methods(caplog: pytest.LogCaptureFixture) -> None:
    predgen.compare(reviews(30), "mood", methods=["predictor", "predgen"], quiet=False, **QUICK)
    assert ["small model for trying things out" in one for one in messages(caplog)] == [True]


def test_a_folder_is_named_and_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model("llama", len(tokenizer), max_position_embeddings=512)
    folder = save_model(tmp_path / "model", model, tokenizer)
    with caplog.at_level("INFO", logger="predgen"):
        predgen.fit(reviews(30), "mood", backbone=folder, quiet=False, **QUICK)
    said = [one.getMessage() for one in caplog.records if one.getMessage().startswith("Backbone")]
    assert said == [f"Backbone: {folder}"]
    assert {one.levelname for one in caplog.records} == {"INFO"}
