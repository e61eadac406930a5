"""The grid of the benchmark on made-up rows: what is run, what is not run again, what is refused."""

import json
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import predgen
from predgen.experiments.comparing import Bench
from predgen.experiments.reproduction.grid import PEFTS, presets
from predgen.measures.statistics import bootstrap_interval
from tests.helpers.commands import refused, run
from tests.helpers.task_rows import MADE, write_rows

SHORT = ("--set", "max_steps=3", "--set", "batch_size=4", "--set", "device=cpu", "--quiet")
FOUR = ("--tasks", "stsb,sst2", "--methods", "predictor,predgen", "--pefts", "lora", *SHORT)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few rows of two tasks; the bootstrap draws little."""
    monkeypatch.delenv("PREDGEN_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("predgen.models.scored.bootstrap_interval", partial(bootstrap_interval, resamples=20))
    for name in ("stsb", "sst2"):
        parts = {
            part: [MADE[name][0][row % 2] for row in range(count)]
            for part, count in (("train", 12), ("validation", 6), ("test", 5))
        }
        write_rows(tmp_path / "data" / name, parts)
    return tmp_path / "data"


def is_enumerable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that gets the name of each cell that is fitted from now on."""
    names: list[str] = []
    original = Bench.fit

    def counted(self: Bench, name: str, config: Any) -> Any:
        fit = original(self, name, config)

        def figures(folder: Path | None) -> dict[str, Any]:
            names.append(name)
            return fit(folder)

        return figures

    monkeypatch.setattr(Bench, "fit", counted)
    return names


def test_a_grid_is_run_once_and_its_tables_are_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = is_enumerable(monkeypatch)
    done = run("reproduce", "--out", "out", "--data", data, *FOUR, "--json", "found.json")
    assert done.code == 0, done.stderr
    assert len(names) == len(set(names)) == 4
    found = json.loads(Path("found.json").read_text())
    assert [(one["task"], one["method"]) for one in found["cells"]] == [
        (task, method) for task in ("stsb", "sst2") for method in ("predictor", "predgen")
    ]
    for one in found["cells"]:
        assert one["part"] == "test"
        assert one["rows"] == {"train": 12, "validation": 6, "test": 5}
        metric = {"stsb": "mse", "sst2": "accuracy"}[one["task"]]
        low, high = one["ci95"][metric]
        assert low <= one["metrics"][metric] <= high
        assert one["simple"][metric] is not None
    tables = Path("out/tables.md").read_text()
    assert "**Numbers: mse**" in tables
    assert "**Labels: accuracy, %**" in tables
    assert tables.strip() in done.stdout
    assert Path("out/tables.html").read_text().count("<table>") == 3  # of mse, pearson and accuracy

    # Nothing is run again; what is added is.
    assert run("reproduce", "--out", "out", "--data", data, *FOUR, "--resume").code == 0
    assert Path("out/tables.md").read_text() == tables
    assert len(names) == 4
    more = ("--tasks", "sst2", "--methods", "generator", "--pefts", "lora", *SHORT)
    assert run("reproduce", "--out", "out", "--data", data, *more, "--resume").code == 0
    assert len(names) == 5


def test_what_cannot_be_gone_on_with_is_refused(data: Path) -> None:
    one = ("--tasks", "sst2", "--methods", "predictor", "--pefts", "lora", *SHORT)
    assert run("reproduce", "--out", "out", "--data", data, *one).code == 0
    assert "Use --resume" in refused("reproduce", "--out", "out", "--data", data, *one)
    assert "found paper" in refused("reproduce", "--preset", "paper", "--out", "out", "--data", data, *one, "--resume")
    assert "Use --pefts" in refused("reproduce", "--out", "new", "--data", data, *one, "--set", "peft=rocoft")
    other = refused("reproduce", "--out", "out", "--data", data, *one, "--set", "epochs=2", "--resume")
    assert "Expected the settings" in other
    for part in ("train", "test"):
        rows = data / "sst2" / f"{part}.jsonl"
        before = rows.read_text()
        rows.write_text(before * 2)
        assert "Expected the rows" in refused("reproduce", "--out", "out", "--data", data, *one, "--resume")
        rows.write_text(before)
    assert run("reproduce", "--out", "out", "--data", data, *one, "--resume").code == 0
    Path("out/preset.json").write_text("{}")
    assert "found damage" in refused("reproduce", "--out", "out", "--data", data, *one, "--resume")
    assert run("reproduce", "--out", "out", "--data", data, *one, "--overwrite").code == 0
    Path("else").mkdir()
    Path("else/file").touch()
    assert "found something else" in refused("reproduce", "--out", "else", "--data", data, *one)


def test_other_weights_and_damaged_cells_are_refused(data: Path, llama: Path) -> None:
    one = ("--tasks", "sst2", "--methods", "predictor", "--pefts", "lora", *SHORT)
    more = ("--data", data, *one, "--backbones", llama)
    assert run("reproduce", "--out", "out", *more).code == 0
    (cell,) = Path("out/cells").glob("*.json")
    whole = json.loads(cell.read_text())
    short = {**whole, "predicted": whole["predicted"][:-1]}
    for damage, found in (([], "not a JSON object"), ({}, "found no fingerprint"), (short, "found 4 answers")):
        cell.write_text(json.dumps(damage))
        assert found in refused("reproduce", "--out", "out", *more, "--resume")
    cell.write_text(json.dumps(whole))
    (weights,) = llama.glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    assert "Expected the weights" in refused("reproduce", "--out", "out", *more, "--resume")


def test_cells_of_another_version_are_named(data: Path) -> None:
    one = ("--data", data, "--methods", "predictor", "--pefts", "lora", *SHORT, "--out", "out")
    assert run("reproduce", "--tasks", "sst2", *one).code == 0
    (cell,) = Path("out/cells").glob("*.json")
    cell.write_text(json.dumps({**json.loads(cell.read_text()), "version": "0.1.0"}))
    assert run("reproduce", "--tasks", "sst2,stsb", *one, "--resume").code == 0
    assert f"predgen 0.1.0, {predgen.__version__}\n" in Path("out/tables.md").read_text()


def test_a_cell_that_fails_does_not_keep_the_others(data: Path) -> None:
    grid = ("--data", data, "--tasks", "sst2,stsb", "--methods", "predictor", "--pefts", "adalora,lora", *SHORT)
    two_steps = ("--set", "max_steps=2")  # too few for AdaLoRA
    message = refused("reproduce", "--out", "out", *grid, *two_steps, "--json", "found.json")
    assert "found 2 that failed" in message
    found = json.loads(Path("found.json").read_text())
    assert [(one["task"], one["peft"]) for one in found["cells"]] == [("sst2", "lora"), ("stsb", "lora")]
    assert [(one["task"], one["peft"]) for one in found["failed"]] == [("sst2", "adalora"), ("stsb", "adalora")]
    assert "adalora, builtin:nano, seed 0: failed: " in Path("out/tables.md").read_text()
    alone = ("--data", data, "--tasks", "sst2", "--methods", "predictor", "--pefts", "adalora", *SHORT, *two_steps)
    assert "at least 3 optimizer steps" in refused("reproduce", "--out", "alone", *alone)


def test_a_mistyped_folder_of_rows_leaves_nothing_behind(data: Path) -> None:
    one = ("--tasks", "sst2", "--methods", "predictor", "--pefts", "lora", *SHORT, "--out", "out")
    assert "rows of one task at least" in refused("reproduce", "--data", "dta", *one)
    assert not Path("out").exists()
    assert run("reproduce", "--data", data, *one).code == 0


def test_exact_match_is_held_against_the_most_frequent_number(data: Path) -> None:
    def rows(*answers: int) -> list[dict[str, Any]]:
        return [{**MADE["mawps"][0][0], "answer": answer} for answer in answers]

    write_rows(
        data / "mawps", {"train": rows(*[5] * 7, *range(100, 120)), "validation": rows(1, 2), "test": rows(5, 5, 7, 9)}
    )
    one = {"methods": ["generator"], "pefts": ["lora"], "max_steps": 2, "device": "cpu", "quiet": True}
    (cell,) = predgen.reproduce(out="out", data=data, tasks=["mawps"], **one)["cells"]
    assert cell["simple"]["exact_match"] == 0.5


def test_wrong_names_are_answered_with_close_ones(data: Path) -> None:
    assert "small" in refused("reproduce", "--preset", "smal", "--out", "out")
    assert "boolq" in refused("reproduce", "--tasks", "bolq", "--out", "out")
    assert "rocoft" in refused("reproduce", "--pefts", "rocof", "--out", "out")
    assert "each task once" in refused("reproduce", "--tasks", "boolq,boolq", "--out", "out")
    assert "each backbone once" in refused("reproduce", "--backbones", "a,a", "--out", "out")
    assert "found -1" in refused("reproduce", "--seeds", "-1", "--out", "out")
    assert "mse" in refused("reproduce", "--tasks", "sst2,stsb", "--set", "metric=accuracy", "--out", "out")
    assert "Expected --out DIR" in refused("reproduce")
    assert "H100" in refused("reproduce", "--plan", "--gpu", "H10")
    assert not Path("out").exists()


def test_settings_of_the_grid_itself_are_refused_where_a_run_has_none(data: Path) -> None:
    def said(assignment: str) -> str:
        return refused("reproduce", "--out", "out", "--tasks", "sst2", "--data", data, "--set", assignment)

    assert "found 'out', which is an option of reproduce. Use --out." in said("out=x")
    assert "found 'seeds', which is an option of reproduce. Use --seeds." in said("seeds=3")
    assert "found 'resume', which is an option of reproduce. Use --resume." in said("resume=true")
    assert "Expected no setting 'train.seed', which the grid has many of. Use --seeds." in said("seed=3")
    assert "Expected no setting 'data.data', which the grid has many of. Use --data." in said("data=x")
    assert "Unknown setting 'epoch'. Did you mean 'epochs'?" in said("epoch=3")
    assert "Unknown setting 'train.seeds'. Did you mean" in said("train={seeds: 3}")
    plan = refused("reproduce", "--plan", "--set", "gpu=H100")
    assert "found 'gpu', which is an option of reproduce. Use --gpu." in plan
    assert not Path("out").exists()


def test_tasks_without_rows_are_reported_and_left_out(data: Path) -> None:
    grid = {"methods": ["predictor"], "pefts": ["lora"], "max_steps": 2, "device": "cpu", "quiet": True}
    found = predgen.reproduce(out="out", data=data, tasks=["boolq", "sst2"], **grid)
    assert [one["task"] for one in found["cells"]] == ["sst2"]
    assert [one["task"] for one in found["missing"]] == ["boolq"]
    assert "boolq" in found["missing"][0]["reason"]
    # The folder of one task is not that of another.
    with pytest.raises(predgen.ConfigError, match="rows of one task at least"):
        predgen.reproduce(out="one", data=data / "sst2", tasks=["sst2"], **grid)
    with pytest.raises(predgen.ConfigError, match="rows of one task at least"):
        predgen.reproduce(out="none", data=data, tasks=["boolq"], **grid)


def test_the_presets() -> None:
    small, paper, default = (presets()[name] for name in ("small", "paper", "default"))
    cells = small.cells()
    assert len(cells) == 3 * (21 + 2 * 3)
    assert {cell.peft for cell in cells if cell.task in ("stsb", "sst2")} == set(PEFTS)
    assert {cell.peft for cell in cells if cell.task not in ("stsb", "sst2")} == {"lora"}
    assert len({cell.name for cell in cells}) == len(cells)
    assert len(paper.cells()) == len(default.cells()) == 3 * 21 * 4 * 3 * 3
    rocoft = next(cell for cell in paper.cells() if cell.peft == "rocoft")
    settings = paper.settings_of(rocoft)
    assert paper.changed(settings={"learning_rate": 0.1}).settings_of(rocoft)["train.learning_rate"] == 0.1
    assert (settings["train.learning_rate"], settings["model.rocoft_rank"]) == (2e-3, 3)
    assert (settings["train.batch_size"], settings["train.warmup_steps"], settings["train.sampling_steps"]) == (
        20,
        200,
        500,
    )


def test_a_plan_runs_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = is_enumerable(monkeypatch)
    done = run("reproduce", "--plan", "--data", data, *FOUR, "--json", "plan.json", "--gpu", "H100")
    assert done.code == 0, done.stderr
    plan = json.loads(Path("plan.json").read_text())
    assert (plan["cells"], plan["finished"], names) == (4, 0, [])
    assert [one["method"] for one in plan["rows"]] == ["predictor", "predgen"]
    assert all(one["fits"] and one["hours"] > 0 for one in plan["rows"])
    assert plan["rows"][1]["hours"] > plan["rows"][0]["hours"]  # it writes as well
    one = ("--tasks", "sst2", "--methods", "predictor", "--pefts", "lora", *SHORT)
    assert run("reproduce", "--out", "out", "--data", data, *one).code == 0
    done = run("reproduce", "--plan", "--out", "out", "--data", data, *FOUR, "--json", "after.json", "--gpu", "H100")
    after = json.loads(Path("after.json").read_text())
    assert after["finished"] == 1
    assert after["hours"] < plan["hours"]


def test_a_plan_does_not_say_what_it_cannot_know(data: Path) -> None:
    grid: dict[str, Any] = {"methods": ["predictor"], "pefts": ["lora"]}
    nothing = predgen.plan_reproduction(tasks=["stsb", "sst2", "boolq"], **grid)
    assert (nothing["cells"], nothing["hours"], nothing["not_counted"]) == (3, None, 3)
    assert [(one["hours"], one["not_counted"]) for one in nothing["rows"]] == [(None, 3)]
    assert nothing["notes"] == [
        "The rows of stsb, sst2, boolq are not on this machine: their cells are counted, their hours are not.",
        "Memory is that of prompts of 128 tokens, an assumption.",
    ]
    part = predgen.plan_reproduction(tasks=["stsb", "boolq", "piqa"], data=data, **grid)
    assert part["hours"] > 0
    assert part["not_counted"] == part["rows"][0]["not_counted"] == 2
    assert len(part["notes"]) == 1
    one = ("--methods", "predictor", "--pefts", "lora")
    done = run("reproduce", "--plan", "--data", data, "--tasks", "stsb,boolq", *one)
    assert "cells not counted" in done.stdout
    assert "0.0 hours" not in done.stdout
    message = refused("reproduce", "--plan", "--data", data / "nowhere", "--tasks", "sst2")
    assert "found no such folder" in message
    assert "found a file" in refused("reproduce", "--plan", "--data", data / "sst2" / "test.jsonl")


@pytest.mark.slow
def test_the_papers_models_are_planned_without_their_files(data: Path) -> None:
    plan = predgen.plan_reproduction(
        "paper",
        gpu="A100",
        data=data,
        tasks=["stsb"],
        backbones=["meta-llama/Llama-2-7b-hf"],
        pefts=["lora", "rocoft"],
        methods=["predictor", "predgen"],
    )
    assert plan["cells"] == 2 * 2 * 3
    lora = next(one for one in plan["rows"] if (one["peft"], one["method"]) == ("lora", "predgen"))
    assert 13e9 < lora["fit_bytes"] < 60e9  # 7 billion weights of two bytes, and what training adds
    assert any("tokenizer" in note for note in plan["notes"])


# Each begins an interpreter.
KILLS = 4


@pytest.mark.slow
def test_a_grid_that_is_killed_ends_in_the_same_tables(data: Path) -> None:
    """Four cells on a toy model, SIGKILL at random moments, each time gone on with."""
    command = [sys.executable, "-m", "predgen", "reproduce", "--data", str(data), *FOUR]

    def start(out: str) -> subprocess.Popen[bytes]:
        more = ["--resume"] if Path(out, "preset.json").exists() else []
        return subprocess.Popen([*command, "--out", out, *more], stdout=subprocess.DEVNULL)

    begin = time.perf_counter()
    assert start("whole").wait() == 0
    seconds = time.perf_counter() - begin
    draw = random.Random(0)
    kills = grids = 0
    while kills < KILLS:  # a grid that comes to its end before its kill is begun anew
        out = f"killed-{grids}"
        grids += 1
        while True:
            process = start(out)
            try:
                assert process.wait(timeout=draw.uniform(0.3, 0.8) * seconds if kills < KILLS else None) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        for name in ("tables.md", "tables.html"):
            assert Path(out, name).read_bytes() == Path("whole", name).read_bytes()
