"""`tune`: the best of some trials, the same whether it was stopped or not, by one process or by several."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import equal
from transformers import TrainerState

import predgen
from predgen.config import build_config
from predgen.errors import ConfigError, DivergenceError, OutputExistsError, TrainingError
from predgen.experiments.search import searching, trials
from predgen.experiments.search.space import space_of
from predgen.experiments.search.trials import Search, begin_anew, run_trials
from predgen.methods.weights import trainable_weights
from predgen.models.model import Model
from predgen.training.fitting import prepared_for
from predgen.training.preparing import Prepared
from predgen.training.trainer import PredGenTrainer
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
SEARCH = {"method": ["predictor", "generator"], "learning_rate": (1e-4, 1e-2)}


def parts() -> dict[str, pd.DataFrame]:
    return {"train": reviews(40), "validation": reviews(25, seed=2)}


def without_seconds(model: Model) -> dict[str, Any]:
    found = json.loads(json.dumps(model.record["search"]))
    for trial in found["trials"]:
        del trial["seconds"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    out = tmp_path_factory.mktemp("search") / "best"
    return predgen.tune(parts(), "stars", trials=4, search=SEARCH, out=out, **SMALL), out


@pytest.mark.slow
def test_the_best_trial_is_the_model_and_the_first_has_the_runs_own_settings(whole: tuple[Model, Path]) -> None:
    model, out = whole
    found = model.record["search"]
    values = [trial["value"] for trial in found["trials"]]
    assert len(values) == 4
    assert found["best"] == values.index(min(values)) + 1
    best = found["trials"][found["best"] - 1]
    assert best["value"] == model.record["best_metric"]
    assert model.config.model.method == best["settings"]["model.method"]
    assert model.config.train.learning_rate == best["settings"]["train.learning_rate"]
    assert f"train.learning_rate={best['settings']['train.learning_rate']}" in found["command"]
    assert [trial["number"] for trial in found["trials"]] == [1, 2, 3, 4]
    assert all(1e-4 <= trial["settings"]["train.learning_rate"] <= 1e-2 for trial in found["trials"])
    alone = predgen.fit(
        parts(), "stars", **SMALL, method=model.config.model.method, learning_rate=model.config.train.learning_rate
    )
    loaded = predgen.load(out)
    assert loaded.record["search"] == found
    rows = reviews(10, seed=3)
    pd.testing.assert_frame_equal(loaded.predict(rows), alone.predict(rows))
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name]  # nothing unfinished is left


@pytest.mark.slow
def test_a_search_that_is_stopped_goes_on_to_the_same_end(
    whole: tuple[Model, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "best"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stop_in_step(patch, 5)  # two steps a trial: it is the first of the third
        predgen.tune(parts(), "stars", trials=4, search=SEARCH, out=out, **SMALL)
    assert not out.exists()
    with pytest.raises(OutputExistsError, match="--resume"):
        predgen.tune(parts(), "stars", trials=4, search=SEARCH, out=out, **SMALL)
    with pytest.raises(ConfigError, match=r"space that the search was begun with"):
        predgen.tune(parts(), "stars", trials=4, search=["lora_rank"], out=out, resume=True, **SMALL)
    model = predgen.tune(parts(), "stars", trials=4, search=SEARCH, out=out, resume=True, **SMALL)
    assert without_seconds(model) == without_seconds(whole[0])
    ours, theirs = trainable_weights(model.method), trainable_weights(whole[0].method)
    assert all(equal(weight, theirs[name]) for name, weight in ours.items())
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def _stop_in_step(patch: pytest.MonkeyPatch, step: int) -> None:
    steps = 0
    original: Callable[..., Any] = PredGenTrainer.training_step

    def training_step(self: PredGenTrainer, *given: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KeyboardInterrupt
        return original(self, *given, **named)

    patch.setattr(PredGenTrainer, "training_step", training_step)


@pytest.mark.slow
def test_two_processes_share_the_trials_and_more_are_added_later(tmp_path: Path) -> None:
    options: dict[str, Any] = {"search": ["learning_rate"], "method": "predictor", "runs": tmp_path / "runs", **SMALL}
    model = predgen.tune(parts(), "mood", trials=3, processes=2, out=tmp_path / "first", **options)
    found = model.record["search"]
    assert [trial["state"] for trial in found["trials"]] == ["finished"] * 3
    assert len({trial["settings"]["train.learning_rate"] for trial in found["trials"]}) == 3
    more = predgen.tune(parts(), "mood", trials=4, resume=True, out=tmp_path / "second", **options).record["search"]
    assert more["trials"][:3] == found["trials"]
    assert len(more["trials"]) == 4
    assert max(trial["value"] for trial in more["trials"]) == more["trials"][more["best"] - 1]["value"]


@pytest.mark.slow
def test_the_command_prints_the_trials_and_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reviews(60).assign(review=lambda table: table["review"] + " <b>&").to_csv("t.csv", index=False)
    line = "tune t.csv --target mood --inputs review --method predictor --set max_steps=1 --search learning_rate"
    done = run(
        *line.split(), "--trials", "2", "--out", "best", "--report", "page.html", "--json", "found.json", "--quiet"
    )
    assert done.code == 0, done.stderr
    printed = done.stdout
    found = json.loads(Path("found.json").read_text())["search"]
    assert "2 trials, accuracy on" in printed
    assert f"Kept: trial {found['best']}, accuracy" in printed
    page = Path("page.html").read_text()
    assert page.count("<svg") == 2  # of two trials nothing is said of what mattered
    assert "predgen fit t.csv --target mood" in page
    assert "--overwrite" in refused(*line.split(), "--trials", "1", "--out", "best")
    assert "Expected settings of the model" in refused(*line.split()[:-1], "seed", "--trials", "1", "--out", "other")
    assert "at least one trial" in refused(*line.split(), "--trials", "0", "--out", "other")
    assert not Path("other").exists()


# ---- trials, with figures instead of models


@pytest.fixture
def search(tmp_path: Path) -> Search:
    config = build_config({"data": "t.csv", "target": "stars", "backbone": "builtin:nano"})
    space = space_of(config, ["learning_rate"])
    return Search(tmp_path, config, space, trials=8, metric="mse", higher=False, prunes=True)


class Fitted:
    """What stands for a model: its figure."""

    def __init__(self, value: float | None) -> None:
        self.record = {"best_metric": value}

    def save(self, path: Path, *, overwrite: bool) -> None:
        path.mkdir()
        (path / "value").write_text(str(self.record["best_metric"]))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the next fits do: the values of their validations, an error, or nothing that is finite."""
    coming: list[Any] = []

    def fit_prepared(config: Any, prepared: Any, folder: Path, *, callbacks: Any, **named: Any) -> Fitted:
        given = coming.pop(0)
        if isinstance(given, BaseException):
            raise given
        history: list[dict[str, float]] = []
        for step, value in enumerate(given, 1):
            history.append({"eval_mse": value})
            state = TrainerState(log_history=list(history), global_step=step, max_steps=len(given))
            for callback in callbacks:
                callback.on_evaluate(None, state, None, metrics=history[-1])
        return Fitted(given[-1] if given and math.isfinite(given[-1]) else None)

    monkeypatch.setattr(trials, "fit_prepared", fit_prepared)
    return coming


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepared_for(build_config({"data": "t.csv", "target": "stars", "inputs": ["review"]}), parts())


def states_of(search: Search) -> list[str]:
    return [trial.state.name for trial in trials.counted(search.study())]


def run_all(search: Search, prepared: Prepared) -> None:
    run_trials(search, prepared, goes_on=lambda: True, quiet=True)


def test_a_trial_that_is_behind_ends_early_after_five_others(
    search: Search, fits: list[Any], prepared: Prepared
) -> None:
    fits[:] = [[2.0, 1.0], [2.0, 1.1], [9.0, 1.2], [2.0, 1.3], [2.0, 1.4], [2.5, 0.1], [1.9, 3.0], [1.8, 0.9]]
    run_all(search, prepared)
    assert states_of(search) == ["COMPLETE"] * 5 + ["PRUNED"] + ["COMPLETE"] * 2
    assert (trials.best_model(search) / "value").read_text() == "0.9"
    assert [path.name for path in search.folder.glob("best-*")] == ["best-7"]


def test_without_pruning_all_trials_run_to_their_ends(search: Search, fits: list[Any], prepared: Prepared) -> None:
    fits[:] = [[2.0, 1.0]] * 5 + [[9.0, 0.1]] + [[2.0, 1.0]] * 2
    run_all(replace(search, prunes=False), prepared)
    assert states_of(search) == ["COMPLETE"] * 8
    assert (trials.best_model(search) / "value").read_text() == "0.1"


def test_trials_that_fail_are_counted_and_a_full_disk_is_no_trials_fault(
    search: Search, fits: list[Any], prepared: Prepared
) -> None:
    fits[:] = [DivergenceError("The loss is not finite."), [], [float("nan")], [1.0], OSError("No space left"), [3.0]]
    with pytest.raises(OSError, match="No space left"):
        run_all(replace(search, trials=5), prepared)
    assert states_of(search) == ["FAIL", "FAIL", "FAIL", "COMPLETE", "RUNNING"]
    tried = search.study().trials[4].params
    begin_anew(search)
    run_all(replace(search, trials=5), prepared)
    assert states_of(search) == ["FAIL", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    again = search.study().trials[5]
    assert again.params == tried
    assert trials.folder_name(again) == "4"  # where its checkpoints are
    reasons = [trial.user_attrs.get("reason") for trial in trials.counted(search.study())]
    assert reasons[0] == "The loss is not finite."
    assert (trials.best_model(search) / "value").read_text() == "1.0"


def test_a_trial_that_still_runs_is_left_alone(search: Search) -> None:
    study = search.study()
    trial = study.ask(search.space)
    with search.lock(f"trial-{trial.number}"):
        begin_anew(search)
        assert states_of(search) == ["RUNNING"]
    begin_anew(search)
    assert states_of(search) == ["WAITING"]


def test_no_finite_figure_is_an_error(fits: list[Any]) -> None:
    fits[:] = [DivergenceError("The loss is not finite.")] * 2
    with pytest.raises(TrainingError, match="a trial with a finite mse, found none in 2"):
        predgen.tune(parts(), "stars", trials=2, search=["learning_rate"], **SMALL)


def test_the_budget_lets_one_trial_end(search: Search, fits: list[Any], prepared: Prepared) -> None:
    fits[:] = [DivergenceError("The loss is not finite."), [1.0], [2.0]]
    searching._run_all(search, prepared, None, 1, 0.0, quiet=True)
    assert states_of(search) == ["FAIL"]
