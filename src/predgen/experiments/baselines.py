"""The simple baselines that stand in every comparison, tuned on the validation part."""

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import sklearn
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from predgen.measures.base import SMALLEST_PROBABILITY, Baseline, Measure
from predgen.measures.choices import fitted_thresholds
from predgen.measures.label_set import label_log_losses

# Strengths of regularization that are tried; both grids are wide enough that their ends are not chosen on text.
RIDGE_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LOGISTIC_CS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MAX_ITERATIONS = 1000

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's answers for the test rows.

    Attributes:
        values: as `Measure.learned` returns them; the first axis is the row.
        probabilities: of each label, shape (row, label); None for numbers.
        train_seconds: tuning included.
        predict_seconds: for all test rows.
        chosen: what the validation part chose, for people.
    """

    values: np.ndarray
    probabilities: np.ndarray | None
    train_seconds: float
    predict_seconds: float
    chosen: str


def mean_or_majority(
    measure: Measure[Any], train: np.ndarray, weights: np.ndarray | None = None, *, num_rows: int
) -> BaselineResult:
    """Returns the best answer that is the same for every row: a mean, a label, the labels that most rows have.

    Args:
        measure: of the field.
        train: the training values, as `Measure.learned` returns them.
        weights: of the training rows, 1 on average; None for 1 each.
        num_rows: test rows.
    """
    start = time.perf_counter()
    value, shares, chosen = measure.constant_answer(train, np.ones(len(train)) if weights is None else weights)
    trained = time.perf_counter()
    values = np.repeat(value, num_rows, axis=0)
    probabilities = None if shares is None else np.repeat(shares, num_rows, axis=0)
    return BaselineResult(values, probabilities, trained - start, time.perf_counter() - trained, chosen)


class LinearModel(ABC):
    """A linear model of one form of answers, over features of texts.

    Args:
        strength: of the regularization.
        num_labels: how many labels there are.
        seed: of the solver.
    """

    strengths: ClassVar[tuple[float, ...]] = LOGISTIC_CS

    def __init__(self, strength: float, num_labels: int, seed: int) -> None:
        self.num_labels = num_labels
        self.model = self._model(strength, seed)

    @abstractmethod
    def _model(self, strength: float, seed: int) -> Any:
        """Returns scikit-learn's model."""

    @abstractmethod
    def fit(self, rows: Any, truth: np.ndarray, weights: np.ndarray | None) -> None:
        """Learns the answers of some rows, which may have weights."""

    @abstractmethod
    def loss(self, rows: Any, truth: np.ndarray) -> float:
        """Returns the mean loss on rows that training did not see."""

    def choose(self, rows: Any, truth: np.ndarray) -> None:
        """Chooses the remaining settings on the validation part."""
        return None

    @abstractmethod
    def answer(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the answers for some rows, and the probabilities of labels."""


class Regression(LinearModel):
    """Ridge regression of a number."""

    strengths: ClassVar[tuple[float, ...]] = RIDGE_ALPHAS

    def _model(self, strength: float, seed: int) -> Any:
        return Ridge(alpha=strength, random_state=seed)

    def fit(self, rows: Any, truth: np.ndarray, weights: np.ndarray | None) -> None:
        """Learns the numbers."""
        self.model.fit(rows, truth, sample_weight=weights)

    def loss(self, rows: Any, truth: np.ndarray) -> float:
        """Returns the mean squared error."""
        return float(np.mean((self.model.predict(rows) - truth) ** 2))

    def answer(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the numbers."""
        return np.asarray(self.model.predict(rows), dtype=np.float64), None


class Classification(LinearModel):
    """Logistic regression of a label."""

    def _model(self, strength: float, seed: int) -> Any:
        return LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, random_state=seed)

    def fit(self, rows: Any, truth: np.ndarray, weights: np.ndarray | None) -> None:
        """Learns the positions of the labels."""
        self.model.fit(rows, truth, sample_weight=weights)

    def probabilities(self, rows: Any) -> np.ndarray:
        """Returns the probability of every label, also of those that training lacks."""
        probabilities = np.full((rows.shape[0], self.num_labels), SMALLEST_PROBABILITY)
        probabilities[:, self.model.classes_] = self.model.predict_proba(rows)
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))

    def loss(self, rows: Any, truth: np.ndarray) -> float:
        """Returns the log loss in nats, over the rows whose label training saw."""
        known = np.flatnonzero(truth >= 0)
        if not len(known):
            return 0.0
        chosen = self.probabilities(rows[known])[np.arange(len(known)), truth[known]]
        return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1)).mean())

    def answer(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the likeliest labels."""
        probabilities = self.probabilities(rows)
        return probabilities.argmax(axis=1), probabilities


class SharesClassification(Classification):
    """Logistic regression of the shares of labels, by their cross-entropy."""

    def fit(self, rows: Any, truth: np.ndarray, weights: np.ndarray | None) -> None:
        """Learns each row once for each label that has a share in it, with that share as its weight."""
        shares = truth if weights is None else truth * weights[:, None]
        row, label = np.nonzero(shares > 0)
        self.model.fit(rows[row], label, sample_weight=shares[row, label])

    def loss(self, rows: Any, truth: np.ndarray) -> float:
        """Returns the mean cross-entropy in nats, over the rows whose labels training saw."""
        known = np.flatnonzero(np.isfinite(truth).all(axis=1))
        if not len(known):
            return 0.0
        logs = np.log(np.clip(self.probabilities(rows[known]), SMALLEST_PROBABILITY, 1))
        return float(-(truth[known] * logs).sum(axis=1).mean())

    def answer(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the likeliest labels, each with the whole share."""
        positions, probabilities = super().answer(rows)
        return np.eye(self.num_labels)[positions], probabilities


class Multilabel(LinearModel):
    """A logistic regression for each label of a set, with a threshold of its own."""

    def _model(self, strength: float, seed: int) -> Any:
        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, random_state=seed)
        with sklearn.config_context(enable_metadata_routing=True):
            model = model.set_fit_request(sample_weight=True)
        return OneVsRestClassifier(model)  # a label that all training rows have, or none, is constant

    def fit(self, rows: Any, truth: np.ndarray, weights: np.ndarray | None) -> None:
        """Learns the labels as columns, and one that is never there, for a single one would be two classes."""
        columns = np.column_stack([truth[:, :-1], np.zeros(len(truth))]).astype(int)
        given = {} if weights is None else {"sample_weight": weights}
        with warnings.catch_warnings(), sklearn.config_context(enable_metadata_routing=True):
            warnings.filterwarnings("ignore", "Label not .* is present in all training examples")
            self.model.fit(rows, columns, **given)

    def probabilities(self, rows: Any) -> np.ndarray:
        """Returns the probability of each label's being in the set."""
        return np.asarray(self.model.predict_proba(rows)[:, :-1])

    def loss(self, rows: Any, truth: np.ndarray) -> float:
        """Returns the mean binary cross-entropy in nats per label."""
        return float(label_log_losses(truth, self.probabilities(rows)).mean())

    def choose(self, rows: Any, truth: np.ndarray) -> None:
        """Chooses the thresholds with the best F1."""
        self.thresholds = fitted_thresholds(self.probabilities(rows), truth[:, :-1])

    def answer(self, rows: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the sets of labels whose probabilities reach their thresholds."""
        probabilities = self.probabilities(rows)
        invalid = np.zeros(len(probabilities))
        return np.column_stack([probabilities >= self.thresholds, invalid]).astype(np.float64), probabilities


LINEAR_MODELS: dict[Baseline, type[LinearModel]] = {
    "regression": Regression,
    "classification": Classification,
    "multilabel": Multilabel,
    "shares": SharesClassification,
}


def tfidf_linear(
    measure: Measure[Any],
    train_texts: Texts,
    train: np.ndarray,
    validation_texts: Texts,
    validation: np.ndarray,
    test_texts: Texts,
    weights: np.ndarray | None = None,
    *,
    seed: int,
) -> BaselineResult:
    """Returns the answers of a linear model on TF-IDF features: ridge for numbers, logistic regression for labels.

    Features (words, or words and pieces of words) and the strength of regularization are those with the least squared
    error or log loss on the validation part. Of a set each label has a regression of its own, and a threshold tuned on
    the validation part.

    Args:
        measure: of the field.
        train_texts: the input columns' texts of each training row.
        train: the training values, as `Measure.learned` returns them.
        validation_texts: of each validation row.
        validation: the validation values; −1 for a label that training lacks.
        test_texts: of each test row.
        weights: of the training rows, 1 on average; None for 1 each.
        seed: of the solver.
    """
    start = time.perf_counter()
    kind, num_labels = LINEAR_MODELS[measure.BASELINE], len(measure.field.labels)
    best: tuple[float, str, Features, LinearModel] | None = None
    for pieces in (False, True):
        features = Features(pieces)
        try:
            rows = features.fit_transform(train_texts)
        except ValueError:  # no word in any text
            continue
        held_out = features.transform(validation_texts)
        for strength in kind.strengths:
            model = kind(strength, num_labels, seed)
            model.fit(rows, train, weights)
            loss = model.loss(held_out, validation)
            if best is None or loss < best[0]:
                best = (loss, f"{'words and pieces' if pieces else 'words'}, strength {strength:g}", features, model)
    if best is None:
        return mean_or_majority(measure, train, weights, num_rows=len(test_texts))
    _, chosen, features, model = best
    model.choose(features.transform(validation_texts), validation)
    trained = time.perf_counter()
    values, probabilities = model.answer(features.transform(test_texts))
    return BaselineResult(values, probabilities, trained - start, time.perf_counter() - trained, chosen)


class Features:
    """TF-IDF of the joined columns; for several columns also how like each pair of them is.

    A bag of joined text is blind to what two sentences share, so each pair of columns adds its cosine similarity and
    its square.

    Args:
        pieces: also count pieces of words (2 to 5 letters), besides words and pairs of words.
    """

    def __init__(self, pieces: bool) -> None:
        self.vectorizers = [TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=1)]
        if pieces:
            self.vectorizers.append(
                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
            )

    def fit_transform(self, texts: Texts) -> Any:
        """Learns the vocabulary and returns the features of the training rows."""
        for vectorizer in self.vectorizers:
            vectorizer.fit([" ".join(row) for row in texts])
        return self.transform(texts)

    def transform(self, texts: Texts) -> Any:
        """Returns the features of rows, sparse, shape (row, feature)."""
        joined = [" ".join(row) for row in texts]
        blocks = [vectorizer.transform(joined) for vectorizer in self.vectorizers]
        columns = list(zip(*texts, strict=True))
        for first, second in combinations(columns, 2):
            for vectorizer in self.vectorizers:
                # Rows have length 1, so that the sum of products is the cosine.
                like = np.asarray(vectorizer.transform(first).multiply(vectorizer.transform(second)).sum(axis=1))
                blocks.append(sparse.csr_matrix(np.column_stack([like.ravel(), like.ravel() ** 2])))
        return sparse.hstack(blocks, format="csr")
