"""The estimators: texts or a data frame in, answers out, a fitted model behind scikit-learn's interface."""

import json
from abc import abstractmethod
from datetime import date
from math import ceil, log10
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from predgen.errors import ConfigError, DataError
from predgen.experiments.choosing import fit
from predgen.models.asked import Asked
from predgen.models.model import Model
from predgen.sklearn.parameters import FOR_LABELS, FOR_NUMBERS, takes_settings
from predgen.sklearn.pickling import packed, unpacked
from predgen.tables.values import values_of
from predgen.targets.cells import label_key

# The columns of texts that have no name, of the answers, and of the rows' weights.
TEXT, ANSWER, WEIGHT = "text", "answer", "weight"
# The largest step of numbers whose decimals are not declared, in standard deviations.
FINEST = 0.01
# Some to learn from and one to choose the checkpoint on.
LEAST_ROWS = 4


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both have: rows as texts, a fitted model, an artifact where others pickle weights."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    @abstractmethod
    def _column_of(self, y: np.ndarray) -> tuple[list[Any], dict[str, Any]]:
        """Returns the column of the answers, and the settings that declare what it holds."""

    def _answers_of(self, y: Any) -> Any:
        """Returns the answers as an array of one dimension."""
        return y

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Returns the estimator, fitted.

        Args:
            X: texts, as a list, an array or a series; or a data frame, whose columns are the inputs.
            y: the answer of each row; of labels also the share of each one, shape (row, class), the classes being the
                columns of a data frame, or their positions.
            sample_weight: what each row's losses are multiplied by, at least 0; 1 each if not given.

        Raises:
            PredGenError: a parameter, a text or an answer is not right. It is a ValueError too.
        """
        framed = _framed(X)
        _, answers = validate_data(self, framed, self._answers_of(y), reset=True, dtype=None)
        table = _texts(framed)
        if len(table) < LEAST_ROWS:
            raise DataError(f"Expected at least {LEAST_ROWS} rows, found n_samples={len(table)}. Give more rows.")
        column, declared = self._column_of(answers)
        name = _free_name(ANSWER, table)
        settings = {key: value for key, value in self.get_params(deep=False).items() if value is not None}
        quiet = not settings.pop("verbose")
        if "template" not in settings:
            declared["inputs"] = list(table.columns)
        table = table.assign(**{name: column})
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, table, dtype=np.float64, ensure_non_negative=True)
            declared["weight"] = _free_name(WEIGHT, table)
            table = table.assign(**{declared["weight"]: weights})
        self.model_: Model = fit(table, [name], quiet=quiet, **declared, **settings)
        return self

    def _rows(self, X: Any) -> pd.DataFrame:
        """Returns rows to predict as the table that the model reads."""
        check_is_fitted(self, "model_")
        framed = _framed(X)
        validate_data(self, framed, reset=False, dtype=None)
        return _texts(framed)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = packed(state["model_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        artifact = state.get("model_")
        super().__setstate__({name: value for name, value in state.items() if name != "model_"})
        if artifact is not None:
            self.model_ = unpacked(artifact)


@takes_settings(*FOR_LABELS)
class PredGenClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """Labels of texts. The label's own text is what the model writes; `label_text` gives other words.

    Attributes:
        classes_: the labels, sorted.
        model_: the fitted `predgen.Model`.
        n_features_in_: the number of input columns; 1 for texts alone.
        feature_names_in_: the columns of a data frame.

    Example:
        >>> moods = PredGenClassifier(backbone="builtin:nano", max_steps=2)
        >>> moods.fit(["lovely", "sad", "bright", "dull"] * 10, ["good", "bad"] * 20).classes_.tolist()
        ['bad', 'good']
    """

    classes_: np.ndarray

    def _answers_of(self, y: Any) -> Any:
        self._shares_of: list[Any] | None = None
        if getattr(y, "ndim", 1) != 2 or y.shape[1] < 2:
            return y
        labels = y.columns if isinstance(y, pd.DataFrame) else range(y.shape[1])
        self._shares_of = list(labels)
        keys = list(map(label_key, labels))
        return np.array([json.dumps(dict(zip(keys, row, strict=True))) for row in np.asarray(y, dtype=float).tolist()])

    def _column_of(self, y: np.ndarray) -> tuple[list[str], dict[str, Any]]:
        shares_of = self._shares_of
        del self._shares_of
        if shares_of is None:
            check_classification_targets(y)
        self.classes_ = np.unique(y if shares_of is None else np.asarray(shares_of))
        texts = [label_key(label) for label in self.classes_]
        if len(set(texts)) < len(texts):
            raise DataError(f"Expected labels with different texts, found {texts}. Write them as texts.")
        if len(texts) < 2:
            raise DataError(f"Expected at least two classes in y, found one class, '{texts[0]}'. Add rows of another.")
        if shares_of is not None:
            return list(map(str, y)), {"kind": "distribution", "labels": texts}
        return [label_key(label) for label in y], {"kind": "label", "labels": texts}

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probability of each class, shape (row, class), the classes in the order of `classes_`."""
        rows = self._rows(X)
        answers = self.model_.answers(self.model_.encode(rows), Asked(probabilities=True))
        assert answers.probabilities is not None
        (field,) = self.model_.target.fields.values()
        keys = [label_key(label) for label in field.labels]
        order = [keys.index(label_key(label)) for label in self.classes_]
        found = np.asarray(answers.probabilities[:, order].double().numpy())
        # They come in float32, and scikit-learn's losses want rows of float64 to sum up to 1.
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """Returns the label of each row: where probabilities come with the answer, the most probable one."""
        rows = self._rows(X)
        answers = self.model_.answers(self.model_.encode(rows))
        known = {label_key(label): label for label in self.classes_}
        (field,) = self.model_.target.fields.values()
        labels = map(field.cell, answers.values)
        return np.asarray([known[label_key(label)] for label in labels], dtype=self.classes_.dtype)

    def predict_set(self, X: Any, alpha: float = 0.1) -> np.ndarray:
        """Returns which classes may be right, shape (row, class): the right one is among them with 1 − alpha.

        Args:
            X: the rows.
            alpha: the share of rows whose set may miss the right class.

        Raises:
            ConfigError: the estimator was fitted without `calibration`, or on too few rows.
        """
        found = self.model_.predict(self._rows(X), interval=_level(alpha))["set"]
        return np.asarray([[label_key(label) in text.split("|") for label in self.classes_] for text in found])


@takes_settings(*FOR_NUMBERS)
class PredGenRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """Numbers of texts.

    A number is written digit by digit. Where `decimals` is not given, y is rounded to so many decimals that a step is
    at most a hundredth of its standard deviation. Where `number_format` is given, y holds texts of that format, also
    in `score`.

    Attributes:
        model_: the fitted `predgen.Model`.
        n_features_in_: the number of input columns; 1 for texts alone.
        feature_names_in_: the columns of a data frame.
    """

    def _column_of(self, y: np.ndarray) -> tuple[list[Any], dict[str, Any]]:
        if self.number_format is not None:  # texts, which are read as any table's
            return y.tolist(), {"kind": "number"}
        if np.asarray(y).dtype.kind in "Mm" or any(isinstance(cell, date) for cell in np.asarray(y).tolist()):
            raise DataError("Expected numbers in y, found dates. Fit them with predgen.fit(…, kind='date').")
        numbers = np.asarray(y, dtype=np.float64)
        declared: dict[str, Any] = {"kind": "number"}
        spread = float(numbers.std())
        if self.decimals is None and self.number_form is None and spread > 0:
            decimals = max(0, ceil(-log10(FINEST * spread)))
            numbers = np.round(numbers, decimals)
        return [float(number) for number in numbers], declared

    def predict(self, X: Any) -> np.ndarray:
        """Returns the number of each row."""
        rows = self._rows(X)
        answers = self.model_.answers(self.model_.encode(rows))
        return np.asarray([np.nan if value is None else float(value) for value in answers.values])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Returns R² of the answers; y is written as in `fit`.

        Args:
            X: the rows.
            y: the true answers.
            sample_weight: of each row; 1 each if not given.

        Raises:
            DataError: an answer is no number of the format.
        """
        check_is_fitted(self, "model_")
        if self.number_format is not None:
            target, column = self.model_.target, np.asarray(y, dtype=object)
            y = values_of(target, pd.DataFrame({ANSWER: column}), (ANSWER,))
        return float(super().score(X, y, sample_weight))

    def predict_interval(self, X: Any, alpha: float = 0.1) -> np.ndarray:
        """Returns the low and the high end for each row, shape (row, 2), with the truth between them with 1 − alpha.

        An open end is infinite.

        Args:
            X: the rows.
            alpha: the share of rows whose interval may miss the truth.

        Raises:
            ConfigError: the estimator was fitted without `calibration`, or on too few rows.
        """
        found = self.model_.predict(self._rows(X), interval=_level(alpha))
        low = pd.to_numeric(found["low"]).fillna(-np.inf)
        return np.column_stack([low, pd.to_numeric(found["high"]).fillna(np.inf)]).astype(np.float64)


def _free_name(name: str, table: pd.DataFrame) -> str:
    """Returns a name that no column has."""
    while name in table.columns:
        name += "_"
    return name


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ConfigError(f"Expected alpha between 0 and 1, found {alpha}.")
    return 1 - alpha


def _framed(X: Any) -> Any:
    """Returns texts alone as a table of one column; tables and arrays of two dimensions as they are."""
    if isinstance(X, pd.Series):
        return X.to_frame(TEXT).reset_index(drop=True).to_numpy(dtype=object)
    if isinstance(X, list | tuple) and all(isinstance(text, str) for text in X):
        return np.asarray(X, dtype=object).reshape(-1, 1)
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "OUS":
        return X.astype(object).reshape(-1, 1)
    return X


def _texts(framed: Any) -> pd.DataFrame:
    """Returns the cells as texts, the columns named."""
    if isinstance(framed, pd.DataFrame):
        table = framed.reset_index(drop=True).astype(object)
        table.columns = table.columns.map(str)
    else:
        rows = np.asarray(framed, dtype=object)
        names = [TEXT] if rows.shape[1] == 1 else [f"x{column}" for column in range(rows.shape[1])]
        table = pd.DataFrame(rows, columns=names)
    return table.map(str)
