"""Comparisons: the JSON's form, the same rows and settings for all, tests over rows and not over seeds."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import predgen
from predgen.config import build_config
from predgen.experiments import baseline_rows, comparing, results
from predgen.experiments.results import Comparison, MethodResult
from predgen.measures.kinds import measure_of
from predgen.measures.statistics import bootstrap, holm
from predgen.models.scored import Scored, ScoredField
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.training.trainer import PredGenTrainer
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
BASELINES = ["mean_or_majority", "tfidf_linear", "zero_shot"]
NUMBER_METRICS = {"mse", "rmse", "mae", "r2", "pearson", "spearman", "exact_match"}
LABEL_METRICS = {"accuracy", "balanced_accuracy", "macro_f1", "average_precision", "log_loss", "ece"}
CONFIG = build_config({"data": "a.csv", "target": "stars"})
TESTED = {"stars": ["mse", "mae", "exact_match", "pearson", "spearman"], "mood": ["accuracy", "log_loss"]}


@pytest.fixture(scope="module", autouse=True)
def _few_resamples() -> Iterator[None]:
    # The intervals of 1,000 resamples take longer than the rest of a comparison.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "bootstrap", partial(bootstrap, resamples=50))
        yield


@pytest.fixture(scope="module")
def numbers() -> Comparison:
    return predgen.compare(reviews(60), "stars", methods=["predictor", "predgen"], seeds=2, **SMALL)


@pytest.fixture(scope="module")
def labels() -> Comparison:
    return predgen.compare(reviews(60), "mood", methods=["generator"], **SMALL)


@pytest.mark.parametrize(
    ("name", "methods", "metrics", "num_seeds"),
    [("numbers", ["predictor", "predgen"], NUMBER_METRICS, 2), ("labels", ["generator"], LABEL_METRICS, 1)],
)
def test_the_json_has_its_stated_form(
    name: str, methods: list[str], metrics: set[str], num_seeds: int, request: pytest.FixtureRequest
) -> None:
    comparison: Comparison = request.getfixturevalue(name)
    found = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert set(found) == {"methods", "tests", "rows", "part", "config"}
    assert build_config(found["config"]).train.seed == 0  # as `--config` would read it
    assert (found["rows"], found["part"]) == (6, "test")
    assert list(found["methods"]) == [*BASELINES, *methods]
    for method, result in found["methods"].items():
        assert set(result) == {
            *("metrics", "ci95", "train_seconds", "predict_examples_per_second", "invalid_fraction"),
            *("seeds", "seed_deviation"),
        }
        assert set(result["metrics"]) == set(result["ci95"]) == metrics
        for metric, value in result["metrics"].items():
            low, high = result["ci95"][metric]
            if value is None:  # no correlation with a constant
                assert (method, low, high) == ("mean_or_majority", None, None)
            else:
                assert isinstance(value, float)
                assert low <= high
        assert result["train_seconds"] >= 0
        assert result["predict_examples_per_second"] > 0
        assert result["invalid_fraction"] == 0
        assert len(result["seeds"]) == (1 if method in BASELINES else num_seeds)
    pairs = [(a, b) for i, a in enumerate(found["methods"]) for b in list(found["methods"])[i + 1 :]]
    tested = TESTED["stars" if name == "numbers" else "mood"]
    assert [(one["a"], one["b"], one["metric"]) for one in found["tests"]] == [
        (a, b, metric)
        for a, b in pairs
        for metric in tested
        if not (a == "mean_or_majority" and metric in ("pearson", "spearman"))  # a constant has no correlation
    ]
    for one in found["tests"]:
        assert set(one) == {"a", "b", "metric", "difference", "ci95", "p_value", "p_holm"}
        assert one["ci95"][0] <= one["ci95"][1]
        assert 0 < one["p_value"] <= one["p_holm"] <= 1
    for metric in tested:  # corrected over the pairs, for each metric apart
        of_metric = [one for one in found["tests"] if one["metric"] == metric]
        assert [one["p_holm"] for one in of_metric] == holm([one["p_value"] for one in of_metric])
    for result in found["methods"].values():
        for metric, deviation in result["seed_deviation"].items():
            each = [one[metric] for one in result["seeds"]]
            if len(each) == 1 or None in each:
                assert deviation is None
            else:
                assert deviation == pytest.approx(np.std(each, ddof=1))


@pytest.mark.parametrize("name", ["numbers", "labels"])
def test_a_difference_is_that_of_the_metrics(name: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(name).to_json()
    assert found["tests"]
    for one in found["tests"]:
        first, second = (found["methods"][one[side]]["metrics"][one["metric"]] for side in ("a", "b"))
        assert one["difference"] == pytest.approx(first - second)


def test_a_method_setting_is_refused() -> None:
    with pytest.raises(predgen.ConfigError, match="Name them with `methods`"):
        predgen.compare(reviews(60), "stars", method="generator")


def test_metrics_are_means_over_the_seeds(numbers: Comparison) -> None:
    for method, result in numbers.to_json()["methods"].items():
        for metric in ("mse", "mae"):
            assert result["metrics"][metric] == pytest.approx(np.mean([one[metric] for one in result["seeds"]]))
        if method not in BASELINES:
            assert result["seeds"][0] != result["seeds"][1]


STARS, MOOD = Number(0.0, 10.0, 1), Label(("a", "b"), ("a", "b"))


def scored(field: Number | Label, truth: np.ndarray, predicted: np.ndarray) -> Scored:
    """Returns the answers of a lone field, without what is exact of them."""
    return Scored({"": ScoredField(measure_of(field), truth, predicted, None)})


def test_a_row_has_one_loss_whatever_the_number_of_seeds() -> None:
    truth = np.array([1.0, 2.0, 3.0])
    answers = [np.array([1.0, 4.0, np.nan]), np.array([3.0, 2.0, 3.0])]
    result = MethodResult([scored(STARS, truth, one) for one in answers], 0.0, 1.0)
    # (0 + 4)/2 and (4 + 0)/2; an answer that was invalid in one seed has no loss.
    np.testing.assert_array_equal(result.losses()["squared_error"], [2.0, 2.0, np.nan])
    np.testing.assert_array_equal(result.losses()["absolute_error"], [1.0, 1.0, np.nan])
    assert result.invalid_fraction == pytest.approx(1 / 6)
    # Seeds are no rows: ten times the same answers give the same p-value as one.
    other = MethodResult([scored(STARS, truth, np.array([2.0, 2.5, 9.0]))], 0.0, 1.0)
    p_values = []
    for num_seeds in (1, 10):
        repeated = MethodResult([scored(STARS, truth, answers[1])] * num_seeds, 0.0, 1.0)
        found = Comparison({"a": repeated, "b": other}, "test", CONFIG).to_json()["tests"]
        assert [one["metric"] for one in found] == ["mse", "mae", "pearson", "spearman"]
        p_values.append([one["p_value"] for one in found])
    assert p_values[0] == p_values[1]


def test_tests_are_over_the_rows_that_both_answered() -> None:
    truth = np.array([0.0, 0.0, 0.0, 0.0])
    a = MethodResult([scored(STARS, truth, np.array([1.0, 2.0, np.nan, 3.0]))], 0.0, 1.0)
    b = MethodResult([scored(STARS, truth, np.array([0.0, np.nan, 5.0, 1.0]))], 0.0, 1.0)
    mse, mae = Comparison({"a": a, "b": b}, "test", CONFIG).to_json()["tests"]
    assert mse["difference"] == pytest.approx((1 + 9) / 2 - (0 + 1) / 2)
    assert mae["difference"] == pytest.approx((1 + 3) / 2 - (0 + 1) / 2)
    none = MethodResult([scored(STARS, truth, np.full(4, np.nan))], 0.0, 1.0)
    found = json.loads(json.dumps(Comparison({"a": a, "none": none}, "test", CONFIG).to_json(), allow_nan=False))
    assert found["tests"] == []
    assert set(found["methods"]["none"]["metrics"].values()) == {None}
    assert found["methods"]["none"]["invalid_fraction"] == 1


def test_a_difference_in_accuracy_is_positive_where_the_first_is_better() -> None:
    truth = np.zeros(12, dtype=np.int64)
    good = MethodResult([scored(MOOD, truth, truth)], 0.0, 1.0)
    bad = MethodResult([scored(MOOD, truth, np.array([0, -1] + [1] * 10))], 0.0, 1.0)
    (found,) = Comparison({"good": good, "bad": bad}, "test", CONFIG).to_json()["tests"]
    assert found["metric"] == "accuracy"
    assert found["difference"] == pytest.approx(11 / 12)
    assert found["p_value"] == pytest.approx(2 / 2**11)  # exact: all signs equal, or all turned


def test_the_same_seed_gives_the_same_figures(labels: Comparison) -> None:
    again = predgen.compare(reviews(60), "mood", methods=["generator"], **SMALL)
    for name, result in labels.to_json()["methods"].items():
        other = again.to_json()["methods"][name]
        for key in ("metrics", "ci95", "invalid_fraction", "seeds"):
            assert result[key] == other[key], (name, key)
    assert labels.to_json()["tests"] == again.to_json()["tests"]


def test_all_methods_share_rows_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[Any, Any]] = []
    original = comparing.fit_prepared

    def spy(config: Any, prepared: Any, *folder: Any, **options: Any) -> predgen.Model:
        runs.append((config, prepared))
        return original(config, prepared, *folder, **options)

    monkeypatch.setattr(comparing, "fit_prepared", spy)
    settings = {**SMALL, "max_steps": 1, "seed": 3, "peft": "none"}
    predgen.compare(reviews(30), "mood", methods=["predictor", "generator", "predgen"], seeds=2, **settings)
    assert [(config.model.method, config.train.seed) for config, _ in runs] == [
        (method, seed) for method in ("predictor", "generator", "predgen") for seed in (3, 4)
    ]
    assert all(prepared is runs[0][1] for _, prepared in runs)

    def shared(config: Any) -> dict[str, Any]:
        return {
            "data": config.data,
            "model": config.model.model_copy(update={"method": "predgen"}),
            "train": config.train.model_copy(update={"seed": 3}),
        }

    assert all(shared(config) == shared(runs[0][0]) for config, _ in runs)
    assert runs[0][0].model.peft == "none"
    assert runs[0][0].train.max_steps == 1


def test_without_a_test_part_the_figures_are_of_the_validation_part() -> None:
    parts = {"train": reviews(30), "validation": reviews(7, seed=2)}
    with pytest.warns(predgen.NoTestPartWarning, match="^There is no test part: the figures are of the 7 validation"):
        found = predgen.compare(parts, "stars", methods=["predictor"], **{**SMALL, "max_steps": 1}).to_json()
    assert (found["part"], found["rows"]) == ("validation", 7)


def test_labels_never_seen_count_as_wrong_for_every_method() -> None:
    held_out = pd.concat([reviews(6, seed=2), reviews(6, seed=3).assign(mood="meh")], ignore_index=True)
    parts = {"train": reviews(30), "validation": reviews(7, seed=4), "test": held_out}
    unseen = r"^6 rows have labels that were never seen in training \('meh'\); they count as wrong\."
    with pytest.warns(predgen.UnseenLabelsWarning, match=unseen):
        found = predgen.compare(parts, "mood", methods=["predictor"], **{**SMALL, "max_steps": 1}).to_json()
    for result in found["methods"].values():
        assert result["metrics"]["accuracy"] <= 0.5
        assert result["metrics"]["log_loss"] is not None


def test_what_cannot_be_compared_is_refused_before_anything_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("something was fitted")

    monkeypatch.setattr(comparing, "fit_prepared", never)
    monkeypatch.setattr(baseline_rows, "tfidf_linear", never)
    monkeypatch.setattr(baseline_rows, "untrained_model", never)
    with pytest.raises(predgen.UnknownNameError, match=r"Unknown method 'predgan'\. Did you mean 'predgen'"):
        predgen.compare(reviews(30), "mood", methods=["predgan"], **SMALL)
    with pytest.raises(predgen.ConfigError, match="each method once, found 1 and predgen, predgen"):
        predgen.compare(reviews(30), "mood", methods=["predgen", "predgen"], **SMALL)
    with pytest.raises(predgen.ConfigError, match=r"at least one seed, .* found 0"):
        predgen.compare(reviews(30), "mood", seeds=0, **SMALL)
    with pytest.raises(predgen.UnknownNameError, match="Unknown metric of a label 'mse'"):
        predgen.compare(reviews(30), "mood", metric="mse", **SMALL)
    with pytest.raises(predgen.ConfigError, match=r"at most 10,000 numbers to predict with decoding 'trie'"):
        predgen.compare(reviews(30), "stars", decoding="trie", low=0.0, high=5.0, decimals=7, **SMALL)
    table = reviews(30)
    table.loc[2, "mood"] = None
    with pytest.raises(predgen.DataError, match="row 3, column 'mood'"):
        predgen.compare(table, "mood", **SMALL)


# ---- work that goes on


def _figures(found: Comparison) -> Any:
    """Returns a comparison's JSON without what the clock says."""
    plain = found.to_json()
    for result in plain["methods"].values():
        del result["train_seconds"], result["predict_examples_per_second"]
    return plain


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 5, 9])
def test_a_comparison_that_goes_on_ends_where_the_whole_one_ends(
    stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "max_steps": 3, "evals_per_epoch": 9}
    options: dict[str, Any] = {"methods": ["predictor", "predgen"], "seeds": 2, **settings}
    whole = predgen.compare(reviews(40), "mood", **options)
    steps = 0
    original = PredGenTrainer.compute_loss

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PredGenTrainer, "compute_loss", dying)
        with pytest.raises(KeyboardInterrupt):
            predgen.compare(reviews(40), "mood", runs=tmp_path / "runs", **options)
        before = steps
        finished = sorted((tmp_path / "runs").glob("*.json"))
        assert len(finished) == 1 + (stop_at - 1) // 3  # zero_shot is the first
        kept = {path: path.stat().st_mtime_ns for path in finished}
        found = predgen.compare(reviews(40), "mood", runs=tmp_path / "runs", resume=True, **options)
    assert steps - before <= 12 - (stop_at - 1) + 1  # what was done is not done again, but for an unsaved step
    assert _figures(found) == _figures(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        *("config.yaml", "data.sha256"),
        *(f"{method}-seed{seed}.json" for method in ("predgen", "predictor") for seed in (0, 1)),
        "zero_shot.json",
    ]


def test_runs_are_kept_apart_from_other_settings_and_rows(tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ["predictor"], **SMALL, "max_steps": 1}
    runs = tmp_path / "runs"
    with pytest.raises(predgen.ConfigError, match="folder of runs to resume or to overwrite, found none"):
        predgen.compare(reviews(30), "mood", resume=True, **options)
    with pytest.raises(predgen.ConfigError, match="to resume, found none"):
        predgen.compare(reviews(30), "mood", runs=runs, resume=True, **options)
    predgen.compare(reviews(30), "mood", runs=runs, **options)
    with pytest.raises(predgen.OutputExistsError, match="Use --resume to go on with it, or --overwrite"):
        predgen.compare(reviews(30), "mood", runs=runs, **options)
    with pytest.raises(predgen.ConfigError, match="found others"):
        predgen.compare(reviews(30), "mood", runs=runs, resume=True, **{**options, "max_steps": 2})
    with pytest.raises(predgen.ConfigError, match="Expected the rows"):
        predgen.compare(reviews(30, seed=1), "mood", runs=runs, resume=True, **options)
    kept = (runs / "predictor-seed0.json").read_text()
    (runs / "predictor-seed0.json").write_text("{")
    with pytest.raises(predgen.DataError, match=r"predictor-seed0\.json', found damage.*--resume runs it again"):
        predgen.compare(reviews(30), "mood", runs=runs, resume=True, **options)
    (runs / "predictor-seed0.json").write_text(kept)
    # More seeds and methods may join what is there.
    more = predgen.compare(reviews(30), "mood", runs=runs, resume=True, seeds=2, **options)
    assert len(more.methods["predictor"].scored) == 2
    predgen.compare(reviews(30), "mood", runs=runs, overwrite=True, **options)
    assert not (runs / "predictor-seed1.json").exists()


def test_invalid_answers_and_numbers_come_back_to_the_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"methods": ["generator"], **SMALL, "decoding": "free", "runs": tmp_path / "runs"}
    first = predgen.compare(reviews(40), "stars", **options)
    again = predgen.compare(reviews(40), "stars", resume=True, **options)
    for one, other in zip(first.methods["generator"].scored, again.methods["generator"].scored, strict=True):
        np.testing.assert_array_equal(one.fields[""].predicted, other.fields[""].predicted)
    assert _figures(first) == _figures(again)
    assert first.methods["generator"].train_seconds == again.methods["generator"].train_seconds


# ---- models that are kept


def test_models_are_kept_and_say_which_rows_they_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"methods": ["predictor", "predgen"], "seeds": 2, **SMALL, "max_steps": 1, "seed": 3}
    found = predgen.compare(reviews(40), "mood", models=tmp_path / "models", **options)
    bench = comparing.Bench.open(found.config, reviews(40), runs=None, resume=False, overwrite=False, quiet=True)
    target = bench.prepared.target
    assert isinstance(target, Label)
    names = [f"{method}-seed{seed}" for method in options["methods"] for seed in (3, 4)]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(names)
    for name in names:
        method, seed = name.split("-seed")
        model = predgen.load(tmp_path / "models" / name, device="cpu")
        assert (model.config.model.method, model.config.train.seed) == (method, int(seed))
        assert (model.record["split_seed"], model.record["rows_sha256"]) == (3, bench.prepared.fingerprint())
        kept = found.methods[method].scored[int(seed) - 3].fields[""]
        answers = model.predict(bench.table)["prediction"].map(target.index)
        np.testing.assert_array_equal(kept.predicted, answers)

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("something was fitted")

    monkeypatch.setattr(comparing, "fit_prepared", never)
    monkeypatch.setattr(baseline_rows, "tfidf_linear", never)
    monkeypatch.setattr(baseline_rows, "untrained_model", never)
    with pytest.raises(
        predgen.OutputExistsError, match=r"predictor-seed3'\. Name another --models, or use --overwrite"
    ):
        predgen.compare(reviews(40), "mood", models=tmp_path / "models", **options)
    other = tmp_path / "other" / "predgen-seed4"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(predgen.OutputExistsError, match=r"found something else at .*predgen-seed4"):
        predgen.compare(reviews(40), "mood", models=tmp_path / "other", overwrite=True, **options)


def test_a_model_is_whole_before_its_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: dict[str, Any] = {"runs": tmp_path / "runs", "models": tmp_path / "models"}
    options: dict[str, Any] = {"methods": ["predictor"], **SMALL, "max_steps": 1}
    name = "predictor-seed0"

    def stopped(*_: Any) -> None:
        assert predgen.load(tmp_path / "models" / name, device="cpu").record["steps"] == 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(comparing, "timed_answers", stopped)
        predgen.compare(reviews(30), "mood", **folders, **options)
    assert not (tmp_path / "runs" / f"{name}.json").exists()
    predgen.compare(reviews(30), "mood", **folders, resume=True, **options)
    kept = (tmp_path / "models" / name / "predgen.json").stat().st_mtime_ns
    # What is finished stays; what joins it is kept too.
    predgen.compare(reviews(30), "mood", **folders, resume=True, seeds=2, **options)
    assert (tmp_path / "models" / name / "predgen.json").stat().st_mtime_ns == kept
    assert (tmp_path / "models" / "predictor-seed1" / "predgen.json").is_file()


def test_a_finished_run_without_its_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"methods": ["predictor"], "runs": tmp_path / "runs", **SMALL, "max_steps": 1}
    predgen.compare(reviews(30), "mood", **options)
    with monkeypatch.context() as patch:
        patch.setattr(comparing, "fit_prepared", None)  # nothing is fitted
        with pytest.raises(
            predgen.ConfigError, match=r"finished run 'predictor-seed0' at .*found none\. Use --overwrite"
        ):
            predgen.compare(
                reviews(30),
                "mood",
                models=tmp_path / "models",
                resume=True,
                **{**options, "methods": ["predgen", "predictor"]},
            )
        predgen.compare(reviews(30), "mood", resume=True, **options)
    predgen.compare(reviews(30), "mood", models=tmp_path / "models", overwrite=True, **options)
    assert predgen.load(tmp_path / "models" / "predictor-seed0", device="cpu").config.model.method == "predictor"
