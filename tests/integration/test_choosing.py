"""`fit --method auto`: every method by itself, the best on the validation rows kept whole, and what is said of it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from torch import equal

import predgen
from predgen.config import build_config
from predgen.experiments import comparing, results
from predgen.experiments.choosing import Candidates, candidates_of, choice_of
from predgen.measures.statistics import bootstrap, paired_difference_interval
from predgen.models.model import Model
from predgen.models.scored import BOOTSTRAP_SEED
from predgen.names import METHODS
from predgen.sklearn import PredGenRegressor
from predgen.training.trainer import PredGenTrainer
from tests.helpers.commands import files_in, refused, run
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
AUTO: dict[str, Any] = {**SMALL, "method": "auto"}
RESAMPLES = 50


@pytest.fixture(scope="module", autouse=True)
def _few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "bootstrap", partial(bootstrap, resamples=RESAMPLES))
        yield


def parts() -> dict[str, pd.DataFrame]:
    return {"train": reviews(40), "validation": reviews(25, seed=2), "test": reviews(10, seed=3)}


def never(*arguments: Any, **options: Any) -> None:
    raise AssertionError("something was fitted")


@pytest.mark.slow
def test_the_best_is_the_model_of_its_method_and_the_others_are_gone(tmp_path: Path) -> None:
    rows = parts()
    alone = {name: predgen.fit(rows, "stars", method=name, out=tmp_path / name, **SMALL) for name in METHODS}
    truth = rows["validation"]["stars"].to_numpy(dtype=float)
    losses = {
        name: (model.predict(rows["validation"])["prediction"].to_numpy(dtype=float) - truth) ** 2
        for name, model in alone.items()
    }
    best, second, _ = sorted(METHODS, key=lambda name: float(losses[name].mean()))

    found = predgen.fit(rows, "stars", out=tmp_path / "auto", **AUTO)
    choice = found.record["auto"]
    assert (choice["metric"], choice["rows"], choice["best"], choice["second"]) == ("mse", 25, best, second)
    for name, figures in choice["candidates"].items():
        assert figures["value"] == pytest.approx(losses[name].mean())
        assert figures["ci95"][0] <= figures["value"] <= figures["ci95"][1]
        assert figures["seconds"] > 0
    assert list(choice["candidates"]) == list(METHODS)
    assert choice["difference"] == pytest.approx(losses[best].mean() - losses[second].mean())
    assert choice["ci95"] == pytest.approx(
        paired_difference_interval(losses[best], losses[second], seed=BOOTSTRAP_SEED, resamples=RESAMPLES)
    )
    assert "optimistic" in choice["note"]

    # An artifact as any other: of its method, with its weights and its answers.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*METHODS, "auto"])
    weights, wanted = (load_file(tmp_path / name / "weights.safetensors") for name in ("auto", best))
    assert weights.keys() == wanted.keys()
    assert all(equal(weights[name], wanted[name]) for name in wanted)
    loaded = predgen.load(tmp_path / "auto", device="cpu")
    assert loaded.config == alone[best].config
    assert loaded.record["auto"] == json.loads(json.dumps(choice))
    pd.testing.assert_frame_equal(loaded.predict(rows["test"]), alone[best].predict(rows["test"]))
    pd.testing.assert_frame_equal(found.predict(rows["test"]), alone[best].predict(rows["test"]))
    assert loaded.evaluate(rows["test"]).metrics == alone[best].evaluate(rows["test"]).metrics


def answering_well(winner: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the answers of one method true, and those of the others wrong by 1."""
    original = comparing.timed_answers

    def stubbed(model: Model, table: pd.DataFrame) -> Any:
        answers, seconds = original(model, table)
        error = 0.0 if model.config.model.method == winner else 1.0
        return replace(answers, values=[float(value) + error for value in table["stars"]]), seconds

    monkeypatch.setattr(comparing, "timed_answers", stubbed)


@pytest.mark.parametrize("winner", [None, "generator"])
def test_the_method_that_is_clearly_better_is_kept_and_of_equal_ones_the_first(
    winner: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_well(winner, monkeypatch)
    model = predgen.fit(parts(), "stars", **{**AUTO, "max_steps": 1})
    choice = model.record["auto"]
    assert model.config.model.method == choice["best"] == (winner or "predictor")
    assert type(model.method) is METHODS.load(choice["best"])
    assert choice["second"] == ("predictor" if winner else "generator")
    assert choice["difference"] == pytest.approx(-1.0 if winner else 0.0)
    assert choice["ci95"] == pytest.approx([-1.0, -1.0] if winner else [0.0, 0.0])


def test_an_estimator_of_scikit_learn_chooses_too() -> None:
    texts, stars = (reviews(30)[column].to_list() for column in ("review", "stars"))
    estimator = PredGenRegressor(method="auto", max_steps=1, batch_size=8, device="cpu").fit(texts, stars)
    choice = estimator.model_.record["auto"]
    assert list(choice["candidates"]) == list(METHODS)
    assert estimator.model_.config.model.method == choice["best"]
    assert np.isfinite(estimator.predict(texts[:3])).all()


# ── The budget, and what cannot be fitted ────────────────────────────────────────────────────────────────────

Make = Callable[[Path | None], dict[str, Any]]


def fitted_with(
    figures_of: dict[str, Any], budget: float | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Candidates, list[str]]:
    """Returns the candidates whose fits are stubbed, and which were begun.

    Args:
        figures_of: for each method how far its answers are off and how many seconds it took, or what it raises.
        budget: as `candidates_of` takes it.
        folder: where the run is.
        monkeypatch: of the test.
    """
    begun: list[str] = []

    def fit(bench: comparing.Bench, name: str, config: Any) -> Make:
        def figures(folder: Path | None) -> dict[str, Any]:
            begun.append(name)
            outcome = figures_of[name]
            if isinstance(outcome, Exception):
                raise outcome
            error, seconds = outcome
            predicted = [None if error is None else value + error for value in bench.truth]
            answers = {"predicted": predicted, "probabilities": None}
            return {**answers, "train_seconds": seconds, "rows_per_second": 1.0, "seconds": seconds}

        return figures

    monkeypatch.setattr(comparing.Bench, "fit", fit)
    settings = {"data": "<tables>", "target": "stars", "inputs": ["review"], "method": "auto"}
    config = build_config(settings)
    bench = comparing.Bench.open(config, parts(), runs=folder, resume=False, overwrite=True, quiet=True, chooses=True)
    return candidates_of(bench, config, budget), begun


@pytest.mark.parametrize(
    ("budget", "seconds", "begun"),
    [
        (None, (10.0, 10.0, 10.0), 3),
        (30.0, (10.0, 10.0, 10.0), 3),
        (29.0, (10.0, 10.0, 10.0), 2),
        (19.0, (10.0, 10.0, 10.0), 1),
        (1.0, (10.0, 10.0, 10.0), 1),
        (50.0, (10.0, 25.0, 10.0), 2),  # the longest before it counts, not the mean
        (60.0, (10.0, 25.0, 10.0), 3),
    ],
)
def test_a_method_that_would_end_later_than_the_budget_is_not_begun(
    budget: float | None,
    seconds: tuple[float, ...],
    begun: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes = {name: (0.5, took) for name, took in zip(METHODS, seconds, strict=True)}
    candidates, were_begun = fitted_with(outcomes, budget, tmp_path / "run", monkeypatch)
    expected = list(METHODS)[:begun]
    assert were_begun == list(candidates.results) == expected
    assert list(candidates.left_out) == list(METHODS)[begun:]
    for name, reason in candidates.left_out.items():
        assert f"{sum(seconds[:begun]):.0f} s of the budget of {budget:g} s are over" in reason
        assert f"it would take about {max(seconds[:begun]):.0f} s" in reason
        assert f"Left out '{name}': {reason}" in caplog.text
    choice = choice_of(candidates, "mse")
    assert choice["left_out"] == candidates.left_out
    assert ("second" in choice) == (begun > 1)


def test_a_method_that_cannot_be_trained_is_left_out_and_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault = predgen.DivergenceError("Expected a finite loss, found nan at step 3.")
    outcomes: dict[str, Any] = {"predictor": fault, "generator": (0.5, 10.0), "predgen": (0.1, 10.0)}
    # A fault is no reason to begin no other: a first method is always fitted.
    candidates, _ = fitted_with(outcomes, 15.0, tmp_path / "run", monkeypatch)
    assert list(candidates.results) == ["generator"]
    candidates, _ = fitted_with(outcomes, 25.0, tmp_path / "run", monkeypatch)
    assert choice_of(candidates, "mse")["best"] == "predgen"
    assert candidates.left_out == {"predictor": str(fault)}
    assert "Left out 'predictor': Expected a finite loss" in caplog.text
    with pytest.raises(predgen.DivergenceError, match="at step 3"):
        fitted_with(dict.fromkeys(METHODS, fault), None, tmp_path / "run", monkeypatch)
    full = predgen.TrainingError("Expected room for a checkpoint, found none.")  # this is no method's fault
    with pytest.raises(predgen.TrainingError, match="Expected room"):
        fitted_with({**outcomes, "generator": full}, None, tmp_path / "run", monkeypatch)


def test_an_undefined_metric_is_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {name: (error, 1.0) for name, error in zip(METHODS, (None, 2.0, 1.0), strict=True)}
    candidates, _ = fitted_with(outcomes, None, tmp_path / "run", monkeypatch)
    choice = choice_of(candidates, "mse")
    assert (choice["best"], choice["second"]) == ("predgen", "generator")
    assert choice["candidates"]["predictor"]["value"] is None
    json.dumps(choice, allow_nan=False)


def test_settings_that_a_method_cannot_have_leave_it_out(caplog: pytest.LogCaptureFixture) -> None:
    model = predgen.fit(parts(), "mood", **{**AUTO, "max_steps": 1}, peft="frozen")
    assert list(model.record["auto"]["candidates"]) == ["predictor", "predgen"]
    assert (
        "found --peft frozen with --method generator, which has no head"
        in model.record["auto"]["left_out"]["generator"]
    )
    assert "Left out 'generator': Expected something to train" in caplog.text


# ── What is stopped goes on, and what is kept ────────────────────────────────────────────────────────────────


def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Stops the program at a training step, counted over all fits; returns what grows by one with each step."""
    steps: list[None] = []
    original = PredGenTrainer.compute_loss

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(None)
        if len(steps) == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PredGenTrainer, "compute_loss", dying)
    return steps


def test_a_run_that_is_stopped_at_once_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying_at(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        predgen.fit(parts(), "stars", out=tmp_path / "model", **AUTO)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, out, unfinished = parts(), tmp_path / "model", tmp_path / "model.unfinished"
    whole = predgen.fit(rows, "stars", out=tmp_path / "whole", **AUTO)
    steps = dying_at(4, monkeypatch)  # the second of the generator
    with pytest.raises(KeyboardInterrupt):
        predgen.fit(rows, "stars", out=out, **AUTO)
    assert not out.exists()
    assert (unfinished / "predictor-seed0.json").exists()
    with pytest.raises(predgen.OutputExistsError, match="Use --resume to go on with it"):
        predgen.fit(rows, "stars", out=out, **AUTO)
    with pytest.raises(predgen.ConfigError, match="found others"):
        predgen.fit(rows, "stars", out=out, resume=True, **{**AUTO, "max_steps": 3})
    with pytest.raises(predgen.ConfigError, match="found others"):
        predgen.fit(rows, "stars", out=out, resume=True, **{**AUTO, "method": "predictor"})
    before = len(steps)
    found = predgen.fit(rows, "stars", out=out, resume=True, **AUTO)
    assert len(steps) - before <= 4  # the predictor is not trained again
    assert not unfinished.exists()
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("model", "whole"))
    assert one.keys() == other.keys()
    assert all(equal(one[name], other[name]) for name in one)
    choices = [model.record["auto"] for model in (found, whole)]
    for choice in choices:
        for figures in choice["candidates"].values():
            del figures["seconds"]
    assert choices[0] == choices[1]


def test_when_the_model_cannot_be_saved_nothing_is_lost_and_nothing_is_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, out, options = parts(), tmp_path / "model", {**AUTO, "max_steps": 1}
    original = Model.save

    def full(self: Model, path: Any, **overwrite: Any) -> None:
        if Path(path) == out:
            raise OSError(28, "No space left on device", str(path))
        original(self, path, **overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "save", full)
        with pytest.raises(OSError, match="No space left"):
            predgen.fit(rows, "stars", out=out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model.unfinished"]
    monkeypatch.setattr(comparing, "fit_prepared", never)
    found = predgen.fit(rows, "stars", out=out, resume=True, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    loaded = predgen.load(out, device="cpu")
    pd.testing.assert_frame_equal(loaded.predict(rows["test"]), found.predict(rows["test"]))


@pytest.mark.slow
def test_every_model_is_kept_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, kept = parts(), tmp_path / "kept"
    options = {**AUTO, "max_steps": 1, "seed": 3, "out": tmp_path / "model", "models": kept}
    best = predgen.fit(rows, "stars", **options).record["auto"]["best"]
    assert sorted(path.name for path in kept.iterdir()) == sorted(f"{name}-seed3" for name in METHODS)
    for name in METHODS:
        model = predgen.load(kept / f"{name}-seed3", device="cpu")
        assert model.config.model.method == name
        same = (
            files_in(kept / f"{name}-seed3")["weights.safetensors"]
            == files_in(tmp_path / "model")["weights.safetensors"]
        )
        assert same == (name == best)
    monkeypatch.setattr(comparing, "fit_prepared", never)
    with pytest.raises(predgen.OutputExistsError, match="Name another --models, or use --overwrite"):
        predgen.fit(rows, "stars", **{**options, "out": tmp_path / "other"})
    with pytest.raises(predgen.ConfigError, match="a folder of models outside of --out"):
        predgen.fit(rows, "stars", **{**options, "out": tmp_path / "x", "models": tmp_path / "x" / "all"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "model"]


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_done_is_refused_before_anything_is_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "fit_prepared", never)
    out = tmp_path / "model"
    for name, value in (("budget", 10.0), ("models", tmp_path / "kept")):
        with pytest.raises(
            predgen.ConfigError, match=rf"Expected the method auto with --{name}, found predgen\. Leave"
        ):
            predgen.fit(parts(), "stars", out=out, **{name: value}, **SMALL)
    for budget in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(predgen.ConfigError, match=r"a budget above 0 seconds, found .* Leave it out"):
            predgen.fit(parts(), "stars", out=out, budget=budget, **AUTO)
    with pytest.raises(predgen.DataError, match="enough rows for a validation part"):
        predgen.fit(reviews(30), "stars", out=out, split=(0.9, 0, 0.1), **AUTO)
    with pytest.raises(predgen.UnknownNameError, match="Unknown metric of a number 'accuracy'"):
        predgen.fit(parts(), "stars", out=out, metric="accuracy", **AUTO)
    with pytest.raises(predgen.ConfigError, match=r"Expected an unfinished run at .* to resume, found none"):
        predgen.fit(parts(), "stars", out=out, resume=True, **AUTO)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(predgen.ConfigError, match="one process with the method auto, found 2"):
            predgen.fit(parts(), "stars", out=out, **AUTO)
    assert list(tmp_path.iterdir()) == []


def test_it_is_no_method_to_compare_or_to_ablate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "fit_prepared", never)
    with pytest.raises(
        predgen.ConfigError, match=r"found 'auto', which fits each of them and keeps the best\. Leave it out"
    ):
        predgen.compare(parts(), "stars", methods=["predictor", "auto"], trials=2, **SMALL)
    with pytest.raises(predgen.ConfigError, match="Expected no setting 'method', as compare fits several"):
        predgen.compare(parts(), "stars", **AUTO)
    with pytest.raises(predgen.ConfigError, match=r"whose parts are switched, found auto\. Leave method out"):
        predgen.ablate(parts(), "stars", **AUTO)
    with pytest.raises(predgen.UnknownNameError, match="Unknown method 'auto'"):
        predgen.plan_reproduction("small", gpu="A100", methods=["auto"])


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_how_each_did_and_what_the_figure_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reviews(60).to_csv("reviews.csv", index=False)
    fit = ["fit", "reviews.csv", "--target", "mood", "--method", "auto", "--set", "max_steps=1", "--quiet"]
    done = run(*fit, "--out", "model", "--json", "fit.json")
    assert done.code == 0
    assert "6 validation rows; [95 % intervals] over the rows" in done.stdout
    assert all(f"│ {name}" in done.stdout for name in METHODS)
    choice = json.loads(Path("fit.json").read_text())["record"]["auto"]
    assert f"Kept: {choice['best']}. Its accuracy minus that of {choice['second']}, the second: " in done.stdout
    assert "so that its figure on them is optimistic" in done.stdout
    assert json.loads(Path("model/predgen.json").read_text())["record"]["auto"] == choice
    assert run("evaluate", "model", "reviews.csv").code == 0
    assert run("predict", "model", "--text", "A happy film.").stdout

    done = run(*fit, "--out", "cheap", "--budget", "0.001")
    assert done.code == 0
    assert "Kept: predictor. It is the only one that was fitted." in done.stdout
    for name in ("generator", "predgen"):
        assert f"warning: Left out '{name}': " in done.stderr
    assert "Leave --budget out, or use --method auto" in refused(
        *fit, "--out", "x", "--budget", "9", "--method", "predgen"
    )
    assert "found 'auto', which fits each of them" in refused("compare", *fit[1:4], "--methods", "auto")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cheap", "fit.json", "model", "reviews.csv"]
