"""Baselines that learn easy tasks, are tuned on the validation part alone, and bear texts without words."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from predgen.experiments.baselines import (
    LOGISTIC_CS,
    RIDGE_ALPHAS,
    BaselineResult,
    Features,
    mean_or_majority,
    tfidf_linear,
)
from predgen.measures.base import Measure
from predgen.measures.kinds import measure_of
from predgen.targets.label import Label
from predgen.targets.number import Number
from tests.helpers.tables import reviews

WORDS = ["river", "stone", "lamp", "green", "quiet", "under", "bright", "seven", "house", "cold", "paper", "wind"]
Texts = list[tuple[str, ...]]
Part = tuple[Texts, np.ndarray]


def review_part(num_rows: int, seed: int, kind: str) -> Part:
    table = reviews(num_rows, seed)
    texts: Texts = [(text,) for text in table["review"]]
    if kind == "number":
        return texts, table["stars"].to_numpy(dtype=np.float64)
    return texts, (table["mood"] == "good").to_numpy(dtype=np.int64)


def parts_of(kind: str) -> tuple[Part, Part, Part]:
    return review_part(80, 1, kind), review_part(30, 2, kind), review_part(40, 3, kind)


def measure(kind: str, num_labels: int = 2) -> Measure[Any]:
    labels = tuple(f"label {number}" for number in range(num_labels))
    return measure_of(Number(0.0, 10.0, 2) if kind == "number" else Label(labels, labels))


def fit(train: Part, validation: Part, test_texts: Texts, kind: str, num_labels: int = 2) -> BaselineResult:
    return tfidf_linear(measure(kind, num_labels), *train, *validation, test_texts, seed=0)


def same(a: BaselineResult, b: BaselineResult, rows: slice = slice(None)) -> None:
    assert a.chosen == b.chosen
    np.testing.assert_array_equal(a.values[rows], b.values[rows])
    if a.probabilities is None or b.probabilities is None:
        assert a.probabilities is b.probabilities
    else:
        np.testing.assert_array_equal(a.probabilities[rows], b.probabilities[rows])


# ── Mean or majority ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_mean() -> None:
    found = mean_or_majority(measure("number", 0), np.array([1.0, 2.0, 6.0]), num_rows=4)
    assert found.values.tolist() == [3.0] * 4
    assert found.probabilities is None
    assert found.chosen == "mean 3"


def test_the_majority_with_the_labels_shares() -> None:
    found = mean_or_majority(measure("label", 4), np.array([2, 0, 2, 2]), num_rows=3)
    assert found.values.tolist() == [2] * 3
    assert found.probabilities is not None
    # One row of each label is added, so that none has probability 0.
    assert found.probabilities.tolist() == [[2 / 8, 1 / 8, 4 / 8, 1 / 8]] * 3
    assert found.chosen == "label 2"


# ── TF-IDF with a linear model ───────────────────────────────────────────────────────────────────────────────


def test_an_easy_label_is_learned() -> None:
    train, validation, (texts, truth) = parts_of("label")
    found = fit(train, validation, texts, "label")
    assert np.mean(found.values == truth) > 0.85 > np.mean(truth == 1) + 0.1
    assert found.probabilities is not None
    assert found.probabilities.shape == (40, 2)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(found.values, found.probabilities.argmax(axis=1))
    assert np.mean(-np.log(found.probabilities[np.arange(40), truth])) < 0.5
    assert found.train_seconds > 0 < found.predict_seconds


def test_an_easy_number_is_learned() -> None:
    train, validation, (texts, truth) = parts_of("number")
    found = fit(train, validation, texts, "number")
    assert np.mean((found.values - truth) ** 2) < 0.2 * truth.var()
    assert found.probabilities is None


@pytest.mark.parametrize("kind", ["number", "label"])
def test_the_same_rows_give_the_same_answers(kind: str) -> None:
    train, validation, (texts, _) = parts_of(kind)
    same(fit(train, validation, texts, kind), fit(train, validation, texts, kind))


@pytest.mark.parametrize("kind", ["number", "label"])
def test_other_test_rows_change_nothing_else(kind: str) -> None:
    train, validation, (texts, _) = parts_of(kind)
    others: Texts = [("words that nobody has seen " * 5,), ("",), ("good " * 50,)] * 20
    same(fit(train, validation, texts, kind), fit(train, validation, [*texts, *others], kind), slice(len(texts)))


def validation_losses(train: Part, validation: Part, kind: str, num_labels: int) -> dict[str, float]:
    """Returns the validation loss of every choice, without the baseline's own loop."""
    losses = {}
    for pieces in (False, True):
        features = Features(pieces)
        rows, held_out = features.fit_transform(train[0]), features.transform(validation[0])
        for strength in RIDGE_ALPHAS if kind == "number" else LOGISTIC_CS:
            model: Any = Ridge(alpha=strength) if kind == "number" else LogisticRegression(C=strength, max_iter=1000)
            model.fit(rows, train[1])
            if kind == "number":
                loss = np.mean((model.predict(held_out) - validation[1]) ** 2)
            else:
                assert len(model.classes_) == num_labels
                loss = -np.mean(np.log(model.predict_proba(held_out)[np.arange(len(validation[1])), validation[1]]))
            losses[f"{'words and pieces' if pieces else 'words'}, strength {strength:g}"] = float(loss)
    return losses


@pytest.mark.parametrize("kind", ["number", "label"])
def test_the_validation_part_chooses(kind: str) -> None:
    train, validation, (texts, _) = parts_of(kind)
    losses = validation_losses(train, validation, kind, 2)
    assert fit(train, validation, texts, kind).chosen == min(losses, key=lambda name: losses[name])
    # Answers at random are best met by the model that is most held back.
    noise = np.random.default_rng(0).permutation(validation[1])
    strengths = RIDGE_ALPHAS[::-1] if kind == "number" else LOGISTIC_CS
    assert fit(train, (validation[0], noise), texts, kind).chosen.endswith(f", strength {strengths[0]:g}")
    # The training rows as validation part choose the model that is least held back.
    assert fit(train, train, texts, kind).chosen.endswith(f", strength {strengths[-1]:g}")


def pairs(num_rows: int, seed: int) -> Part:
    """Returns pairs of texts and the share of words that they have in common, which no bag of both shows."""
    draw, texts, shares = random.Random(seed), [], []
    for _ in range(num_rows):
        words, others = draw.sample(WORDS, 4), draw.sample(WORDS, 4)
        num_shared = draw.randint(0, 4)
        second = words[:num_shared] + others[num_shared:]
        texts.append((" ".join(words), " ".join(second)))
        shares.append(len(set(words) & set(second)) / 4)
    return texts, np.array(shares)


def joined(part: Part) -> Part:
    return [(" ".join(row),) for row in part[0]], part[1]


def test_the_likeness_of_two_columns_is_seen() -> None:
    train, validation, test = pairs(150, 1), pairs(60, 2), pairs(80, 3)

    def error(*parts: Part) -> float:
        return float(np.mean((fit(*parts[:2], parts[2][0], "number").values - test[1]) ** 2))

    assert error(train, validation, test) < 0.15 * test[1].var()
    assert error(*map(joined, (train, validation, test))) > 0.3 * test[1].var()


@pytest.mark.parametrize("pieces", [False, True])
def test_likeness_is_the_cosine_and_its_square(pieces: bool) -> None:
    texts: Texts = [("river stone", "river stone", "lamp"), ("lamp green", "cold paper", "lamp green"), ("a b", "", "")]
    rows = Features(pieces).fit_transform([*texts, *texts]).toarray()[:3]
    num_blocks = 3 * (2 if pieces else 1)
    likeness = rows[:, -2 * num_blocks :].reshape(3, num_blocks, 2)
    np.testing.assert_allclose(likeness[..., 1], likeness[..., 0] ** 2, atol=1e-12)
    words = likeness[:, :: 2 if pieces else 1, 0]  # the pairs (1, 2), (1, 3), (2, 3)
    np.testing.assert_allclose(words, [[1, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-9)


# ── Texts and labels that are hardly there ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", "?!", "a b c", "— …"])
@pytest.mark.parametrize("kind", ["number", "label"])
def test_texts_without_words_get_the_mean_or_the_majority(text: str, kind: str) -> None:
    truth: np.ndarray = np.array([0, 1, 1, 1]) if kind == "label" else np.array([0.0, 1.0, 1.0, 2.0])
    texts: Texts = [(text,)] * 4
    found = fit((texts, truth), (texts, truth), texts[:3], kind)
    simple = mean_or_majority(measure(kind, 2), truth, num_rows=3)
    assert found.values.shape == (3,)
    np.testing.assert_allclose(found.values, simple.values)
    if kind == "label":
        assert found.probabilities is not None
        assert (found.probabilities.argmax(axis=1) == 1).all()


def test_a_test_row_without_known_words_has_an_answer() -> None:
    train, validation, _ = parts_of("label")
    found = fit(train, validation, [("",), ("zzz",)], "label")
    assert found.probabilities is not None
    assert np.isfinite(found.probabilities).all()


def test_validation_labels_that_training_lacks_do_not_count() -> None:
    train, (texts, truth), (test_texts, _) = parts_of("label")
    more: Part = ([*texts, *texts[:10]], np.concatenate([truth, np.full(10, -1)]))
    same(fit(train, (texts, truth), test_texts, "label"), fit(train, more, test_texts, "label"))
    # With nothing to choose on, the first choice stands.
    none = fit(train, (texts, np.full(len(texts), -1)), test_texts, "label")
    assert none.chosen == f"words, strength {LOGISTIC_CS[0]:g}"
    assert none.probabilities is not None
    assert none.probabilities[:, 0].std() > 0


def test_a_label_without_training_rows_is_possible_and_unlikely() -> None:
    train, validation, (texts, _) = parts_of("label")
    found = fit((train[0], train[1] * 2), (validation[0], validation[1]), texts, "label", num_labels=4)
    assert found.probabilities is not None
    assert found.probabilities.shape == (40, 4)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    assert (found.probabilities[:, [1, 3]] > 0).all()
    assert (found.probabilities[:, [1, 3]] < 1e-9).all()
    assert set(found.values.tolist()) <= {0, 2}


def column_of(texts: Sequence[str]) -> Texts:
    return [(text,) for text in texts]


def test_pieces_of_words_help_with_spellings() -> None:
    draw = random.Random(0)

    def part(num_rows: int) -> Part:
        truth = [draw.randrange(2) for _ in range(num_rows)]
        stems = [("splend", "gloom")[one] for one in truth]
        return column_of(["".join([stem, *draw.choices("aeioulmn", k=4)]) for stem in stems]), np.array(truth)

    train, validation, (texts, truth) = part(60), part(30), part(40)
    found = fit(train, validation, texts, "label")
    assert found.chosen.startswith("words and pieces, ")
    assert np.mean(found.values == truth) == 1
