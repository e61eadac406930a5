"""The simple baselines that stand in every comparison, tuned on the validation part."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from predgen.measures.choices import HALF, fitted_thresholds
from predgen.measures.metrics import SMALLEST_PROBABILITY, per_row_losses

# Strengths of regularization that are tried; both grids are wide enough that their ends are not chosen on text.
RIDGE_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LOGISTIC_CS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
MAX_ITERATIONS = 1000

Texts = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's answers for the test rows.

    Attributes:
        values: numbers, or label positions, shape (row,); or sets as `predgen.measures.metrics.set_metrics` takes them.
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


def mean_or_majority(train: np.ndarray, *, num_rows: int, kind: str, num_labels: int) -> BaselineResult:
    """Returns the training mean for every row, or the most frequent label with the labels' shares as probabilities.

    Of a set, the labels that most rows have.

    Args:
        train: training numbers or label positions, shape (row,), or sets, shape (row, label + 1).
        num_rows: test rows.
        kind: `number`, `label` or `set`.
        num_labels: how many labels.
    """
    start = time.perf_counter()
    if kind == "set":
        shares = (train[:, :-1].sum(axis=0) + 1) / (len(train) + 2)
        return _sets(np.tile(shares, (num_rows, 1)), np.full(num_labels, HALF), start, start, "shares")
    mean = train.mean()
    # One imaginary row of each label, so that no label has probability 0.
    counts = np.bincount(train, minlength=num_labels) + 1.0 if kind == "label" else None
    trained = time.perf_counter()
    if counts is None:
        values, probabilities, chosen = np.full(num_rows, mean), None, f"mean {mean:.4g}"
    else:
        values, chosen = np.full(num_rows, int(counts.argmax())), f"label {counts.argmax()}"
        probabilities = np.tile(counts / counts.sum(), (num_rows, 1))
    return BaselineResult(values, probabilities, trained - start, time.perf_counter() - trained, chosen)


def tfidf_linear(
    train_texts: Texts,
    train: np.ndarray,
    validation_texts: Texts,
    validation: np.ndarray,
    test_texts: Texts,
    *,
    kind: str,
    num_labels: int,
    seed: int,
) -> BaselineResult:
    """Returns the answers of a linear model on TF-IDF features: ridge for numbers, logistic regression for labels.

    Features (words, or words and pieces of words) and the strength of regularization are those with the least squared
    error or log loss on the validation part. Of a set each label has a regression of its own, and a threshold tuned on
    the validation part.

    Args:
        train_texts: the input columns' texts of each training row.
        train: training numbers or label positions, or sets.
        validation_texts: of each validation row.
        validation: validation numbers or label positions, or sets; −1 for a label that training lacks.
        test_texts: of each test row.
        kind: `number`, `label` or `set`.
        num_labels: how many labels.
        seed: of the solver.
    """
    start = time.perf_counter()
    best: tuple[float, str, Any, Any] | None = None
    known = validation >= 0 if kind == "label" else np.ones(len(validation), dtype=bool)
    for pieces in (False, True):
        features = Features(pieces)
        try:
            rows = features.fit_transform(train_texts)
        except ValueError:  # no word in any text
            continue
        held_out = features.transform(validation_texts)[known]
        for strength in RIDGE_ALPHAS if kind == "number" else LOGISTIC_CS:
            model: Any = (
                Ridge(alpha=strength, random_state=seed)
                if kind == "number"
                else LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, random_state=seed)
            )
            if kind == "set":
                model = OneVsRestClassifier(model)  # a label that all training rows have, or none, is constant
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Label not .* is present in all training examples")
                model.fit(rows, _columns(train) if kind == "set" else train)
            loss = _loss(model, held_out, validation[known], kind, num_labels)
            if best is None or loss < best[0]:
                best = (loss, f"{'words and pieces' if pieces else 'words'}, strength {strength:g}", features, model)
    if best is None:
        return mean_or_majority(train, num_rows=len(test_texts), kind=kind, num_labels=num_labels)
    _, chosen, features, model = best
    thresholds = np.zeros(num_labels)
    if kind == "set":
        thresholds = fitted_thresholds(
            model.predict_proba(features.transform(validation_texts))[:, :-1], validation[:, :-1]
        )
    trained = time.perf_counter()
    test_rows = features.transform(test_texts)
    if kind == "set":
        return _sets(model.predict_proba(test_rows)[:, :-1], thresholds, start, trained, chosen)
    if kind == "number":
        values, probabilities = np.asarray(model.predict(test_rows), dtype=np.float64), None
    else:
        probabilities = _probabilities(model, test_rows, num_labels)
        values = probabilities.argmax(axis=1)
    return BaselineResult(values, probabilities, trained - start, time.perf_counter() - trained, chosen)


def _columns(sets: np.ndarray) -> np.ndarray:
    """Returns the labels of sets as columns, and one that is never there, for a single one would be two classes."""
    return np.column_stack([sets[:, :-1], np.zeros(len(sets))]).astype(int)


def _sets(
    probabilities: np.ndarray, thresholds: np.ndarray, start: float, trained: float, chosen: str
) -> BaselineResult:
    """Returns the sets of labels whose probabilities reach their thresholds."""
    values = np.column_stack([probabilities >= thresholds, np.zeros(len(probabilities))]).astype(np.float64)
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


def _probabilities(model: Any, rows: Any, num_labels: int) -> np.ndarray:
    """Returns the probability of every label, also of those that training lacks."""
    probabilities = np.full((rows.shape[0], num_labels), SMALLEST_PROBABILITY)
    probabilities[:, model.classes_] = model.predict_proba(rows)
    normalized: np.ndarray = probabilities / probabilities.sum(axis=1, keepdims=True)
    return normalized


def _loss(model: Any, rows: Any, truth: np.ndarray, kind: str, num_labels: int) -> float:
    if not len(truth):
        return 0.0
    if kind == "number":
        return float(np.mean((model.predict(rows) - truth) ** 2))
    if kind == "set":
        return float(per_row_losses(kind, truth, truth, model.predict_proba(rows)[:, :-1])["label_log_loss"].mean())
    chosen = _probabilities(model, rows, num_labels)[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1)).mean())
