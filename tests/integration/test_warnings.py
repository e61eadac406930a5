"""Warnings of fits and answers: with the figures of all rows, once each, errors with --strict, none of clean rows."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen.models.asked import Asked
from predgen.models.streaming import predict_file
from predgen.tables.saving import TableWriter
from tests.helpers.commands import files_in, run
from tests.helpers.tables import reviews
from tests.helpers.warned import all_warnings

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}
LONG = " and so on" * 60
SHORT = ["--inputs", "review", "--batch-size", "8", "--set", "max_steps=1", "--device", "cpu", "--quiet"]


def some_long(num_rows: int, num_long: int) -> pd.DataFrame:
    """Returns rows, some of which do not fit into the prompts of `model`."""
    rows = reviews(num_rows, seed=5)
    rows.loc[: num_long - 1, "review"] = [text + LONG for text in rows["review"][:num_long]]
    return rows


def shared_parts() -> dict[str, pd.DataFrame]:
    train = reviews(40)
    return {"train": train, "validation": pd.concat([train[:3], reviews(9, seed=4)], ignore_index=True)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the artifact of a model of labels that reads 64 tokens."""
    path = tmp_path_factory.mktemp("models") / "mood"
    with all_warnings() as found:
        predgen.fit(reviews(60), "mood", out=path, **SMALL, method="predictor", max_prompt_tokens=64)
    assert found == []  # a clean table
    return path


@pytest.fixture
def model(folder: Path) -> predgen.Model:
    return predgen.load(folder, device="cpu")


def write(rows: pd.DataFrame, path: Path) -> Path:
    rows.to_csv(path, index=False)
    return path


# ---- answers


def test_answers_for_clean_rows_are_not_warned_of(model: predgen.Model) -> None:
    with all_warnings() as found:
        model.predict(reviews(30, seed=3), probabilities=True)
        model.evaluate(reviews(30, seed=3))
        model.calibrate(reviews(40, seed=3))
        model.evaluate(reviews(30, seed=3), interval=0.8)
    assert found == []


def test_cut_prompts_are_counted_over_all_chunks_of_a_table(
    model: predgen.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predgen.models.streaming.ROWS_PER_CHUNK", 8)
    rows = write(some_long(20, 11), tmp_path / "rows.csv")
    with all_warnings() as found:
        predict_file(model, str(rows), TableWriter(tmp_path / "out.csv"), asked=Asked())
    (warning,) = found
    assert isinstance(warning, predgen.CutPromptsWarning)
    assert str(warning).startswith("11 of 20 prompts were cut inside their longest field (55 %): they may have 64 tok")
    assert "Raise max_prompt_tokens, at most to " in str(warning)


def test_probabilities_of_exactly_0_or_1_are_counted_where_they_are_asked_for(
    model: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predgen.Model.answers_each

    def certain(self: predgen.Model, *arguments: Any) -> Any:
        (answers,) = original(self, *arguments)
        probabilities = answers.probabilities
        if probabilities is not None:
            probabilities = torch.cat([torch.eye(2, dtype=probabilities.dtype), probabilities[2:]])
        return [replace(answers, probabilities=probabilities)]

    monkeypatch.setattr(predgen.Model, "answers_each", certain)
    rows = reviews(12, seed=3)
    with all_warnings() as found:
        model.predict(rows)
    assert found == []
    said = "^2 of 12 rows have a label with a probability of exactly 0 or 1, .* Calibrate the model"
    with pytest.warns(predgen.CertainProbabilitiesWarning, match=said):
        model.predict(rows, probabilities=True)
    with pytest.warns(predgen.CertainProbabilitiesWarning, match=said):
        model.evaluate(rows)
    with all_warnings() as found:
        model.calibrate(reviews(40, seed=3))
        model.predict(rows, probabilities=True)
    assert found == []  # a calibrated model promises nothing for certain


def test_a_calibration_from_few_rows_says_so(model: predgen.Model) -> None:
    with pytest.warns(predgen.FewCalibrationRowsWarning, match="^Only 4 rows measure"):
        model.calibrate(reviews(8, seed=3))


# ---- Python


def test_a_filter_makes_warnings_errors_before_anything_is_written(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", predgen.PredGenWarning)
        with pytest.raises(predgen.SharedRowsWarning, match=r"^3 of 12 validation rows"):
            predgen.fit(shared_parts(), "mood", out=tmp_path / "model", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_comparison_with_trials_and_seeds_says_each_once() -> None:
    parts = {**shared_parts(), "test": reviews(10, seed=7)}
    for part in parts.values():
        part["review"] = [text + LONG * (row % 2) for row, text in enumerate(part["review"])]
    with all_warnings() as found:
        predgen.compare(
            parts, "mood", methods=["predictor", "generator"], seeds=2, trials=2, max_prompt_tokens=64, **SMALL
        )
    starts = [str(one).split(" were cut")[0].split(" have")[0] for one in found]
    assert starts == [
        "3 of 12 validation rows",
        *("5 of 10 prompts", "20 of 40 training prompts", "6 of 12 validation prompts"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("work", ["auto", "ablate"])
def test_other_work_of_many_fits_says_each_once(work: str) -> None:
    parts = {**shared_parts(), "test": reviews(10, seed=7)}
    for part in parts.values():
        part["review"] = [text + LONG * (row % 2) for row, text in enumerate(part["review"])]
    with all_warnings() as found:
        if work == "auto":
            predgen.fit(parts, "mood", method="auto", max_prompt_tokens=64, **SMALL)
        else:
            predgen.ablate(parts, "mood", parts=["loss"], max_prompt_tokens=64, **SMALL)
    kinds = [str(one).split(" were cut")[0].split(" have")[0].split(" ", 3)[3] for one in found]
    assert len(kinds) == len(set(kinds)), found
    assert {"validation rows", "training prompts", "validation prompts"} <= set(kinds)


# ---- the command line


def test_fit_shows_a_warning_as_a_line_and_is_refused_with_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    for name, rows in shared_parts().items():
        write(rows, tmp_path / "parts" / f"{name}.csv")
    before = files_in(tmp_path)
    command = ["fit", "parts", "--target", "mood", "--method", "predictor", *SHORT]
    done = run(*command, "--out", "model", "--strict", "--json", "fit.json")
    message = (
        "3 of 12 validation rows have the inputs of a training row: what is measured on them says little of new rows."
    )
    assert done.code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.endswith(" (a warning, which --strict makes an error)\n")
    assert done.stderr.count("\n") == 1
    assert files_in(tmp_path) == before
    done = run(
        "compare", *command[1:4], *SHORT, "--methods", "predictor", "--strict", "--markdown", "a.md", "--runs", "r"
    )
    assert (done.code, done.stderr.startswith(f"error: {message}")) == (2, True)
    assert files_in(tmp_path) == before
    done = run(*command, "--out", "model")
    assert done.code == 0
    assert done.stderr.startswith(f"warning: {message}")
    assert done.stderr.count("warning: ") == 1


def test_evaluate_calibrate_and_predict_are_refused_with_strict(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = write(some_long(20, 11), tmp_path / "rows.csv")
    few = write(reviews(8, seed=3), tmp_path / "few.csv")
    before, model = files_in(tmp_path), files_in(folder)
    cut = "11 of 20 prompts were cut inside their longest field (55 %)"
    for command, message in [
        (["evaluate", folder, rows, "--json", "scores.json"], cut),
        (["predict", folder, rows, "--out", "answers.csv", "--json", "answers.json"], cut),
        (["calibrate", folder, few], "Only 4 rows measure the calibrated probabilities"),
    ]:
        done = run(*command, "--device", "cpu", "--strict")
        assert (done.code, done.stdout) == (2, ""), done
        assert done.stderr.startswith(f"error: {message}")
        assert files_in(tmp_path) == before
        assert files_in(folder) == model
    done = run("predict", folder, rows, "--out", "answers.csv", "--device", "cpu")
    assert done.code == 0
    assert done.stderr.startswith(f"warning: {cut}")
    assert done.stderr.count("\n") == 1
    assert len(pd.read_csv("answers.csv")) == 20
    clean = write(reviews(20, seed=3), tmp_path / "clean.csv")
    assert run("evaluate", folder, clean, "--device", "cpu", "--strict").code == 0
