"""What heads of numbers learn: each loss with each method, saved and loaded; refused where there is no number."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import predgen
from tests.helpers.commands import refused
from tests.helpers.tables import reviews

FAST: dict[str, Any] = {"inputs": "review", "quiet": True, "max_steps": 3, "batch_size": 8}
FORMS: list[dict[str, Any]] = [
    {"method": "predictor"},
    {"method": "predgen", "director_form": "states"},
    {"method": "predgen", "director_form": "expectation"},
    {"method": "predgen", "director_form": "correction"},
]


@pytest.mark.parametrize("number_loss", ["huber", "quantiles"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path, form: dict[str, Any], number_loss: str) -> None:
    table = reviews(40)
    model = predgen.fit(table, "stars", out=tmp_path / "model", number_loss=number_loss, **form, **FAST)
    rows = table.head(7)[["review"]]
    answers = model.predict(rows)["prediction"]
    assert np.isfinite(answers).all()
    assert predgen.load(tmp_path / "model").predict(rows)["prediction"].tolist() == answers.tolist()
    usual = predgen.fit(table, "stars", **form, **FAST)
    assert usual.predict(rows)["prediction"].tolist() != answers.tolist()


def test_labels_have_no_number_loss(tmp_path: Path) -> None:
    reviews(40).to_csv(tmp_path / "reviews.csv", index=False)
    arguments = ["fit", tmp_path / "reviews.csv", "--target", "mood", "--set", "number_loss=huber"]
    assert "Expected a number to predict with number_loss 'huber'" in refused(*arguments, "--out", tmp_path / "model")
