"""The command line, end to end: every file format, every bad input, interruptions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file
from torch import equal

import predgen
from predgen.tables.reading import read_table
from predgen.tables.saving import TableWriter
from tests.helpers.commands import files_in, refused, run
from tests.helpers.tables import reviews

SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet"]

pytestmark = pytest.mark.usefixtures("few_resamples")
SHORT = ["--inputs", "review", "--set", "max_steps=2", "--batch-size", "8", "--device", "cpu"]


def write(table: pd.DataFrame, path: Path) -> Path:
    with TableWriter(path) as writer:
        writer.write(table)
    return path


def strict_json(path: Path) -> Any:
    """Returns what a file holds; NaN and infinity are no JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns a model of labels and one of numbers, fitted by the command line; tests copy what they change."""
    folder = tmp_path_factory.mktemp("models")
    table = write(reviews(50), folder / "reviews.csv")
    found = {}
    for target in ("mood", "stars"):
        done = run("fit", table, "--target", target, "--out", folder / target, *SHORT, "--quiet")
        assert done.code == 0, done
        found[target] = folder / target
    return found


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Returns a table of 20 rows that no model saw."""
    return write(reviews(20, seed=5), tmp_path / "new.csv")


# ---- the main job


@pytest.mark.slow
def test_every_file_format_gives_the_same_model_answers_and_scores(tmp_path: Path) -> None:
    # Cells are text in CSV and TSV, and numbers in the other two.
    weights, answers, scores = {}, {}, {}
    for suffix in SUFFIXES:
        table = write(reviews(40), tmp_path / f"reviews{suffix}")
        model = tmp_path / f"model{suffix[1:]}"
        done = run("fit", table, "--target", "stars", "--out", model, *SHORT)
        assert done.code == 0, done
        assert "Next: predgen predict" in done.stdout
        weights[suffix] = load_file(model / "weights.safetensors")

        done = run("predict", model, table, "--out", f"answers{suffix}", "--json", "done.json")
        assert done.code == 0, done
        assert strict_json(tmp_path / "done.json")["rows"] == 40
        answers[suffix] = read_table(f"answers{suffix}")

        done = run("evaluate", model, f"answers{suffix}", "--json", "scores.json")
        assert done.code == 0, done
        assert "40 rows, 0.0% invalid answers" in done.stdout
        scores[suffix] = strict_json(tmp_path / "scores.json")

    wanted = ["review", "mood", "stars", "prediction", "written", "invalid"]
    for suffix in SUFFIXES:
        assert all(equal(weights[".csv"][name], weights[suffix][name]) for name in weights[".csv"])
        assert list(answers[suffix].columns) == wanted
        assert list(answers[suffix]["review"]) == list(reviews(40)["review"])
        assert list(answers[suffix]["stars"].astype(float)) == list(reviews(40)["stars"])
        assert answers[suffix]["prediction"].astype(float).between(0, 5.5).all()
        assert list(answers[suffix]["prediction"].astype(float)) == list(answers[".csv"]["prediction"].astype(float))
        assert scores[suffix]["metrics"] == scores[".csv"]["metrics"]
    assert set(answers[".csv"]["invalid"]) == {"False"}
    assert set(answers[".jsonl"]["invalid"]) == {False} == set(answers[".parquet"]["invalid"])


def test_notes_say_what_was_inferred_and_quiet_leaves_results_alone(tmp_path: Path) -> None:
    table = write(reviews(40), tmp_path / "reviews.csv")
    arguments = ["fit", table, "--target", "mood", "--set", "max_steps=1", "--device", "cpu", "--out"]
    done = run(*arguments, "noisy", "--json", "fit.json")
    for note in (
        "Rows: 32 train / 4 validation / 4 test",
        "Target: 'mood', 2 labels: bad, good — its cells are not numbers",
        "Inputs: review (the free-text columns",
    ):
        assert note in done.stderr
    assert "accuracy" in done.stdout
    written = strict_json(tmp_path / "fit.json")
    assert written["inputs"] == ["review"]
    assert written["record"]["steps"] == 1

    quiet = run(*arguments, "silent", "--quiet")
    assert quiet.stderr == ""
    assert quiet.stdout.splitlines()[1] == (
        "The model is in 'silent'. Next: predgen predict silent NEW.csv --out answers.csv"
    )
    # The settings stand beside the model; they make the same model once more.
    again = run("fit", "--config", "silent/config.yaml", "--out", "again", "--quiet")
    assert again.code == 0, again
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("silent", "again"))
    assert all(equal(one[name], other[name]) for name in one)
    assert (tmp_path / "silent" / "config.yaml").read_bytes() == (tmp_path / "again" / "config.yaml").read_bytes()


def test_label_texts_templates_and_parts_are_taken_from_the_command_line(tmp_path: Path) -> None:
    train, held_out = write(reviews(30), tmp_path / "a.csv"), write(reviews(8, seed=2), tmp_path / "b.jsonl")
    done = run(
        *("fit", train, "--target", "mood", "--out", "model", "--template", "Film: {review} It was {{"),
        *("--label-text", "good=great,bad=poor", "--validation", held_out, "--test", held_out),
        *("--method", "generator", "--set", "max_steps=1", "--device", "cpu"),
    )
    assert done.code == 0, done
    assert "Rows: 30 train / 8 validation / 8 test (as given)" in done.stderr
    assert "2 labels: bad=poor, good=great — label texts were given" in done.stderr
    model = predgen.load(tmp_path / "model", device="cpu")
    assert model.contents.template.text == "Film: {review} It was {{"
    answers = model.predict(reviews(6, seed=3))
    assert set(answers["prediction"]) <= {"good", "bad"}
    assert list(answers["written"]) == [{"good": "great", "bad": "poor"}[one] for one in answers["prediction"]]


def test_compare_prints_tables_and_writes_json_and_markdown(tmp_path: Path) -> None:
    table = write(reviews(40), tmp_path / "reviews.csv")
    done = run(
        *("compare", table, "--target", "stars", "--methods", "predictor, predgen", "--quiet", *SHORT),
        *("--json", "result.json", "--markdown", "result.md"),
    )
    assert done.code == 0, done
    assert done.stderr == ""
    result = strict_json(tmp_path / "result.json")
    assert list(result["methods"]) == ["mean_or_majority", "tfidf_linear", "zero_shot", "predictor", "predgen"]
    markdown = (tmp_path / "result.md").read_text()
    for name in result["methods"]:
        assert f"│ {name} " in done.stdout
        assert f"| `{name}` |" in markdown
    assert "4 test rows" in done.stdout
    assert "Paired tests" in done.stdout


def test_compare_takes_the_baselines_that_are_named_and_says_which_do_not_apply(tmp_path: Path) -> None:
    table = write(reviews(40).assign(tags="long|loud"), tmp_path / "reviews.csv")
    command = ["compare", table, "--methods", "predictor", "--quiet", *SHORT, "--json", "result.json"]
    done = run(*command, "--target", "mood", "--baselines", "zero_shot_calibrated,mean_or_majority")
    assert (done.code, done.stderr) == (0, "")
    found = strict_json(tmp_path / "result.json")["methods"]
    assert list(found) == ["zero_shot_calibrated", "mean_or_majority", "predictor"]
    assert found["zero_shot_calibrated"]["metrics"]["log_loss"] > 0
    done = run(*command, "--target", "mood", "--baselines", "")
    assert done.code == 0, done
    assert list(strict_json(tmp_path / "result.json")["methods"]) == ["predictor"]
    # By default or by name: one sentence, and the comparison goes on.
    reason = "it answers a number or one label, and sets of labels are predicted."
    for named in ([], ["--baselines", "mean_or_majority,tfidf_linear,zero_shot"]):
        done = run(*command, "--target", "tags", "--kind", "set", *named)
        assert done.code == 0, done
        assert done.stderr == f"warning: Left out the baseline 'zero_shot': {reason}\n"
        assert list(strict_json(tmp_path / "result.json")["methods"]) == [
            *("mean_or_majority", "tfidf_linear", "predictor"),
        ]


def test_compare_keeps_its_models(tmp_path: Path) -> None:
    table = write(reviews(40), tmp_path / "reviews.csv")
    command = ["compare", table, "--target", "mood", "--methods", "predictor", "--quiet", *SHORT, "--models", "fitted"]
    done = run(*command)
    assert done.code == 0, done
    done = run("evaluate", "fitted/predictor-seed0", table, "--quiet", "--json", "scores.json")
    assert done.code == 0, done
    assert strict_json(tmp_path / "scores.json")["rows"] == 40
    assert "Name another --models, or use --overwrite." in refused(*command)
    done = run(*command, "--overwrite")
    assert done.code == 0, done


# ---- predict


def test_predict_streams_in_the_order_of_the_rows(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reviews(30, seed=4).assign(
        number=list(range(30)), note=[None] * 20 + ["late"] * 10, nested=[{"row": row} for row in range(30)]
    )
    table = write(rows, tmp_path / "rows.jsonl")
    sizes = []
    original = predgen.Model.predict_encoded

    def counted(self: predgen.Model, chunk: Any, asked: Any, warnings: Any) -> pd.DataFrame:
        sizes.append(len(chunk.prompts))
        return original(self, chunk, asked, warnings)

    monkeypatch.setattr("predgen.models.streaming.ROWS_PER_CHUNK", 8)
    monkeypatch.setattr(predgen.Model, "predict_encoded", counted)
    for suffix in SUFFIXES:
        assert run("predict", models["mood"], table, "--out", f"answers{suffix}", "--quiet").code == 0
        answers = read_table(f"answers{suffix}")
        assert [int(number) for number in answers["number"]] == list(range(30))
        assert list(answers.columns) == [*rows.columns, "prediction", "written", "invalid"]
        assert [json.loads(cell)["row"] for cell in answers["nested"]] == list(range(30))
        assert [bool(note) for note in answers["note"]] == [False] * 20 + [True] * 10
        assert list(answers["review"]) == list(rows["review"])
    assert sizes == [8, 8, 8, 6] * len(SUFFIXES)


def test_a_fault_in_a_late_row_leaves_the_answers_of_before(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reviews(30)
    rows.loc[27, "review"] = " "
    table = write(rows, tmp_path / "rows.csv")
    (tmp_path / "answers.csv").write_text("precious")
    before = files_in(tmp_path)
    monkeypatch.setattr("predgen.models.streaming.ROWS_PER_CHUNK", 8)
    message = refused("predict", models["mood"], table, "--out", "answers.csv", "--overwrite")
    assert "Expected input text in row 28, column 'review', found an empty cell." in message
    assert files_in(tmp_path) == before


def test_texts_are_answered_printed_and_written(models: dict[str, Path], tmp_path: Path) -> None:
    texts = ["--text", "A lovely film.", "--text", "A dull film."]
    done = run("predict", models["stars"], *texts, "--out", "answers.jsonl", "--json", "answers.json")
    assert done.code == 0, done
    wanted = predgen.load(models["stars"]).predict([{"review": "A lovely film."}, {"review": "A dull film."}])
    assert [float(line) for line in done.stdout.splitlines()] == list(wanted["prediction"])
    written = strict_json(tmp_path / "answers.json")
    assert [one["review"] for one in written] == ["A lovely film.", "A dull film."]
    assert [one["written"] for one in written] == list(wanted["written"])
    assert read_table(tmp_path / "answers.jsonl").to_dict("records") == written
    before = files_in(tmp_path)
    assert "Expected a new file" in refused("predict", models["stars"], *texts, "--out", "answers.jsonl")
    assert "found an empty cell" in refused("predict", models["stars"], "--text", "")
    assert files_in(tmp_path) == before


def test_probabilities_and_spread_are_asked_for(models: dict[str, Path], new: Path, tmp_path: Path) -> None:
    text = ["--text", "A lovely film."]
    answer, bad, good = run("predict", models["mood"], *text, "--probabilities").stdout.split()
    parts = {name: float(value) for name, _, value in (part.partition("=") for part in (bad, good))}
    assert answer == f"{max(parts, key=lambda name: parts[name])}".removeprefix("probability_")
    assert sum(parts.values()) == pytest.approx(1, abs=1e-3)
    assert run("predict", models["stars"], new, "--out", "answers.csv", "--std", "--quiet").code == 0
    assert list(read_table(tmp_path / "answers.csv").columns)[-2:] == ["invalid", "std"]
    shares = ["--quantiles", "0.1, 0.9"]
    assert run("predict", models["stars"], new, "--out", "quantiles.csv", *shares, "--quiet").code == 0
    table = read_table(tmp_path / "quantiles.csv")
    assert list(table.columns)[-2:] == ["quantile_0.1", "quantile_0.9"]
    assert (table["quantile_0.1"].astype(float) <= table["quantile_0.9"].astype(float)).all()
    before = files_in(tmp_path)
    for text, said in (("0.1,1", "found 1. Write 5 % as 0.05"), ("0.1;0.9", "Give a list of numbers"), ("", "shares")):
        assert said in refused("predict", models["stars"], new, "--out", "x.csv", "--quantiles", text)
    assert "Ask for probabilities instead" in refused("predict", models["mood"], new, "--out", "x.csv", "--std")
    assert "Ask for std" in refused("predict", models["stars"], new, "--out", "x.csv", "--probabilities")
    assert files_in(tmp_path) == before


@pytest.mark.slow
def test_a_model_is_calibrated_and_promises_intervals(models: dict[str, Path], new: Path, tmp_path: Path) -> None:
    rows = write(reviews(40, seed=5), tmp_path / "own.csv")
    for name, columns in {"stars": ["low", "high"], "mood": ["set"]}.items():
        shutil.copytree(models[name], tmp_path / name)
        assert "Run predgen calibrate" in refused("predict", name, new, "--out", "x.csv", "--interval", "0.9")
        done = run("calibrate", name, rows, "--quiet")
        assert done.code == 0, done
        assert f"'{name}' is calibrated" in done.stdout
        assert ("temperature" in done.stdout) == (name == "mood")
        assert run("predict", name, new, "--out", f"{name}.csv", "--interval", "0.9", "--quiet").code == 0
        assert list(read_table(tmp_path / f"{name}.csv").columns)[-len(columns) :] == columns
        done = run("evaluate", name, rows, "--interval", "0.9", "--json", "scores.json", "--quiet")
        assert "coverage" in done.stdout
        assert strict_json(tmp_path / "scores.json")["metrics"]["coverage"] > 0
        assert "level between 0 and 1" in refused("evaluate", name, rows, "--interval", "90")
    before = files_in(tmp_path)
    assert "at least 2 rows to calibrate on, found 1" in refused(
        "calibrate", "stars", write(reviews(1), tmp_path / "one.csv")
    )
    (tmp_path / "one.csv").unlink()
    assert files_in(tmp_path) == before


def test_texts_of_several_columns_are_named(tmp_path: Path) -> None:
    table = write(reviews(30).assign(title=[f"Film number {row} of all" for row in range(30)]), tmp_path / "rows.csv")
    settings = ["--set", "max_steps=1", "--device", "cpu", "--quiet", "--inputs", "review,title"]
    assert run("fit", table, "--target", "mood", "--out", "model", *settings).code == 0
    done = run("predict", "model", "--text", "title=A film = a life", "--text", "review=It was warm.")
    assert done.code == 0
    assert done.stdout.strip() in ("good", "bad")
    assert "for the columns review, title, found 'It was warm.'" in refused(
        "predict", "model", "--text", "It was warm."
    )
    assert "Expected --text title=… as well" in refused("predict", "model", "--text", "review=x")
    twice = ["--text", "title=x", "--text", "review=y", "--text", "review=z"]
    assert "Expected --text review=… once, found it twice" in refused("predict", "model", *twice)


@pytest.mark.slow
def test_invalid_answers_are_reported_everywhere(tmp_path: Path) -> None:
    table = write(reviews(40), tmp_path / "reviews.csv")
    # One step of training cannot teach the form of a number: nearly all free answers are invalid.
    free = ["--method", "generator", "--decoding", "free", "--set", "max_steps=1", "--learning-rate", "1e-6"]
    done = run("fit", table, "--target", "stars", "--inputs", "review", "--out", "model", *free, "--json", "fit.json")
    assert done.code == 0, done
    strict_json(tmp_path / "model" / "predgen.json")
    if strict_json(tmp_path / "fit.json")["record"]["best_metric"] is None:
        assert "mse not defined on 4 validation rows, at step 1 of 1" in done.stdout

    done = run("predict", "model", table, "--out", "answers.jsonl", "--json", "done.json", "--invalid", "warn")
    answers = read_table(tmp_path / "answers.jsonl")
    num_invalid = int(answers["invalid"].sum())
    assert num_invalid > 0
    assert f"{num_invalid} of them invalid" in done.stdout
    assert strict_json(tmp_path / "done.json")["invalid"] == num_invalid
    assert f"found {num_invalid} invalid of 40" in done.stderr
    assert answers.loc[answers["invalid"], "prediction"].isna().all()
    assert f"found {num_invalid} invalid of 40" in refused(
        "predict", "model", table, "--out", "other.jsonl", "--invalid", "raise"
    )
    assert not (tmp_path / "other.jsonl").exists()
    row = int(answers["invalid"].to_numpy().argmax())
    done = run("predict", "model", "--text", answers["review"][row], "--json", "text.json")
    assert done.stdout.strip() == f"invalid: {answers['written'][row]}".strip()
    assert strict_json(tmp_path / "text.json")[0]["prediction"] is None

    assert run("evaluate", "model", table, "--json", "scores.json").code == 0
    assert strict_json(tmp_path / "scores.json")["invalid_fraction"] == pytest.approx(num_invalid / 40)


def test_evaluate_takes_the_test_part_and_warns_of_unseen_labels(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write(reviews(5), tmp_path / "parts" / "train.csv")
    write(reviews(9, seed=1).assign(mood="meh"), tmp_path / "parts" / "test.csv")
    done = run("evaluate", models["mood"], "parts", "--json", "scores.json", "--quiet")
    assert done.code == 0
    assert done.stderr == (
        "warning: 9 rows have labels that were never seen in training ('meh'); they count as wrong. Add rows of them "
        "to the training part.\n"
    )
    scores = strict_json(tmp_path / "scores.json")
    assert scores["rows"] == 9
    assert 0.5 <= scores["metrics"].pop("ece") <= 1  # as sure as the likelier of two labels, and always wrong
    none = {"balanced_accuracy": 0.0, "average_precision": None, "log_loss": None}
    assert scores["metrics"] == {"accuracy": 0.0, "macro_f1": 0.0, **none}
    assert scores["ci95"]["log_loss"] == [None, None]


# ---- bad input

Change = Callable[[pd.DataFrame], pd.DataFrame]


def cell(column: str, value: Any) -> Change:
    """Returns a change of the third row."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.copy()
        table.loc[2, column] = value
        return table

    return change


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("target", "change", "options", "message"),
    [
        ("mood", cell("mood", ""), [], "Expected a label in row 3, column 'mood', found an empty cell."),
        ("mood", cell("mood", None), [], "Expected a label in row 3, column 'mood', found an empty cell."),
        ("stars", cell("stars", None), [], "Expected a number in row 3, column 'stars', found an empty cell."),
        ("mood", cell("review", None), [], "Expected input text in row 3, column 'review', found an empty cell."),
        ("mood", cell("review", "  "), [], "Expected input text in row 3, column 'review', found an empty cell."),
        ("stars", cell("stars", "many"), [], "Row 3, column 'stars': Expected a finite number, found 'many'."),
        ("stars", cell("stars", "inf"), [], "Row 3, column 'stars': Expected a finite number, found 'inf'."),
        ("stars", cell("stars", "NaN"), [], "Row 3, column 'stars': Expected a finite number, found 'NaN'."),
        (
            "stars",
            cell("stars", 5.01),
            ["--low", "0", "--high", "5"],
            "Row 3, column 'stars': Expected a number in the declared range 0 … 5, found 5.01.",
        ),
    ],
)
def test_a_bad_cell_is_named(
    tmp_path: Path, target: str, change: Change, options: list[str], message: str, suffix: str
) -> None:
    table = write(change(reviews(30)), tmp_path / f"bad{suffix}")
    before = files_in(tmp_path)
    found = refused("fit", table, "--target", target, "--inputs", "review", "--out", "model", *options, "--quiet")
    assert message in found
    assert found.endswith(("remove the row.", "'label'.", "wider range."))
    assert files_in(tmp_path) == before


def test_nan_and_infinity_of_json_are_named(tmp_path: Path) -> None:
    for value, message in (("NaN", "Expected a number in row 3, column 'stars', found NaN."), ("-Infinity", "'-inf'")):
        lines = [json.dumps(row) for row in reviews(30).to_dict("records")]
        lines[2] = lines[2].replace('"stars": ', f'"stars": {value}, "was": ')
        (tmp_path / "bad.jsonl").write_text("\n".join(lines))
        assert message in refused("fit", "bad.jsonl", "--target", "stars", "--inputs", "review", "--out", "model")


HEADER = "review,mood,stars\n"
ROW = "The film was fine,good,2.5\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.csv", "", "Expected a header and rows, found an empty file 'bad.csv'."),
        ("bad.csv", HEADER, "Expected at least one row, found a header only in 'bad.csv'."),
        ("bad.csv", HEADER + ROW + "too,many,cells,here\n" + ROW, "Expected 3 fields in row 2 of 'bad.csv', found 4"),
        ("bad.csv", HEADER + ROW + "too few\n" + ROW, "Expected 3 fields in row 2 of 'bad.csv', found 1"),
        (
            "bad.csv",
            HEADER + ROW + '"never closed,good,1\n' + ROW,
            "Expected the quote in row 2 of 'bad.csv' to be closed",
        ),
        ("bad.csv", "review,mood,review\n" + ROW, "Expected every column name once, found 'review' twice."),
        ("bad.jsonl", '{"review": "a", "mood": "b"}\n{"review": ', "Expected one JSON object in line 2 of 'bad.jsonl'"),
        ("bad.jsonl", '{"mood": 1, "mood": 2}', "found the key 'mood' twice"),
        ("bad.jsonl", "", "Expected at least one row, found none in 'bad.jsonl'."),
        ("bad.parquet", "PAR1", "Expected a Parquet file at 'bad.parquet', found damage"),
        (
            "bad.xlsx",
            "PK",
            "Expected a file of .csv, .tsv, .jsonl, .json, .parquet (texts also as .gz), found 'bad.xlsx'.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["fit", "predict", "evaluate", "compare"])
def test_a_broken_file_is_named(
    tmp_path: Path, models: dict[str, Path], command: str, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "answers.csv").write_text("precious")
    before = files_in(tmp_path)
    arguments: dict[str, list[str | Path]] = {
        "fit": [name, "--target", "mood", "--out", "model"],
        "compare": [name, "--target", "mood", "--json", "result.json"],
        "evaluate": [models["mood"], name, "--json", "result.json"],
        "predict": [models["mood"], name, "--out", "answers.csv", "--overwrite"],
    }
    assert message in refused(command, *arguments[command])
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv", "--target", "mood"], "Expected a file, found none at 'nowhere.csv'."),
        (["revews.csv", "--target", "mood"], "Did you mean 'reviews.csv'?"),
        (["./nowhere", "--target", "mood"], "Expected a table file or a folder, found none at './nowhere'."),
        (["reviews.csv", "--target", "mod"], "'mod'. Did you mean 'mood'? Known: review, mood, stars."),
        (["reviews.csv", "--target", "mood", "--inputs", "revue"], "Unknown column 'revue'. Did you mean 'review'?"),
        (["reviews.csv", "--target", "mood", "--inputs", "mood"], "Expected inputs other than the target"),
        (["reviews.csv", "--target", "mood", "--inputs", "review,review"], "Expected every input column once"),
        (["reviews.csv", "--target", "mood", "--inputs", ""], "Expected at least one input column, found none."),
        (["reviews.csv", "--target", "mood", "--template", "{revew}"], "'revew'. Did you mean 'review'?"),
        (["reviews.csv", "--target", "mood", "--template", "{review"], "Expected a template with {column} fields"),
        (["reviews.csv", "--target", "mood", "--template", "no field"], "Expected at least one {column} field"),
        (["reviews.csv", "--target", "mood", "--template", "{review}", "--inputs", "review"], "found both"),
        (
            ["reviews.csv", "--target", "mood", "--template", "word " * 600 + "{review}"],
            "Expected a template of at most 51",
        ),
        (["reviews.csv", "--target", "mood", "--label-text", "god=a,bad=b"], "found one for 'god'"),
        (["reviews.csv", "--target", "mood", "--label-text", "good=a,bad=a"], "Expected every word once"),
        (["reviews.csv", "--target", "mood", "--metric", "mse"], "Unknown metric of a label 'mse'."),
        (["reviews.csv", "--target", "stars", "--low", "5", "--high", "0"], "low end is below its high end"),
        (["reviews.csv", "--target", "mood", "--group", "writer"], "'writer'. Known: review, mood, stars."),
        (["reviews.csv", "--target", "mood", "--validation", "nowhere.csv"], "found none at 'nowhere.csv'"),
        (["reviews.csv", "--target", "mood", "--backbone", "builtin:nan"], "Did you mean 'builtin:nano'?"),
        (["reviews.csv", "--target", "mood", "--backbone", "./nowhere"], "Expected a local folder, a hub id"),
        (["reviews.csv", "--target", "mood", "--json", "folder"], "found 'folder', which is a folder."),
    ],
)
def test_names_and_settings_that_do_not_fit_the_table_are_said(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(reviews(30), tmp_path / "reviews.csv")
    (tmp_path / "folder").mkdir()
    before = files_in(tmp_path)
    assert message in refused("fit", *arguments, "--out", "model", "--quiet")
    assert files_in(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "reviews.csv"]


def test_what_is_there_is_not_overwritten(models: dict[str, Path], tmp_path: Path, new: Path) -> None:
    shutil.copytree(models["mood"], tmp_path / "model")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    (tmp_path / "answers.csv").write_text("precious")
    before = files_in(tmp_path)
    fit = ["fit", new, "--target", "mood", *SHORT, "--quiet", "--out"]
    assert "Expected a new directory, found 'model'. Name another --out, or use --overwrite." in refused(*fit, "model")
    assert "found something else at 'mine'" in refused(*fit, "mine", "--overwrite")
    assert "found something else at 'answers.csv'" in refused(*fit, "answers.csv", "--overwrite")
    assert "to resume, found none" in refused(*fit, "other", "--resume")
    predict = ["predict", "model", new, "--out"]
    assert "Expected a new file, found 'answers.csv'." in refused(*predict, "answers.csv")
    assert "found the folder 'mine'" in refused(*predict, "mine", "--overwrite")
    assert "Expected an output file of .csv, .tsv, .jsonl, .parquet" in refused(*predict, "answers.xlsx")
    assert files_in(tmp_path) == before

    assert run(*predict, "answers.csv", "--overwrite").code == 0
    assert len(read_table(tmp_path / "answers.csv")) == 20
    assert run(*fit, "model", "--overwrite").code == 0
    assert (tmp_path / "model" / "predgen.json").read_bytes() != before["model/predgen.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "mine", "model", "new.csv"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Returns a folder that takes no files; permissions do not stop the root, for whom only the system's own do."""
    if os.geteuid() == 0:
        if not Path("/proc").is_dir():
            pytest.skip("the root can write everywhere on this system")
        yield Path("/proc")
        return
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)


def test_a_read_only_folder_is_refused_before_anything_is_trained(
    models: dict[str, Path], new: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise AssertionError("a model was trained")

    monkeypatch.setattr("predgen.training.training_run.Run.attempt", train)
    table = ["--target", "mood", *SHORT, "--quiet"]
    closed = str(read_only)
    assert closed in refused("fit", new, *table, "--out", read_only / "model")
    assert closed in refused("compare", new, *table, "--models", read_only)
    for command in ("compare", "ablate"):
        assert closed in refused(command, new, *table, "--runs", read_only / "runs")
        for option in ("--json", "--markdown", "--plot"):
            message = refused(command, new, *table, option, read_only / "result")
            assert f"which cannot be written below '{closed}'" in message
    assert closed in refused("predict", models["mood"], new, "--out", read_only / "answers.csv")
    assert not [path for path in read_only.iterdir() if path.name.startswith((".model", ".runs", ".answers"))]


def test_columns_that_the_model_needs_or_would_write_are_named(models: dict[str, Path], new: Path) -> None:
    write(reviews(4).rename(columns={"review": "revue"}), Path("other.csv"))
    write(reviews(4).assign(written="x"), Path("taken.csv"))
    write(reviews(4).drop(columns="mood"), Path("without.csv"))
    predict = ["predict", models["mood"]]
    assert "Unknown column 'review'. Did you mean 'revue'?" in refused(*predict, "other.csv", "--out", "a.csv")
    assert "found a column 'written'. Rename that column." in refused(*predict, "taken.csv", "--out", "a.csv")
    assert "Unknown column 'mood'." in refused("evaluate", models["mood"], "without.csv")
    assert not Path("a.csv").exists()


def _edit(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        description = json.loads((folder / "predgen.json").read_text())
        (folder / "predgen.json").write_text(json.dumps({**description, **changes}))

    return edit


def _truncate(folder: Path) -> None:
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit(format=99), "Expected an artifact of format 2 or older, found format 99 in 'model'. Update predgen"),
        (_edit(format=None), "found damage in 'model/predgen.json'"),
        (_edit(base={}), "found damage in 'model/predgen.json' (ValueError: base.name: Field required"),
        (_edit(config={"train": {"epochs": -1}}), "found damage in 'model/predgen.json'"),
        (_edit(template={"text": "{review}", "fields": []}), "found damage in 'model/predgen.json'"),
        (_edit(target={"kind": "label", "values": ["a", "b"], "words": ["a"]}), "damage in 'model/predgen.json'"),
        (_truncate, "found damage in 'model/weights.safetensors'"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "found damage in 'model/weights.safetensors'"),
        (lambda folder: (folder / "predgen.json").write_text("{"), "found damage in 'model/predgen.json'"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "found damage in 'model/tokenizer/tokenizer.json'"),
        (
            lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{"),
            "found damage in 'model/tokenizer/tokenizer.json'",
        ),
        (lambda folder: shutil.rmtree(folder), "found none at 'model'. Check the path"),
    ],
)
def test_a_damaged_model_is_refused(
    models: dict[str, Path], tmp_path: Path, new: Path, damage: Callable[[Path], Any], message: str
) -> None:
    shutil.copytree(models["mood"], tmp_path / "model")
    damage(tmp_path / "model")
    before = files_in(tmp_path)
    assert message in refused("predict", "model", new, "--out", "answers.csv")
    assert message in refused("evaluate", "model", new, "--json", "scores.json")
    assert files_in(tmp_path) == before


def test_every_file_of_a_model_can_be_read_by_others(models: dict[str, Path]) -> None:
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in models["mood"].rglob("*") if path.is_file()}
    assert set(modes.values()) == {"0o644"}, modes


# ---- as a program

LONG = [
    *("fit", "reviews.csv", "--target", "stars", "--inputs", "review", "--epochs", "3", "--batch-size", "8"),
    *("--learning-rate", "1e-3", "--set", "evals_per_epoch=2", "--set", "sampling_start=0.3", "--device", "cpu"),
]


class Program:
    """The command line as processes of their own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "predgen", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.started.append(subprocess.Popen(command, cwd=self.folder, env=environment, **pipes))
        return self.started[-1]

    def stop(self, process: subprocess.Popen[str], by: signal.Signals, when: Path) -> tuple[str, str]:
        """Sends a signal when a file is there, and returns what the process printed."""
        while not when.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        while process.poll() is None:  # Python may swallow an interruption that comes in a destructor
            process.send_signal(by)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)  # one that comes while Python ends would kill it
        return process.communicate()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    found = Program(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_stopped_fit_goes_on_to_the_same_bits(tmp_path: Path, program: Program) -> None:
    write(reviews(75), tmp_path / "reviews.csv")  # 60 training rows: 24 steps
    whole = program.start(*LONG, "--out", "whole", "--quiet")
    stdout, stderr = whole.communicate()
    assert whole.returncode == 0
    assert "of 24, after" in stdout
    assert stderr == ""  # no library says anything either
    wanted = load_file(tmp_path / "whole" / "weights.safetensors")

    for by, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        out = by.name
        first = program.start(*LONG, "--out", out)
        checkpoints = tmp_path / f"{out}.unfinished" / "checkpoints"
        stdout, stderr = program.stop(first, by, checkpoints / "checkpoint-8" / "checkpoint.json")
        assert first.returncode == code
        assert stdout == ""
        assert "Traceback" not in stderr
        if by == signal.SIGINT:
            assert f"'{out}.unfinished' is kept. The same command with --resume goes on with it." in stderr
        assert f"{out}.unfinished" in program.names()
        assert out not in program.names()

        assert "Use --resume to go on with it, or --overwrite" in refused(*LONG, "--out", out, "--quiet")
        assert "found others" in refused(*LONG, "--out", out, "--quiet", "--resume", "--seed", "3")
        resumed = program.start(*LONG, "--out", out, "--quiet", "--resume")
        assert resumed.communicate()[1] == ""
        weights = load_file(tmp_path / out / "weights.safetensors")
        assert weights.keys() == wanted.keys()
        assert all(equal(weights[name], wanted[name]) for name in wanted)
    assert program.names() == ["SIGINT", "SIGKILL", "reviews.csv", "whole"]


@pytest.mark.slow
def test_an_early_interruption_leaves_nothing(tmp_path: Path, program: Program) -> None:
    write(reviews(75), tmp_path / "reviews.csv")
    process = program.start(*LONG, "--out", "model")
    _, stderr = program.stop(process, signal.SIGINT, tmp_path / "model.unfinished")
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "Interrupted. Nothing was left half written."
    assert program.names() == ["reviews.csv"]


@pytest.mark.slow
def test_a_second_fit_of_the_same_output_is_refused_while_the_first_runs(tmp_path: Path, program: Program) -> None:
    write(reviews(75), tmp_path / "reviews.csv")
    first = program.start(*LONG, "--out", "model", "--quiet")
    while not (tmp_path / "model.unfinished").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    for option in ("--quiet", "--overwrite", "--resume"):
        assert "found that another process does" in refused(*LONG, "--out", "model", option)
    assert first.wait(timeout=300) == 0, first.communicate()
    assert program.names() == ["model", "reviews.csv"]


@pytest.mark.slow
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_comparison_says_how_it_goes_on(
    by: signal.Signals, code: int, tmp_path: Path, program: Program
) -> None:
    write(reviews(75), tmp_path / "reviews.csv")
    line = ["compare", *LONG[1:], "--methods", "generator,predictor", "--baselines", "", "--runs", "runs", "--quiet"]
    process = program.start(*line)
    stdout, stderr = program.stop(process, by, tmp_path / "runs" / "generator-seed0.unfinished" / "checkpoints")
    assert process.returncode == code
    assert stdout == ""
    assert "'runs' is kept. The same command with --resume goes on with it." in stderr
    assert stderr.splitlines()[-1].endswith("Nothing was left half written.")
    assert program.names() == ["reviews.csv", "runs"]
    assert program.start(*line, "--resume").wait(timeout=300) == 0
    assert {"generator-seed0.json", "predictor-seed0.json"} <= {path.name for path in (tmp_path / "runs").iterdir()}


@pytest.mark.slow
def test_a_fit_that_is_terminated_says_how_it_goes_on(tmp_path: Path, program: Program) -> None:
    write(reviews(75), tmp_path / "reviews.csv")
    process = program.start(*LONG, "--out", "model", "--quiet")
    checkpoint = tmp_path / "model.unfinished" / "checkpoints" / "checkpoint-8" / "checkpoint.json"
    _, stderr = program.stop(process, signal.SIGTERM, checkpoint)
    assert process.returncode == 143
    assert "'model.unfinished' is kept. The same command with --resume goes on with it." in stderr
    assert program.names() == ["model.unfinished", "reviews.csv"]


def test_a_model_is_calibrated_from_inside_its_folder_and_through_a_link(
    models: dict[str, Path], new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models["mood"], tmp_path / "model")
    (tmp_path / "latest").symlink_to("model")
    monkeypatch.chdir(tmp_path / "model")
    for name in (".", tmp_path / "latest"):
        done = run("calibrate", name, new, "--quiet")
        assert done.code == 0, done
    assert (tmp_path / "latest").is_symlink()
    assert predgen.load(tmp_path / "latest").contents.calibrations
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "model", "new.csv"]


def test_a_full_disk_leaves_the_answers_of_before(
    models: dict[str, Path], new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "answers.csv").write_text("old")
    monkeypatch.setattr("predgen.tables.saving.TableWriter.write", full)
    message = refused("predict", models["mood"], new, "--out", "answers.csv", "--overwrite", "--quiet")
    assert "No space left on device. Nothing was left half written." in message
    assert (tmp_path / "answers.csv").read_text() == "old"
    assert not list(tmp_path.glob(".answers*"))
    monkeypatch.setattr("predgen.training.runs.write_text", full)
    assert "No space left" in refused("compare", new, "--target", "mood", *SHORT, "--runs", "runs", "--quiet")
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob(".runs*"))
