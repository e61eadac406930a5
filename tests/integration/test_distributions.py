"""Distributions over labels: one-hot ones are labels, soft ones the expectation over them, in every loss and method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import predgen
from predgen.experiments.baselines import SharesClassification
from predgen.measures.kinds import measure_of
from predgen.methods import Batch, Method
from predgen.sklearn import PredGenClassifier
from predgen.targets.distribution import Distribution
from predgen.targets.label import Label
from tests.helpers.commands import refused
from tests.helpers.shapes import batch_for, tiny_backbone, tiny_method
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of
from tests.integration.test_exact import correction
from tests.integration.test_row_weights import learned

# Two decisions in some labels; and one in each, or two in each: there L_W of a label and of a distribution are equal.
UNEQUAL = ("good", "very good", "good grief", "bad")
EQUAL = {"one": ("good", "bad", "1", "2"), "two": ("1 1", "1 2", "2 1", "2 2")}
VALUES = ("x", "y", "z", "w")
METHODS = ("predictor", "generator", "expectation", "correction")
FAST: dict[str, Any] = {"inputs": ["review"], "quiet": True, "device": "cpu", "backbone": "builtin:nano"}
P = ["p_good", "p_bad"]


def method_of(name: str, target: Any, *, full: bool = False) -> Method:
    if name in ("expectation", "correction"):
        return correction(target, full=full, adds=name == "correction")
    return tiny_method(name, tiny_backbone(), target, full=full)


def same_learning(found: Any, expected: Any) -> None:
    (losses, gradients), (wanted_losses, wanted) = found, expected
    assert losses == pytest.approx(wanted_losses, rel=1e-5)
    largest = max(float(one.abs().max()) for one in wanted)
    assert largest > 0
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("words", EQUAL)
@pytest.mark.parametrize("name", METHODS)
def test_a_one_hot_distribution_is_learned_as_its_label(name: str, words: str, full: bool) -> None:
    if full and (name in ("predictor", "correction") or words == "two"):
        pytest.skip("the softmax over the whole vocabulary is the Writer's alone, and counts all tokens of a word")
    values = ["y", "x", "w", "z", "x"]
    hard, soft = (method_of(name, kind(VALUES, EQUAL[words]), full=full) for kind in (Label, Distribution))
    soft.load_state_dict(hard.state_dict())
    prompts = prompts_of(hard.backbone)[:5]
    shares = [soft.target.one_hot(VALUES.index(value)) for value in values]
    same_learning(learned(soft, batch_for(soft, prompts, shares)), learned(hard, batch_for(hard, prompts, values)))


@pytest.mark.parametrize("words", [UNEQUAL, EQUAL["two"]], ids=["unequal", "two"])
def test_the_writers_loss_is_the_cross_entropy_of_the_labels_probabilities(words: tuple[str, ...]) -> None:
    field = Distribution(VALUES, words)
    method = method_of("generator", field)
    prompts, shares = prompts_of(method.backbone)[:2], [(0.1, 0.2, 0.3, 0.4), (0.5, 0.0, 0.0, 0.5)]
    batch = batch_for(method, prompts, shares)
    probabilities = method.answer(batch.prompt, batch.prompt_mask, probabilities=True).probabilities
    assert probabilities is not None
    exact = -(torch.tensor(shares).double() * probabilities.log()).sum(dim=1).mean()
    plain = [method.codec.encode([field.one_hot(position)]) for position in range(4)]
    decided = float(np.mean([int(method.writer.decided(gold).sum()) for gold in plain]))
    with torch.no_grad():
        found = method(batch)["writer_loss"]
    assert float(found) == pytest.approx(float(exact.detach()) / decided, rel=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(METHODS), st.integers(0, 3), st.integers(0, 3))
def test_halves_of_weight_2_have_the_gradient_of_two_rows(name: str, first: int, second: int) -> None:
    field = Distribution(VALUES, UNEQUAL)
    method = method_of(name, field)
    if name in ("expectation", "correction"):
        method.join = lambda writer, director: 0.1 * writer + director
    prompt = prompts_of(method.backbone)[0]
    one_hot = [np.array(field.one_hot(position)) for position in (first, second)]
    half = tuple((sum(one_hot) / 2).tolist())
    one = replace(batch_for(method, [prompt], [half]), weights=torch.tensor([2.0]))
    two: Batch = batch_for(method, [prompt] * 2, [tuple(row.tolist()) for row in one_hot])
    losses, gradients = learned(method, one)
    expected, wanted = learned(method, two)
    # A mean over one row beside a mean over two.
    same_learning((losses, gradients), ({key: 2 * loss for key, loss in expected.items()}, [2 * g for g in wanted]))


# ---- metrics and baselines


def test_metrics_against_plain_formulas() -> None:
    measure = measure_of(Distribution(("a", "b", "c"), ("a", "b", "c")))
    draw = np.random.default_rng(0)
    truth, found = draw.dirichlet([1, 1, 1], 20), draw.dirichlet([1, 1, 1], 20)
    truth[0] = (1, 0, 0)
    truth[1] = found[1] = (0, 0.5, 0.5)
    metrics = measure.metrics(truth, np.eye(3)[found.argmax(axis=1)], found, None)

    def kl(p: Any, q: Any, base: float = np.e) -> float:
        return sum(a * np.log(a / b) / np.log(base) for a, b in zip(p, q, strict=True) if a > 0)

    pairs = list(zip(truth, found, strict=True))
    entropy = np.mean([-sum(a * np.log(a) for a in p if a > 0) for p, _ in pairs])
    with np.errstate(divide="ignore"):
        middles = [(p, q, (p + q) / 2) for p, q in pairs]
        distances = [np.sqrt(kl(p, m, 2) / 2 + kl(q, m, 2) / 2) for p, q, m in middles]
    assert metrics["kl"] == pytest.approx(np.mean([kl(p, np.clip(q, 1e-15, 1)) for p, q in pairs]))
    assert metrics["cross_entropy"] == pytest.approx(metrics["kl"] + entropy)
    assert metrics["brier"] == pytest.approx(np.mean([((p - q) ** 2).sum() for p, q in pairs]))
    assert metrics["jensen_shannon"] == pytest.approx(np.mean(distances))
    assert metrics["accuracy"] == np.mean([p[q.argmax()] == p.max() for p, q in pairs])
    unknown = np.vstack([truth, np.full((1, 3), np.nan)])
    more = measure.metrics(unknown, np.eye(3)[[*found.argmax(axis=1), 0]], np.vstack([found, found[:1]]), None)
    assert more["kl"] == pytest.approx(metrics["kl"])
    assert more["accuracy"] == pytest.approx(metrics["accuracy"] * 20 / 21)


def test_the_linear_baseline_learns_shares_as_doubled_rows() -> None:
    draw = np.random.default_rng(0)
    rows, counts = draw.normal(size=(30, 4)), draw.integers(0, 4, size=(30, 3)) + np.eye(3, dtype=int)[[0] * 30]
    doubled = [(row, label) for row in range(30) for label in range(3) for _ in range(counts[row, label])]
    plain = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8)
    plain.fit(rows[[row for row, _ in doubled]], [label for _, label in doubled])
    model = SharesClassification(1.0, 3, 0)
    model.model.set_params(tol=1e-8)
    model.fit(rows, counts / counts.sum(axis=1, keepdims=True), counts.sum(axis=1).astype(float))
    np.testing.assert_allclose(model.probabilities(rows), plain.predict_proba(rows), atol=1e-4)


# ---- whole runs


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = reviews(48).drop(columns=["mood"])
    share = np.array([star / 5 for star in rows["stars"]], dtype=float)
    return rows.assign(p_good=share, p_bad=1 - share).drop(columns=["stars"])


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> predgen.Model:
    return predgen.fit(table, ",".join(P), kind="distribution", max_steps=3, calibration=0.3, **FAST)


def test_a_model_is_saved_evaluated_and_answers_as_one_of_labels(
    model: predgen.Model, table: pd.DataFrame, tmp_path: Path
) -> None:
    assert model.record["metric"] == "cross_entropy"
    model.save(tmp_path / "model")
    loaded = predgen.load(tmp_path / "model", device="cpu")
    answers = loaded.predict(table[["review"]], probabilities=True)
    assert list(answers.columns)[1:] == ["prediction", "written", "invalid", "probability_bad", "probability_good"]
    likeliest = answers["probability_good"] > answers["probability_bad"]
    assert answers["prediction"].tolist() == ["good" if good else "bad" for good in likeliest]
    evaluation = loaded.evaluate(table)
    assert set(evaluation.metrics) == {"cross_entropy", "kl", "brier", "jensen_shannon", "accuracy"}
    shares, found = table[P].to_numpy(float), answers[["probability_good", "probability_bad"]].to_numpy(float)
    assert evaluation.metrics["cross_entropy"] == pytest.approx(-(shares * np.log(found)).sum(axis=1).mean())
    low, high = evaluation.ci95["cross_entropy"]
    assert low < evaluation.metrics["cross_entropy"] < high
    again = loaded.evaluate(table.assign(p_good=table["p_bad"], p_bad=table["p_good"]))
    assert again.metrics["kl"] != pytest.approx(evaluation.metrics["kl"])


def test_a_report_and_a_comparison_of_files(model: predgen.Model, table: pd.DataFrame) -> None:
    facts = predgen.describe(model, table)
    assert facts["kind"] == "distribution"
    num_rows = sum(map(sum, facts["fields"][0]["counts"]))
    assert 0 < num_rows <= len(table)
    answers = model.predict(table[["review"]], probabilities=True)
    compared = predgen.compare_files(table, {"model": answers}, ",".join(P), kind="distribution")
    assert compared.methods["model"].scored[0].metrics()["kl"] == pytest.approx(model.evaluate(table).metrics["kl"])


def test_baselines_stand_beside_a_method(table: pd.DataFrame) -> None:
    found = predgen.compare(
        table, ",".join(P), kind="distribution", methods=["predictor"], max_steps=2, seeds=1, split=(0.5, 0.25, 0.25),
        baselines=["mean_or_majority", "tfidf_linear"], **FAST,
    )  # fmt: skip
    results = {name: result.scored[0].metrics() for name, result in found.methods.items()}
    assert all(metrics["kl"] >= 0 and metrics["cross_entropy"] > 0 for metrics in results.values())
    assert results["tfidf_linear"]["kl"] < results["mean_or_majority"]["kl"]


def test_the_estimator_takes_shares(table: pd.DataFrame) -> None:
    shares = table[P].rename(columns={"p_good": "good", "p_bad": "bad"})
    moods = PredGenClassifier(backbone="builtin:nano", method="predictor", max_steps=2, device="cpu")
    moods.fit(table["review"].tolist(), shares)
    assert moods.classes_.tolist() == ["bad", "good"]
    found = moods.predict_proba(table["review"].tolist())
    assert moods.predict(table["review"].tolist()).tolist() == moods.classes_[found.argmax(axis=1)].tolist()
    assert moods.model_.target.kind == "distribution"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "director_form=states"], "scores all labels"),
        (["--set", "writer_prior=true"], "Leave writer_prior out"),
        (["--class-weights", "balanced"], "class_weights"),
        (["--columns", "record"], "Leave columns out"),
        (["--inputs", "review,p_bad"], "inputs other than the target"),
        (["--columns", "annotators", "--kind", "ordinal"], "Leave kind out"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    table: pd.DataFrame, tmp_path: Path, options: list[str], message: str
) -> None:
    table.to_csv(tmp_path / "rows.csv", index=False)
    line = ["fit", str(tmp_path / "rows.csv"), "--target", ",".join(P), "--kind", "distribution", "--out"]
    given_inputs = [] if "--inputs" in options else ["--inputs", "review"]
    assert message in refused(*line, str(tmp_path / "out"), "--backbone", "builtin:nano", *given_inputs, *options)
