"""Artifacts: equal to the bit after a reload, refused when damaged, never half written."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import predgen
from predgen.backbones import find_source
from predgen.methods.weights import load_trainable_weights, trainable_weights
from predgen.models.asked import as_quantiles
from predgen.writing.sampling import scores_after
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[predgen.Model, Path]:
    folder = tmp_path_factory.mktemp("models") / "mood"
    return predgen.fit(reviews(60), "mood", out=folder, **SMALL), folder


@pytest.mark.parametrize("peft", [pytest.param("none", marks=pytest.mark.slow), "lora"])
@pytest.mark.parametrize("target", ["mood", pytest.param("stars", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "method", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("predictor", "generator")), "predgen"]
)
def test_save_load_predict_is_equal_to_the_bit(tmp_path: Path, method: str, target: str, peft: str) -> None:
    model = predgen.fit(reviews(40), target, **{**SMALL, "method": method, "peft": peft})
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(25, seed=9)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    before, after = model.evaluate(rows), again.evaluate(rows)
    assert before.metrics == after.metrics
    assert again.config == model.config
    assert again.target == model.target


def test_predictions_keep_rows_columns_and_order(fitted: tuple[predgen.Model, Path]) -> None:
    model, _ = fitted
    rows = reviews(30, seed=3).drop(columns="mood")
    answers = model.predict(rows)
    assert list(answers.columns) == ["review", "stars", "prediction", "written", "invalid"]
    assert list(answers["review"]) == list(rows["review"])
    assert set(answers["prediction"]) <= {"good", "bad"}
    assert not answers["invalid"].any()
    shuffled = model.predict(rows.iloc[::-1].reset_index(drop=True))
    assert list(shuffled["prediction"])[::-1] == list(answers["prediction"])


@pytest.mark.parametrize("method", ["predictor", "generator", "predgen"])
def test_probabilities_of_labels_stand_in_columns_of_their_own(method: str) -> None:
    model = predgen.fit(reviews(40), "mood", **{**SMALL, "method": method})
    rows = reviews(25, seed=9)
    plain, found = model.predict(rows), model.predict(rows, probabilities=True)
    columns = ["probability_bad", "probability_good"]
    assert list(found.columns) == [*plain.columns, *columns]
    pd.testing.assert_frame_equal(found[plain.columns], plain, check_exact=True)
    table = found[columns].to_numpy()
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)
    assert list(np.where(table[:, 0] > table[:, 1], "bad", "good")) == list(found["prediction"])
    with pytest.raises(predgen.ConfigError, match=r"numbers for their standard deviation, found one of labels"):
        model.predict(rows, std=True)
    with pytest.raises(predgen.ConfigError, match=r"numbers for their quantiles, found one of labels. Ask for prob"):
        model.predict(rows, quantiles=[0.5])
    with pytest.raises(predgen.DataError, match="a column 'probability_good'"):
        model.predict(rows.assign(probability_good=1), probabilities=True)
    assert "probability_good" in model.predict(rows.assign(probability_good=1)).columns


@pytest.mark.parametrize("method", ["generator", "predgen"])
def test_the_spread_of_a_number_is_that_of_what_is_written(method: str) -> None:
    model = predgen.fit(reviews(40), "stars", **{**SMALL, "method": method})
    rows = reviews(25, seed=9)
    plain, found = model.predict(rows), model.predict(rows, std=True)
    assert list(found.columns) == [*plain.columns, "std"]
    pd.testing.assert_frame_equal(found[plain.columns], plain, check_exact=True)
    low, high = model.target.low, model.target.high  # type: ignore[union-attr]
    assert bool(((found["std"] > 0) & (found["std"] <= (high - low) / 2)).all())
    with pytest.raises(predgen.ConfigError, match=r"labels for probabilities, found one of numbers"):
        model.predict(rows, probabilities=True)
    shares = (0.5, 0.05, 0.9)
    found = model.predict(rows, quantiles=shares)
    assert list(found.columns) == [*plain.columns, "quantile_0.5", "quantile_0.05", "quantile_0.9"]
    pd.testing.assert_frame_equal(found[plain.columns], plain, check_exact=True)
    wanted = quantiles_by_hand(model, rows.head(4), shares)
    assert found[found.columns[-3:]].head(4).to_numpy().tolist() == wanted
    assert len({tuple(row) for row in wanted}) > 1
    for given, said in (
        ([0.5, 0.0], "above 0 and below 1 for quantiles, found 0"),
        ([1.0], "found 1."),
        ([float("nan")], "found nan"),
        ([0.5, 0.1, 0.5], "each quantile once, found 0.5 twice"),
        (np.linspace(0.001, 0.9, 101).tolist(), "at most 100 quantiles, found 101"),
    ):
        with pytest.raises(predgen.ConfigError, match=said):
            model.predict(rows, quantiles=given)
    for wrong in (["half"], 0.5, [None], [10**400]):
        with pytest.raises(predgen.ConfigError, match="Give a list of numbers"):
            as_quantiles(wrong)


def quantiles_by_hand(model: predgen.Model, rows: pd.DataFrame, shares: Sequence[float]) -> list[list[float]]:
    """Returns quantiles from the probability of each number's own text, read and added up row by row."""
    symbols, field = model.method.writer.symbols, model.target.fields[""]  # type: ignore[union-attr]
    step = 10**field.decimals
    values = [number / step for number in range(round(field.low * step), round(field.high * step) + 1)]
    gold, found = symbols.codec.encode(values), []
    for prompt in model.encode(rows).prompts:
        with torch.no_grad():
            memory = symbols.read(torch.tensor([prompt] * len(values)), torch.ones(len(values), len(prompt)).bool())
            scores = scores_after(symbols, memory, gold, gold.symbols)
        chosen = scores.gather(2, gold.symbols.unsqueeze(2)).squeeze(2).double()
        likelihoods = [math.exp(sum(row[kept].tolist())) for row, kept in zip(chosen, gold.mask, strict=True)]
        assert sum(likelihoods) == pytest.approx(1, abs=1e-4)
        reached = [sum(likelihoods[: place + 1]) / sum(likelihoods) for place in range(len(values))]
        found.append([values[next(at for at, sum_ in enumerate(reached) if sum_ >= share)] for share in shares])
    return found


@pytest.mark.slow
def test_evaluation_has_the_score_of_the_distribution_and_the_reliability_of_labels() -> None:
    rows = reviews(25, seed=9)
    stars = predgen.fit(reviews(40), "stars", **{**SMALL, "method": "generator"}).evaluate(rows)
    assert 0 < stars.metrics["crps"] <= 5
    low, high = stars.ci95["crps"]
    assert low <= stars.metrics["crps"] <= high
    assert stars.reliability == ()
    pooled = predgen.fit(reviews(40), "stars", **{**SMALL, "method": "predictor"}).evaluate(rows)
    assert "crps" not in pooled.metrics
    mood = predgen.fit(reviews(40), "mood", **SMALL).evaluate(rows)
    assert sum(one["rows"] for one in mood.reliability) == 25
    plain = json.loads(json.dumps(mood.to_json(), allow_nan=False))
    gaps = [one["rows"] / 25 * abs(one["accuracy"] - one["confidence"]) for one in plain["reliability"]]
    assert mood.metrics["ece"] == pytest.approx(sum(gaps))


@pytest.mark.slow
def test_the_predictor_has_no_spread_and_a_long_number_a_coarse_one() -> None:
    rows = reviews(40)
    pooled = predgen.fit(rows, "stars", **{**SMALL, "method": "predictor"})
    with pytest.raises(predgen.ConfigError, match=r"the predictor, which writes none. Fit the generator or predgen"):
        pooled.predict(rows, std=True)
    with pytest.raises(predgen.ConfigError, match=r"numbers for their quantiles, found the predictor, which writes"):
        pooled.predict(rows, quantiles=[0.5])
    long = {"low": 0.0, "high": 5.0, "decimals": 9, "method": "generator"}
    model = predgen.fit(rows, "stars", **{**SMALL, **long})
    coarse = r"of the Writer's probability over 4 rows is known number by number.*Fewer decimals or a smaller range"
    with pytest.warns(predgen.CoarseDistributionWarning, match=coarse):
        found = model.predict(rows.head(4), std=True)
    assert bool((found["std"] > 0).all())
    # So coarse a mean is no answer: the text is.
    assert list(found["prediction"]) == [float(text) for text in found["written"]]
    assert "crps" not in model.evaluate(rows.head(4)).metrics
    with pytest.raises(predgen.ConfigError, match=r"with estimate 'median', found 5,000,000,001"):
        predgen.fit(rows, "stars", **{**SMALL, **long, "estimate": "median"})
    with pytest.raises(predgen.ConfigError, match=r"the estimate text with free decoding.*found '0.9'"):
        predgen.fit(rows, "stars", **{**SMALL, "method": "generator", "decoding": "free", "estimate": 0.9})
    with pytest.raises(predgen.ConfigError, match=r"with decoding 'trie', found 5,000,000,001"):
        predgen.fit(rows, "stars", **{**SMALL, **long, "decoding": "trie"})
    with pytest.raises(predgen.ConfigError, match=r"with writer_loss 'expected_value', found 5,000,000,001"):
        predgen.fit(rows, "stars", **{**SMALL, **long, "writer_loss": "expected_value"})


@pytest.mark.slow
def test_the_generators_number_follows_the_metric() -> None:
    rows = reviews(40)
    found = {}
    for name, settings in {
        "mse": {"metric": "mse"},
        "mae": {"metric": "mae"},
        "mean": {"estimate": "mean"},
        "median": {"estimate": "median", "metric": "mse"},
        "half": {"estimate": 0.5},
        "text": {"estimate": "text", "decoding": "trie"},
        "greedy": {"estimate": "text", "decoding": "greedy"},
        "mode": {"estimate": "mode", "decoding": "greedy"},
    }.items():
        model = predgen.fit(rows, "stars", **{**SMALL, "max_steps": 1, "method": "generator", **settings})
        found[name] = model.predict(rows)
    predictions = {name: list(table["prediction"]) for name, table in found.items()}
    assert predictions["mse"] == predictions["mean"]
    assert predictions["mae"] == predictions["median"] == predictions["half"]
    assert predictions["mean"] != predictions["median"]
    for name in ("text", "greedy"):
        assert predictions[name] == [float(text) for text in found[name]["written"]]
    assert predictions["mode"] == predictions["text"]
    assert predictions["mean"] != predictions["text"]


@pytest.mark.slow
def test_a_calibrated_number_has_an_interval(tmp_path: Path) -> None:
    model = predgen.fit(reviews(60), "stars", out=tmp_path / "model", **{**SMALL, "calibration": 0.25})
    rows = reviews(25, seed=9)
    again = predgen.load(tmp_path / "model", device="cpu")
    found = again.predict(rows, interval=0.8)
    pd.testing.assert_frame_equal(model.predict(rows, interval=0.8), found, check_exact=True)
    assert list(found.columns)[-2:] == ["low", "high"]
    pd.testing.assert_frame_equal(found.iloc[:, :-2], again.predict(rows), check_exact=True)
    width = found["high"] - found["low"]
    assert float(width.std()) == pytest.approx(0, abs=1e-9)
    scores = json.loads((tmp_path / "model" / "predgen.json").read_text())["calibrations"][""]["scores"]
    assert float(width.iloc[0]) / 2 in [pytest.approx(score) for score in scores]
    evaluation = again.evaluate(rows, interval=0.8)
    held = (found["low"] <= rows["stars"]) & (rows["stars"] <= found["high"])
    assert evaluation.metrics["coverage"] == pytest.approx(held.mean())
    assert evaluation.metrics["width"] == pytest.approx(float(width.mean()))
    low, high = evaluation.ci95["coverage"]
    assert low <= held.mean() <= high
    with pytest.raises(predgen.DataError, match="a column 'high'"):
        again.predict(rows.assign(high=1), interval=0.8)
    with pytest.raises(predgen.ConfigError, match=r"calibration rows for the level 0\.99"):
        again.predict(rows, interval=0.99)
    declared = predgen.fit(reviews(60), "stars", **{**SMALL, "calibration": 0.25, "low": 0.0, "high": 5.0})
    ends = declared.predict(rows, interval=0.9)
    assert bool(((ends["low"] >= 0) & (ends["high"] <= 5)).all())


@pytest.mark.slow
def test_a_calibrated_label_has_tempered_probabilities_and_sets(tmp_path: Path) -> None:
    rows, own = reviews(30, seed=9), reviews(40, seed=7)
    model = predgen.fit(reviews(60), "mood", out=tmp_path / "model", **SMALL)
    before = model.predict(rows, probabilities=True)
    with pytest.raises(predgen.ConfigError, match="found one without calibration"):
        model.predict(rows, interval=0.9)
    model.calibrate(own)
    first = model.contents.calibrations
    model.calibrate(own)
    assert model.contents.calibrations == first  # the old temperature is not in the new scores
    assert first[""].temperature != 1
    after = model.predict(rows, probabilities=True, interval=0.9)
    assert list(after["prediction"]) == list(before["prediction"])
    columns = ["probability_bad", "probability_good"]
    np.testing.assert_allclose(after[columns], first[""].tempered(before[columns].to_numpy()), atol=1e-6)
    assert set(after["set"]) <= {"", "bad", "good", "bad|good"}
    evaluation = model.evaluate(rows, interval=0.9)
    held = [truth in text.split("|") for truth, text in zip(rows["mood"], after["set"], strict=True)]
    assert evaluation.metrics["coverage"] == pytest.approx(np.mean(held))
    sizes = [len(text.split("|")) if text else 0 for text in after["set"]]
    assert evaluation.metrics["set_size"] == pytest.approx(np.mean(sizes))
    model.save(tmp_path / "model", overwrite=True)
    again = predgen.load(tmp_path / "model", device="cpu")
    pd.testing.assert_frame_equal(again.predict(rows, interval=0.9), model.predict(rows, interval=0.9))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mood", "stars"])
def test_answers_come_from_director_writer_mean_or_stack(tmp_path: Path, target: str) -> None:
    rows, labels = reviews(25, seed=9), target == "mood"
    columns = ["probability_bad", "probability_good"] if labels else ["prediction"]
    model = predgen.fit(reviews(60), target, out=tmp_path / "model", **{**SMALL, "predict_from": "stack"})
    asked = {"probabilities": True} if labels else {}
    whole = predgen.load(tmp_path / "model", device="cpu").predict(rows, **asked)
    pd.testing.assert_frame_equal(model.predict(rows, **asked), whole, check_exact=True)
    found = {}
    for source in ("director", "writer", "mean", "stack"):
        one = predgen.load(tmp_path / "model", device="cpu", predict_from=source)
        found[source] = one.predict(rows, **asked)[columns].to_numpy()
        assert one.evaluate(rows).rows == 25
    assert np.abs(found["director"] - found["writer"]).max() > 1e-3
    np.testing.assert_allclose(found["mean"], (found["director"] + found["writer"]) / 2, atol=1e-6)
    mix = json.loads((tmp_path / "model" / "predgen.json").read_text())["mixes"][0]
    stacked = mix["director"] * found["director"] + mix["writer"] * found["writer"] + mix["intercept"]
    if not labels:
        stacked = stacked.clip(model.target.low, model.target.high)  # type: ignore[union-attr]
    np.testing.assert_allclose(found["stack"], stacked, atol=1e-6)
    if not labels:  # the Writer's share is the mean of its distribution, as the metric wants it, and no written text
        writer = predgen.load(tmp_path / "model", device="cpu", predict_from="writer").predict(rows)
        assert list(writer["prediction"]) != [float(text) for text in writer["written"]]


def test_another_source_is_kept_by_a_save_and_not_promised_for(tmp_path: Path) -> None:
    rows = reviews(25, seed=9)
    settings = {**SMALL, "calibration": 0.25, "predict_from": "director"}
    predgen.fit(reviews(60), "stars", out=tmp_path / "model", **settings)
    other = predgen.load(tmp_path / "model", device="cpu", predict_from="writer")
    with pytest.raises(predgen.ConfigError, match="found one without calibration"):
        other.predict(rows, interval=0.8)
    other.calibrate(reviews(40, seed=7))
    other.save(tmp_path / "other")
    again = predgen.load(tmp_path / "other", device="cpu")
    pd.testing.assert_frame_equal(again.predict(rows, interval=0.8), other.predict(rows, interval=0.8))
    back = predgen.load(tmp_path / "other", device="cpu", predict_from="director").predict(rows)
    first = predgen.load(tmp_path / "model", device="cpu").predict(rows)
    assert list(back["prediction"]) == list(first["prediction"]) != list(other.predict(rows)["prediction"])


def test_a_calibration_that_cannot_be_had_leaves_the_one_before(fitted: tuple[predgen.Model, Path]) -> None:
    model = predgen.load(fitted[1], device="cpu")
    model.calibrate(reviews(40, seed=7))
    before = model.contents.calibrations
    with pytest.raises(predgen.DataError, match="at least 2 rows"):
        model.calibrate(reviews(1))
    assert model.contents.calibrations is before is not None


def test_an_open_end_is_an_empty_cell(tmp_path: Path) -> None:
    predgen.fit(reviews(60), "stars", out=tmp_path / "model", **SMALL)
    description = json.loads((tmp_path / "model" / "predgen.json").read_text())
    del description["sha256"]
    description["calibrations"] = {"": {"temperature": 1.0, "scores": [1.0, 2.0, None, None]}}
    (tmp_path / "model" / "predgen.json").write_text(json.dumps(description))
    model = predgen.load(tmp_path / "model", device="cpu")
    assert model.predict(reviews(5), interval=0.75)[["low", "high"]].isna().all(axis=None)
    assert model.predict(reviews(5), interval=0.4)[["low", "high"]].notna().all(axis=None)


def test_a_source_that_a_model_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    predgen.fit(reviews(40), "mood", out=folder, **{**SMALL, "predict_from": "director"})
    with pytest.raises(predgen.ConfigError, match="whose stack was fitted"):
        predgen.load(folder, predict_from="stack")
    with pytest.raises(predgen.UnknownNameError, match="Did you mean 'director'"):
        predgen.load(folder, predict_from="directer")
    predgen.fit(reviews(40), "mood", out=tmp_path / "pooled", **{**SMALL, "method": "predictor"})
    with pytest.raises(predgen.ConfigError, match="found one of the method predictor"):
        predgen.load(tmp_path / "pooled", predict_from="writer")


def test_the_artifact_holds_json_yaml_safetensors_and_a_card_alone(fitted: tuple[predgen.Model, Path]) -> None:
    _, folder = fitted
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and path != folder / "README.md"}
    assert suffixes <= {".json", ".yaml", ".safetensors", ".jinja", ".txt", ".model"}
    assert not list(folder.parent.glob("mood.unfinished"))


def test_an_existing_output_is_refused_unless_overwritten(fitted: tuple[predgen.Model, Path], tmp_path: Path) -> None:
    model, _ = fitted
    model.save(tmp_path / "model")
    before = (tmp_path / "model" / "predgen.json").read_bytes()
    with pytest.raises(predgen.OutputExistsError, match=r"Expected a new directory.*--overwrite"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model" / "predgen.json").read_bytes() == before
    model.save(tmp_path / "model", overwrite=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    with pytest.raises(predgen.OutputExistsError, match="found something else"):
        model.save(precious, overwrite=True)
    assert (precious / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "precious"]


def test_a_failed_save_leaves_nothing_behind(
    fitted: tuple[predgen.Model, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = fitted
    model.save(tmp_path / "model")
    before = (tmp_path / "model" / "weights.safetensors").read_bytes()

    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("predgen.models.artifact.write_config", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save(tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "weights.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_truncated_weights_are_refused(fitted: tuple[predgen.Model, Path], tmp_path: Path) -> None:
    copy = _copy(fitted[1], tmp_path)
    whole = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(predgen.ArtifactError, match=r"found damage in .*weights\.safetensors"):
        predgen.load(copy)


def _whole(weights: torch.Tensor) -> torch.Tensor:
    return weights.round().to(torch.int32)


def _truth(weights: torch.Tensor) -> torch.Tensor:
    return weights > 0


def _one_nan(weights: torch.Tensor) -> torch.Tensor:
    return weights.flatten().index_fill(0, torch.tensor([1]), float("nan")).view_as(weights)


def _one_infinite(weights: torch.Tensor) -> torch.Tensor:
    return weights.flatten().index_fill(0, torch.tensor([1]), float("inf")).view_as(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_whole, r"holds torch\.int32, not torch\.float32"),
        (_truth, r"holds torch\.bool, not torch\.float32"),
        (_one_nan, "holds a value that is no finite number"),
        (_one_infinite, "holds a value that is no finite number"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, fitted: tuple[predgen.Model, Path]
) -> None:
    method = fitted[0].method
    weights = trainable_weights(method)
    for name in (min(weights), max(weights)):
        with pytest.raises(ValueError, match=message):
            load_trainable_weights(method, {**weights, name: change(weights[name])})
    load_trainable_weights(method, weights)
    for name, values in trainable_weights(method).items():
        assert torch.equal(values, weights[name])


def test_missing_weights_and_missing_descriptions_are_refused(
    fitted: tuple[predgen.Model, Path], tmp_path: Path
) -> None:
    copy = _copy(fitted[1], tmp_path)
    (copy / "weights.safetensors").unlink()
    with pytest.raises(predgen.ArtifactError, match="found damage"):
        predgen.load(copy)
    (copy / "predgen.json").write_text('{"format": 1')
    with pytest.raises(predgen.ArtifactError, match=r"readable predgen\.json"):
        predgen.load(copy)
    with pytest.raises(predgen.ArtifactError, match="found none at"):
        predgen.load(tmp_path / "nowhere")


def test_a_newer_format_is_refused(fitted: tuple[predgen.Model, Path], tmp_path: Path) -> None:
    copy = _copy(fitted[1], tmp_path)
    description = json.loads((copy / "predgen.json").read_text())
    (copy / "predgen.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(predgen.ArtifactError, match=r"found format 99.*Update predgen"):
        predgen.load(copy)


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    base = shutil.copytree(find_source("builtin:nano").folder, tmp_path / "base")
    model = predgen.fit(reviews(40), "mood", **{**SMALL, "backbone": str(base)})
    model.save(tmp_path / "model")
    predgen.load(tmp_path / "model")
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(predgen.ArtifactError, match=r"with the hash .* that .* was trained on, found"):
        predgen.load(tmp_path / "model")
    shutil.rmtree(base)
    with pytest.raises(predgen.ArtifactError, match="it cannot be had"):
        predgen.load(tmp_path / "model")


def test_evaluate_counts_unseen_labels_as_wrong_and_warns(fitted: tuple[predgen.Model, Path]) -> None:
    model, _ = fitted
    rows = reviews(20, seed=5)
    known = model.evaluate(rows)
    more = pd.concat([rows, rows.iloc[:20].assign(mood="meh")], ignore_index=True)
    mixed = model.evaluate(more)
    assert "20 rows have labels that were never seen" in mixed.warnings[0]
    assert mixed.metrics["accuracy"] == pytest.approx(known.metrics["accuracy"] / 2)
    assert known.rows == 20
    assert known.ci95["accuracy"][0] <= known.metrics["accuracy"] <= known.ci95["accuracy"][1]
    json.dumps(mixed.to_json(), allow_nan=False)


def test_bad_rows_are_named(fitted: tuple[predgen.Model, Path]) -> None:
    model, _ = fitted
    rows = reviews(5)
    rows.loc[3, "review"] = ""
    with pytest.raises(predgen.DataError, match=r"row 4.*column 'review'"):
        model.predict(rows)
    rows = reviews(5)
    rows.loc[2, "mood"] = None
    with pytest.raises(predgen.DataError, match="row 3, column 'mood'"):
        model.evaluate(rows)
    with pytest.raises(predgen.UnknownNameError, match="Did you mean"):
        model.predict(reviews(3).rename(columns={"review": "revue"}))
    with pytest.raises(predgen.DataError, match="a column 'prediction'"):
        model.predict(reviews(3).assign(prediction=1))


def test_free_decoding_reports_invalid_answers(tmp_path: Path) -> None:
    # One step of training cannot teach the form of a number: nearly all free answers are invalid.
    model = predgen.fit(
        reviews(40),
        "stars",
        **{**SMALL, "max_steps": 1, "method": "generator", "decoding": "free", "learning_rate": 1e-6},
    )
    answers = model.predict(reviews(10))
    assert answers["invalid"].any()
    assert answers.loc[answers["invalid"], "prediction"].isna().all()
    assert answers["written"].notna().all()
    with pytest.raises(predgen.DataError, match="invalid of 10"):
        model.predict(reviews(10), invalid="raise")
    assert model.evaluate(reviews(10)).invalid_fraction == pytest.approx(np.mean(answers["invalid"]))


def test_long_inputs_are_cut_and_counted() -> None:
    table = reviews(40)
    table.loc[:, "review"] = [text + " and so on" * 200 for text in table["review"]]
    cut = r"^32 of 32 training prompts were cut .*\(100 %\): they may have 64 tokens\. Raise max_prompt_tokens, at most"
    with pytest.warns(predgen.CutPromptsWarning, match=cut):
        model = predgen.fit(table, "mood", **{**SMALL, "max_prompt_tokens": 64, "max_steps": 1})
    assert model.record["cut_prompts"] == 32
    with pytest.raises(predgen.TemplateError, match="without any field"):
        predgen.fit(
            table, "mood", **{**SMALL, "inputs": None, "template": "word " * 100 + "{review}", "max_prompt_tokens": 64}
        )


@pytest.mark.slow
def test_no_rows_have_no_answers() -> None:
    model = predgen.fit(reviews(40), "mood", **SMALL)
    rows = reviews(3)
    columns = list(model.predict(rows, probabilities=True).columns)
    empty = model.predict(rows[:0], probabilities=True)
    assert (list(empty.columns), len(empty)) == (columns, 0)
    assert list(model.predict([]).columns) == ["prediction", "written", "invalid"]


def test_a_base_model_that_moved_is_found_beside_the_artifact_or_where_it_is_said_to_be(tmp_path: Path) -> None:
    base = shutil.copytree(find_source("builtin:nano").folder, tmp_path / "models" / "base")
    predgen.fit(reviews(40), "mood", **{**SMALL, "backbone": str(base)}).save(tmp_path / "model")
    texts = reviews(8, seed=3)[["review"]]
    wanted = predgen.load(tmp_path / "model").predict(texts, probabilities=True)

    elsewhere = Path(shutil.move(base, tmp_path / "elsewhere"))
    with pytest.raises(predgen.ArtifactError, match=r"cannot be had.*--backbone PATH"):
        predgen.load(tmp_path / "model")
    moved = predgen.load(tmp_path / "model", backbone=elsewhere)
    pd.testing.assert_frame_equal(moved.predict(texts, probabilities=True), wanted)
    moved.save(tmp_path / "saved")  # which names the new place from now on
    predgen.load(tmp_path / "saved")

    beside = Path(shutil.move(elsewhere, tmp_path / "base"))
    pd.testing.assert_frame_equal(predgen.load(tmp_path / "model").predict(texts, probabilities=True), wanted)

    inside = Path(shutil.move(beside, tmp_path / "model" / "base"))
    pd.testing.assert_frame_equal(predgen.load(tmp_path / "model").predict(texts, probabilities=True), wanted)

    weights = bytearray((inside / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (inside / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(predgen.ArtifactError, match=r"with the hash .*found .*in '.*model/base'"):
        predgen.load(tmp_path / "model")
    with pytest.raises(predgen.ArtifactError, match="with the hash"):
        predgen.load(tmp_path / "model", backbone=inside)
    with pytest.raises(predgen.ArtifactError, match="cannot be had"):
        predgen.load(tmp_path / "model", backbone=tmp_path / "nowhere")
