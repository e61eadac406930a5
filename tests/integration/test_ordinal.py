"""A kind that four small files and a line in each table add: it is fitted, asked, calibrated and compared."""

from pathlib import Path

import pandas as pd
import pytest

import predgen
from predgen.targets.ordinal import Ordinal
from tests.helpers.tables import reviews

pytestmark = pytest.mark.slow
SETTINGS = {"kind": "ordinal", "labels": "poor,fair,good", "inputs": "review", "quiet": True}


def graded(num_rows: int, seed: int = 0) -> pd.DataFrame:
    table = reviews(num_rows, seed)
    grades = ["poor" if stars < 2 else "fair" if stars < 3 else "good" for stars in table["stars"]]
    return table[["review"]].assign(grade=grades)


@pytest.mark.parametrize("method", ["predictor", "generator", "predgen"])
def test_an_ordinal_target_is_fitted_saved_and_asked(tmp_path: Path, method: str) -> None:
    source = {"predict_from": "stack"} if method == "predgen" else {}
    model = predgen.fit(
        graded(120), target="grade", out=tmp_path / "model", method=method, max_steps=6, calibration=0.2,
        **SETTINGS, **source,
    )  # fmt: skip
    assert isinstance(model.target, Ordinal)
    assert model.target.values == ("poor", "fair", "good")
    loaded = predgen.load(tmp_path / "model")
    asked = graded(20, seed=1)[["review"]]
    answers = loaded.predict(asked, probabilities=True, interval=0.8)
    pd.testing.assert_frame_equal(answers, model.predict(asked, probabilities=True, interval=0.8))
    assert set(answers["prediction"]) <= set(model.target.values)
    assert answers[[f"probability_{grade}" for grade in model.target.values]].sum(axis=1).tolist() == pytest.approx(
        [1.0] * 20
    )
    evaluation = loaded.evaluate(graded(40, seed=2), interval=0.8)
    assert {"accuracy", "mae_ranks", "quadratic_kappa", "log_loss", "coverage", "set_size"} <= set(evaluation.metrics)
    assert evaluation.reliability


def test_an_ordinal_field_of_a_record_is_compared() -> None:
    table = graded(90).assign(stars=reviews(90)["stars"].astype(float))
    fields = {"grade": {"kind": "ordinal", "labels": ["poor", "fair", "good"]}}
    comparison = predgen.compare(
        table, target=["grade", "stars"], methods=["predictor", "predgen"], fields=fields, inputs="review", max_steps=3,
        quiet=True,
    ).to_json()  # fmt: skip
    for method in ("mean_or_majority", "tfidf_linear", "predictor", "predgen"):
        metrics = comparison["methods"][method]["metrics"]
        assert {"relative_error", "grade.mae_ranks", "grade.quadratic_kappa", "stars.mse"} <= set(metrics)
    assert comparison["methods"]["tfidf_linear"]["metrics"]["grade.mae_ranks"] < 0.5
