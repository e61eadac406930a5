"""The estimators inside scikit-learn: pipelines, searches, cross-validation, calibration, pickles, its own checks."""

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import predgen
from predgen.config import SECTIONS
from predgen.errors import ConfigError, DataError
from predgen.sklearn import PredGenClassifier, PredGenRegressor
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model
from tests.helpers.tables import reviews

FAST: dict[str, Any] = {"backbone": "builtin:nano", "max_steps": 2, "batch_size": 8, "device": "cpu"}
TABLE = reviews(48)
TEXTS, MOODS, STARS = TABLE["review"].tolist(), TABLE["mood"].tolist(), TABLE["stars"].astype(float).to_numpy()


def classifier(**parameters: Any) -> PredGenClassifier:
    return PredGenClassifier(method="predictor", **FAST, **parameters)


@pytest.fixture(scope="module")
def fitted() -> PredGenClassifier:
    return classifier(calibration=0.3).fit(TEXTS, MOODS)


def test_it_answers_as_the_model_does(fitted: PredGenClassifier) -> None:
    rows = pd.DataFrame({"text": TEXTS})
    expected = fitted.model_.predict(rows, probabilities=True)
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert fitted.predict(TEXTS).tolist() == expected["prediction"].tolist()
    found = fitted.predict_proba(TEXTS)
    said = expected[["probability_bad", "probability_good"]].astype(float)
    np.testing.assert_allclose(found, said.div(said.sum(axis=1), axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert np.isfinite(get_scorer("neg_log_loss")(fitted, TEXTS, MOODS))  # which warns where they do not sum up to 1
    assert fitted.score(TEXTS, MOODS) == np.mean(expected["prediction"].to_numpy() == np.array(MOODS))
    sets = fitted.predict_set(TEXTS, alpha=0.4)
    said = fitted.model_.predict(rows, interval=0.6)["set"]
    assert sets.tolist() == [[label in text.split("|") for label in ("bad", "good")] for text in said]


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, lambda texts: np.array(texts, dtype=object)[:, None]])
def test_texts_come_in_any_form(fitted: PredGenClassifier, kind: Any) -> None:
    np.testing.assert_array_equal(fitted.predict_proba(kind(TEXTS)), fitted.predict_proba(TEXTS))


def test_labels_keep_their_type() -> None:
    numbers = classifier().fit(TEXTS, [int(mood == "good") for mood in MOODS])
    assert numbers.classes_.tolist() == [0, 1]
    assert numbers.predict(TEXTS).dtype.kind == "i"
    yes = classifier().fit(TEXTS, [mood == "good" for mood in MOODS])
    assert yes.predict(TEXTS).dtype == np.bool_
    with pytest.raises(DataError, match="different texts"):
        classifier().fit(TEXTS, ["1", "1.0"] * 24)


def test_a_frame_has_columns_by_name() -> None:
    frame = pd.DataFrame({"film": TEXTS, "length": range(48)})
    model = PredGenRegressor(**FAST, calibration=0.3).fit(frame, STARS)
    assert model.feature_names_in_.tolist() == ["film", "length"]
    assert (model.n_features_in_, model.model_.inputs) == (2, ("film", "length"))
    intervals = model.predict_interval(frame, alpha=0.5)
    numbers = model.predict(frame)
    assert intervals.shape == (48, 2)
    assert (intervals[:, 0] < intervals[:, 1]).all()
    assert np.isfinite(numbers).all()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["length", "film"]])
    with pytest.warns(UserWarning, match="feature names"), pytest.raises(ValueError, match="1 features"):
        model.predict(TEXTS)


def test_numbers_are_rounded_to_a_hundredth_of_their_spread() -> None:
    numbers = np.linspace(0, 1, 48) ** 2
    model = PredGenRegressor(**FAST).fit(TEXTS, numbers)
    (field,) = model.model_.target.fields.values()
    assert isinstance(field, predgen.Number)
    assert field.decimals == 3  # a deviation of 0.3
    (declared,) = PredGenRegressor(**FAST, decimals=1).fit(TEXTS, np.round(numbers, 1)).model_.target.fields.values()
    assert isinstance(declared, predgen.Number)
    assert declared.decimals == 1


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_a_pickle_is_the_artifact(fitted: PredGenClassifier, dump: str, tmp_path: Path) -> None:
    if dump == "pickle":
        again = pickle.loads(pickle.dumps(fitted))
    else:
        joblib.dump(fitted, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    np.testing.assert_array_equal(again.predict_set(TEXTS, 0.4), fitted.predict_set(TEXTS, 0.4))
    assert again.get_params() == fitted.get_params()
    weights = sum(weight.nbytes for weight in fitted.model_.method.parameters() if weight.requires_grad)
    assert len(pickle.dumps(fitted)) < 1.5 * weights


def test_every_setting_is_a_parameter_with_its_words() -> None:
    names = set(inspect.signature(PredGenClassifier.__init__).parameters)
    for section in ("model", "train"):
        for name, field in SECTIONS[section].model_fields.items():
            assert name in names
            assert f"    {name}: {field.description}." in (PredGenClassifier.__doc__ or "")
    assert "decimals" not in names
    assert "decimals" in PredGenRegressor().get_params()
    changed = clone(classifier(epochs=7)).set_params(lora_rank=2)
    assert (changed.epochs, changed.lora_rank) == (7, 2)
    with pytest.raises(TypeError, match="has no parameter 'epoch'"):
        PredGenClassifier(epoch=1)
    with pytest.raises(ConfigError, match="epochs"):
        classifier(epochs=-1).fit(TEXTS, MOODS)


def test_an_unfitted_one_and_one_without_calibration_say_so(fitted: PredGenClassifier) -> None:
    with pytest.raises(NotFittedError):
        classifier().predict(TEXTS)
    with pytest.raises(ConfigError, match="calibrated"):
        classifier().fit(TEXTS, MOODS).predict_set(TEXTS)
    with pytest.raises(ConfigError, match="alpha between 0 and 1"):
        fitted.predict_set(TEXTS, alpha=1.5)


@pytest.mark.slow
def test_it_works_inside_pipelines_searches_and_calibration() -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, classifier())
    search = GridSearchCV(pipeline, {"predgenclassifier__learning_rate": [1e-4, 1e-2]}, cv=2).fit(TEXTS, MOODS)
    assert search.best_params_["predgenclassifier__learning_rate"] in (1e-4, 1e-2)
    assert search.predict(TEXTS).shape == (48,)
    columns = ColumnTransformer([("film", "passthrough", ["film"])]).set_output(transform="pandas")
    frame = pd.DataFrame({"film": TEXTS, "other": "x"})
    chosen = make_pipeline(columns, classifier()).fit(frame, MOODS)
    assert chosen[-1].feature_names_in_.tolist() == ["film__film"]
    found = cross_val_predict(classifier(), TEXTS, MOODS, cv=2, method="predict_proba")
    assert found.shape == (48, 2)
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(np.array(TEXTS, dtype=object), MOODS)
    np.testing.assert_allclose(calibrated.predict_proba(TEXTS).sum(axis=1), 1)


# What scikit-learn's own checks find otherwise, and why that is right.
NAMES_ARE_READ = "a data frame's column names are part of the prompt"
LEARNS_LITTLE = "one step over numbers written as texts learns nothing"
DRAWS = "the validation part and the batches are drawn from the rows, and other rows are drawn where some are copied"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (
            PredGenClassifier,
            {
                "check_classifier_data_not_an_array": NAMES_ARE_READ,
                "check_classifiers_train": LEARNS_LITTLE,
                "check_sample_weight_equivalence_on_dense_data": DRAWS,
            },
        ),
        (
            PredGenRegressor,
            {
                "check_regressor_data_not_an_array": NAMES_ARE_READ,
                "check_regressors_train": LEARNS_LITTLE,
                "check_sample_weight_equivalence_on_dense_data": DRAWS,
            },
        ),
    ],
)
def test_check_estimator(tmp_path: Path, estimator: Any, expected: dict[str, str]) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model("llama", len(tokenizer), max_position_embeddings=512)
    backbone = save_model(tmp_path / "llama", model, tokenizer)
    settings = {**FAST, "max_steps": 1, "batch_size": 16, "eval_batch_size": 512, "method": "predictor"}
    settings |= {"backbone": backbone}
    found = check_estimator(estimator(**settings), expected_failed_checks=expected, on_skip=None)
    assert sum(result["status"] == "passed" for result in found) > 40
    assert {result["check_name"] for result in found if result["status"] == "xfail"} <= set(expected)


# ---- cards of skops


def test_skops_makes_a_card_of_a_fitted_estimator(fitted: PredGenClassifier, tmp_path: Path) -> None:
    card = pytest.importorskip("skops.card").Card(fitted)
    card.add_metrics(accuracy=0.75)
    card.save(tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| +(\w+) +\| +(.+?) +\|$", text, flags=re.MULTILINE))
    assert (shown["accuracy"], shown["backbone"], shown["batch_size"]) == ("0.75", "builtin:nano", "8")
    assert set(fitted.get_params()) <= set(shown)
    assert "PredGenClassifier" in text
