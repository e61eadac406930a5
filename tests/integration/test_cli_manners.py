"""How commands behave towards terminals, signals and pipes: names as text, nothing left behind, a quiet end."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import predgen
from predgen.cli.output import print_table
from predgen.report.evaluation import evaluation_table
from tests.helpers.commands import run
from tests.helpers.tables import reviews
from tests.helpers.warned import all_warnings

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}
ESCAPES = "\x1b]0;gone\x07\x1b[2J"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mood"
    table = reviews(40)
    table["mood"] = [f"{mood}{ESCAPES}" for mood in table["mood"]]
    predgen.fit(table, "mood", out=folder, label_codes=True, **SMALL)
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "predgen", *map(str, arguments)]


# ---- control characters


def is_plain(text: str) -> bool:
    return not any(letter in text for letter in "\x1b\x07\r\x9b")


def test_labels_files_and_columns_are_printed_as_text(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reviews(8).rename(columns={"stars": f"s{ESCAPES}"}).to_csv(f"t{ESCAPES}.csv", index=False)
    reviews(4).rename(columns={"review": f"rev{ESCAPES}"}).to_csv("other.csv", index=False)
    commands: list[list[str | Path]] = [
        ["predict", model, "--text", "a lovely film", "--probabilities"],
        ["predict", model, f"t{ESCAPES}.csv", "--out", f"o{ESCAPES}.csv"],
        ["predict", model, "other.csv", "--out", "o.csv"],
        ["predict", f"m{ESCAPES}", "--text", "x"],
        ["evaluate", model, f"t{ESCAPES}.csv"],
        ["fit", f"t{ESCAPES}.csv", "--target", f"x{ESCAPES}", "--out", "m"],
        ["inspect", "builtin:nano", "--labels", f"a{ESCAPES},b"],
    ]
    written_out = 0
    for arguments in commands:
        done = run(*arguments)
        assert is_plain(done.stdout + done.stderr), arguments
        written_out += "\\x1b[2J" in done.stdout + done.stderr
    assert written_out >= 5
    evaluation = {"metrics": {f"m{ESCAPES}[red]": 0.5}, "ci95": {}, "rows": 1, "invalid_fraction": 0.0}
    print_table(evaluation_table({**evaluation, "examples_per_second": 1.0, "warnings": []}))
    printed = capsys.readouterr().out
    assert is_plain(printed)
    assert "[red]" in printed


def test_notes_are_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    from predgen.cli.output import _Lines

    record = logging.LogRecord("predgen", logging.WARNING, "", 0, "the column '%s'", (ESCAPES,), None)
    _Lines().emit(record)
    assert capsys.readouterr().err == "warning: the column '\\x1b]0;gone\\x07\\x1b[2J'\n"


# ---- signals and pipes


def start_prediction(model: Path, folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Starts a prediction of many rows, and waits until its hidden file is there."""
    lines = [json.dumps({"review": f"The {row} film was lovely{' and more' * 60}."}) for row in range(20_000)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    arguments = ["predict", model, "rows.jsonl", "--out", "answers.csv", *options]
    process = subprocess.Popen(command(*arguments), cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".answers.csv.*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signals")
@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGHUP", "SIGINT"))]
)
def test_a_signal_leaves_no_hidden_file_and_what_was_there(name: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("old")
    process = start_prediction(model, tmp_path, "--overwrite")
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name)
    stopped = "Interrupted." if name == "SIGINT" else f"Stopped by {name}."
    assert f"{stopped} Nothing was left half written." in stderr
    assert "Nothing is kept of these answers. The same command begins again." in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "rows.jsonl"]
    assert (tmp_path / "answers.csv").read_text() == "old"


def test_a_reader_that_left_ends_a_command_quietly(model: Path) -> None:
    ends = os.pipe()
    os.close(ends[0])
    arguments = command("predict", model, "--text", "a film", "--quiet")
    done = subprocess.run(arguments, stdout=ends[1], stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(ends[1])
    assert done.stderr == ""
    assert done.returncode == 141


# ---- names that a prediction needs


@pytest.mark.parametrize("name", ["prediction", "written", "invalid"])
def test_an_input_with_the_name_of_an_answer_is_refused_before_training(name: str, tmp_path: Path) -> None:
    table = reviews(40).rename(columns={"review": name})
    with pytest.raises(predgen.DataError, match=f"found the input '{name}', which a prediction adds"):
        predgen.fit(table, "mood", out=tmp_path / "model", **{**SMALL, "inputs": [name]})
    assert not list(tmp_path.iterdir())


def test_other_columns_with_the_name_of_an_answer_are_warned_of() -> None:
    table = reviews(40).assign(written="x", probability_good="y", std="z")
    with all_warnings() as found:
        predgen.fit(table, "mood", **SMALL)
    (warning,) = [str(one) for one in found if isinstance(one, predgen.TakenNameWarning)]
    assert "'written', 'probability_good'" in warning
    assert "'std'" not in warning


# ---- a full disk


def test_a_full_disk_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing before the first checkpoint, that one afterwards."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    settings = {**SMALL, "max_steps": 4, "evals_per_epoch": 4, "batch_size": 8}
    with monkeypatch.context() as patch:
        patch.setattr("predgen.training.trainer.seal", full)
        with pytest.raises(predgen.TrainingError, match="No checkpoint was finished before, so nothing is kept"):
            predgen.fit(reviews(40), "mood", out=tmp_path / "model", **settings)
    assert not list(tmp_path.iterdir())

    from predgen.training.checkpoints import seal

    sealed: list[Path] = []

    def full_later(folder: Path) -> None:
        if sealed:
            raise OSError(28, "No space left on device")
        seal(folder)
        sealed.append(folder)

    monkeypatch.setattr("predgen.training.trainer.seal", full_later)
    with pytest.raises(predgen.TrainingError, match=r"'checkpoint-\d+' was finished before.*--resume goes on"):
        predgen.fit(reviews(40), "mood", out=tmp_path / "model", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["model.unfinished"]
    shutil.rmtree(tmp_path / "model.unfinished")


def test_log_loss_says_its_rows_where_labels_are_unseen(capsys: pytest.CaptureFixture[str]) -> None:
    fitted = predgen.fit(reviews(40), "mood", **SMALL)
    rows = reviews(9, seed=5)
    assert fitted.evaluate(rows).metric_rows == {}
    rows.loc[:5, "mood"] = "meh"
    evaluation = fitted.evaluate(rows)
    assert evaluation.metric_rows == {"log_loss": 3}
    assert evaluation.metrics["log_loss"] == pytest.approx(fitted.evaluate(rows.iloc[6:]).metrics["log_loss"])
    print_table(evaluation_table(evaluation.to_json()))
    lines = {words[1]: words for line in capsys.readouterr().out.splitlines() if len(words := line.split()) > 4}
    assert lines["log_loss"][-2] == "3"
    assert lines["accuracy"][-2] == "9"
