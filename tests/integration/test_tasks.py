"""Tasks from the command line, fitted for two steps; and the benchmark's own rows where they are."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import predgen
from predgen.catalogue import load_task, task_rows, tasks
from predgen.cli.options import RUN_OPTIONS
from predgen.config import TASK_ROWS, RunConfig
from predgen.measures.statistics import bootstrap_interval
from tests.helpers.commands import refused, run
from tests.helpers.task_rows import MADE, write_rows

SHORT = ["--set", "max_steps=2", "--batch-size", "4", "--device", "cpu", "--quiet"]
# Rows of train, validation and test as the data's own notes count them; the held-out share is part of train there.
SIZES = {
    "wassa": (3613, 347, 3142),
    "sick": (4500, 500, 4927),
    "stsb": (5749, 1500, 1379),
    "lcp": (7662, 421, 917),
    "humicroedit": (9652, 2419, 3024),
    "boolq": (9427, 0, 3270),
    "piqa": (16113, 0, 1838),
    "hellaswag": (8034, 0, 2008),
    "winogrande": (40398, 0, 1267),
    "arc_easy": (2251, 570, 2376),
    "arc_challenge": (1119, 299, 1172),
    "openbookqa": (4957, 500, 500),
    "sst2": (67349, 872, 1821),
    "multiarith": (7473, 0, 600),
    "addsub": (7473, 0, 395),
    "singleeq": (7473, 0, 508),
    "gsm8k": (7473, 0, 1319),
    "mawps": (1898, 237, 238),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREDGEN_DATA_DIR", raising=False)
    monkeypatch.setattr("predgen.models.evaluating.bootstrap_interval", partial(bootstrap_interval, resamples=20))


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    return [MADE[name][0][number % 2] for number in range(count)]


def test_a_task_is_fitted_evaluated_and_predicted(tmp_path: Path) -> None:
    parts = {"train": rows_of("arc_easy", 12), "validation": rows_of("arc_easy", 6), "test": rows_of("arc_easy", 5)}
    write_rows(tmp_path / "data" / "arc_easy", parts)
    done = run("fit", "data", "--task", "arc_easy", "--out", "model", *SHORT, "--json", "fit.json")
    assert done.code == 0, done.stderr
    assert "accuracy" in done.stdout
    model = predgen.load(tmp_path / "model")
    assert model.config.data.task == "arc_easy@1"
    assert model.inputs == ("question", "answers", "answer_format")
    # All five labels are known, those that no row has among them.
    assert isinstance(model.target, predgen.Label)
    assert model.target.words == tuple(f"answer{place}" for place in range(1, 6))

    done = run("evaluate", "model", "data", "--task", "arc_easy", "--json", "scores.json", "--quiet")
    assert done.code == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["rows"] == 5
    raw = [{key: cell for key, cell in row.items() if key != "answerKey"} for row in parts["test"]]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in raw))
    done = run("predict", "model", "raw.jsonl", "--task", "arc_easy", "--out", "answers.csv", "--quiet")
    assert done.code == 0, done.stderr
    found = pd.read_csv(tmp_path / "answers.csv")
    assert set(found["prediction"]) <= {1, 2, 3, 4, 5}
    assert found["id"].tolist() == [row["id"] for row in raw]
    # Flat rows need no task, and are answered alike.
    flat = found[["question", "answers", "answer_format"]]
    assert model.predict(flat)["prediction"].map(int).tolist() == found["prediction"].tolist()
    assert "Unknown column 'answers'" in refused("predict", "model", "raw.jsonl", "--out", "other.csv")
    message = refused("predict", "model", "--text", "question=a", "--task", "arc_easy")
    assert "Expected --task together with DATA" in message


@pytest.mark.slow
def test_a_number_task_is_fitted_in_python_from_a_folder_or_rows(tmp_path: Path) -> None:
    parts = {"train": rows_of("gsm8k", 20), "test": rows_of("gsm8k", 4)}
    folder = write_rows(tmp_path / "gsm8k", parts)
    settings: dict[str, Any] = {"max_steps": 2, "batch_size": 4, "device": "cpu", "quiet": True, "method": "generator"}
    model = predgen.fit(folder, task="gsm8k", **settings)
    assert model.target.describe() == "number -1000 … 1000000000 with 0 decimals (declared)"
    assert model.record["metric"] == "exact_match"
    assert (model.record["train_rows"], model.record["validation_rows"]) == (18, 2)
    assert 0 <= model.evaluate(task_rows(load_task("gsm8k"), folder).parts["test"]).metrics["exact_match"] <= 1
    assert predgen.fit(parts["train"], task="gsm8k", **settings).record["validation_rows"] == 2
    with pytest.raises(predgen.ConfigError, match=r"Expected data, found none\. Give a table, a path, or a task\."):
        predgen.fit(target="stars")


def test_options_stand_above_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[RunConfig] = []

    def taken(*, config: RunConfig, **others: Any) -> None:
        configs.append(config)
        raise predgen.ConfigError("far enough")

    monkeypatch.setattr(predgen, "fit", taken)
    monkeypatch.setattr(predgen, "compare", taken)
    assert refused("fit", "--task", "stsb", "--out", "m", "--decimals", "1", "--metric", "mae", "--set", "seed=3")
    assert refused("compare", "there", "--task", "piqa")
    config, other = configs
    data, train = config.data, config.train
    assert (data.data, data.target, data.decimals, data.high) == (TASK_ROWS, ("label",), 1, 5.0)
    assert (train.metric, train.seed, data.task) == ("mae", 3, "stsb@2")
    assert (other.data.data, other.data.target) == ("there", ("label",))
    assert other.data.label_text == {"0": "solution1", "1": "solution2"}
    assert "data.task" in {option.setting for option in RUN_OPTIONS}
    assert "Unknown task 'stbs'. Did you mean 'stsb'?" in refused("fit", "--task", "stbs", "--out", "m")
    assert "Expected DATA, the table to read, found none." in refused("fit", "--target", "label", "--out", "m")
    # What was saved can be run again.
    (tmp_path / "run.yaml").write_text("data: {task: stsb@2, data: <rows of the task>, target: label}\n")
    assert refused("fit", "--config", "run.yaml", "--out", "m")
    assert (configs[-1].data.data, configs[-1].data.target) == (TASK_ROWS, ("label",))


def test_the_list_says_which_data_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "here" / "boolq", {"train": rows_of("boolq", 2)})
    monkeypatch.setenv("PREDGEN_DATA_DIR", str(tmp_path / "here"))
    done = run("tasks", "--json", "tasks.json")
    assert done.code == 0, done.stderr
    listed = json.loads((tmp_path / "tasks.json").read_text())
    assert [one["name"] for one in listed] == tasks()
    assert {one["name"] for one in listed if one["local"]} == {"boolq"}
    (line,) = [line for line in done.stdout.splitlines() if " boolq " in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        *("boolq", "label", "train", "5 % of train", "validation", "accuracy, macro_f1", "yes")
    ]


def test_a_task_is_shown(tmp_path: Path) -> None:
    done = run("tasks", "show", "hellaswag", "--json", "task.json")
    assert done.code == 0, done.stderr
    for text in ("hub: Rowan/hellaswag", "data: none found here", "licence: MIT", "arXiv 1905.07830", "{choices}"):
        assert text in done.stdout
    write_rows(tmp_path / "hellaswag", {"validation": rows_of("hellaswag", 20)})
    done = run("tasks", "show", "hellaswag", "--data", tmp_path)
    assert "data: 14 train, 2 validation, 4 test rows from" in done.stdout
    assert MADE["hellaswag"][1][0] in done.stdout
    assert "answer: ending" in done.stdout
    assert json.loads((tmp_path / "task.json").read_text())["task"]["splits"]["test"]["from"] == "validation"
    assert "Unknown task 'helaswag'. Did you mean 'hellaswag'?" in refused("tasks", "show", "helaswag")


def test_a_task_of_ones_own_is_validated_and_fitted(tmp_path: Path) -> None:
    yaml = (
        "name: mood\nversion: 1\ntitle: Mood\ndescription: Moods.\ncolumns: {text: text, mood: text}\n"
        "splits: {train: {from: train}, validation: {from: train, share: 0.2}, test: {from: test}}\n"
        "template: 'Mood of {text}:'\nlicence: mine\nmetrics: [accuracy]\n"
        "target: {column: mood, kind: label, label_text: {glad: glad, sad: sad}}\n"
        "citation: {authors: Me, title: Mood, venue: Home, year: 2026}\n"
    )
    (tmp_path / "mood.yaml").write_text(yaml)
    rows = [{"text": f"day {number}", "mood": "glad" if number % 2 else "sad"} for number in range(10)]
    write_rows(tmp_path / "rows", {"train": rows, "test": rows[:4]})
    done = run("tasks", "validate", "mood.yaml", "--data", "rows")
    assert done.code == 0, done.stderr
    assert "mood@1 is a task." in done.stdout
    assert "data: 8 train, 2 validation, 4 test rows" in done.stdout
    assert run("fit", "rows", "--task", "mood.yaml", "--out", "model", *SHORT).code == 0
    assert predgen.load("model").config.data.task == "mood.yaml"

    write_rows(tmp_path / "rows", {"test": [*rows[:2], {"text": "day", "mood": "calm"}]})
    message = refused("tasks", "validate", "mood.yaml", "--data", "rows")
    assert "test: Expected one of the labels glad, sad in row 3, column 'mood', found 'calm'." in message
    (tmp_path / "mood.yaml").write_text(yaml.replace("{text}:", "{words}:"))
    message = refused("tasks", "validate", "mood.yaml")
    assert "template: Unknown column in the template 'words'." in message
    assert "Unknown action 'shw'. Did you mean 'show'?" in refused("tasks", "shw", "boolq")
    assert "Expected predgen tasks show NAME, found no name." in refused("tasks", "show")
    assert "found none at 'nowhere.yaml'" in refused("tasks", "validate", "nowhere.yaml")


# The fixture above takes the variable away.
DATA = os.environ.get("PREDGEN_DATA_DIR")
# Without the checks of types that tests install, which would take minutes for so many rows.
LOOK = """
import json, sys
from predgen.catalogue import load_task, task_rows
from predgen.catalogue.checking import answer_problems
from predgen.backbones.template import Template

task = load_task(sys.argv[1])
found = task_rows(task, sys.argv[2])
template = Template.parse(task.template, task.flat_columns)
prompts, problems = {}, []
for part, table in found.parts.items():
    problems += answer_problems(task, table)
    prompts[part] = [template.render(row) for row in table[list(template.fields)].to_dict("records")]
shortest = min(len(one) for part in prompts.values() for one in part)
marked = sum("/>" in one and "<" in one for part in prompts.values() for one in part)
sizes = {part: len(one) for part, one in prompts.items()}
print(json.dumps([sizes, problems, found.is_fallback, shortest, marked, len(task.template)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(DATA is None, reason="PREDGEN_DATA_DIR is not set")
@pytest.mark.parametrize("name", SIZES)
def test_the_benchmarks_own_rows(name: str) -> None:
    look = [sys.executable, "-c", LOOK, name, str(DATA)]
    done = subprocess.run(look, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes, problems, is_fallback, shortest, marked, template = json.loads(done.stdout)
    train, validation, test = SIZES[name]
    assert (sizes["test"], problems, is_fallback) == (test, [], name == "hellaswag")
    if validation:
        assert sizes["validation"] == validation
    assert sizes["train"] + sizes["validation"] == train + validation
    assert sizes["validation"] > 0
    assert (shortest > template - 60, marked) == (True, 0)
