"""The script behind the defaults: one fit, one JSON; what is finished is never fitted again."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from scripts.studies import choose_defaults


@pytest.mark.slow
@pytest.mark.parametrize(("task", "metrics", "seeds"), [("lcp", ["mse"], 2), ("sst2", ["accuracy", "log_loss"], 1)])
def test_tables_of_the_variants_and_a_short_json_of_each_fit(
    task: str, metrics: list[str], seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / task).mkdir(parents=True)
    for part in ("train", "validation"):
        rows = [
            {
                "token": "fish",
                "sentence": f"There were {row} of them in the sea.",
                "complexity": row % 5 / 4,
                "label": row % 2,
            }
            for row in range(20)
        ]
        pd.DataFrame(rows).to_json(tmp_path / "data" / task / f"{part}.jsonl", orient="records", lines=True)
    tables = tmp_path / "tables"
    options = ["--out", str(tmp_path / "runs"), "--tables", str(tables), "--tasks", task, "--parts", "director"]
    options += ["--seeds", str(seeds), "--train-rows", "16", "--validation-rows", "8", "--without-sampling"]
    monkeypatch.setattr(sys, "argv", ["choose_defaults.py", str(tmp_path / "data"), *options])
    choose_defaults.main()
    files = {path.name: path.read_bytes() for path in tables.iterdir()}
    name = f"{task}-without-sampling"
    assert set(files) == {f"{name}.md", f"{name}-tests.json", f"{name}-cells.json"}
    cells = json.loads(files[f"{name}-cells.json"])
    variants = ["base", "director=last", "director=mean"]
    assert [(cell["variant"], cell["seed"]) for cell in cells] == [
        (one, seed) for one in variants for seed in range(seeds)
    ]
    assert all(cell["validation"]["director_loss_own"] > 0 for cell in cells)
    assert all(len(cell["course"]) == 5 for cell in cells)
    assert {test["metric"] for test in json.loads(files[f"{name}-tests.json"])} >= set(metrics)
    title, empty, *lines = files[f"{name}.md"].decode().splitlines()
    assert (title, empty) == (f"# Ablation: {name}", "")
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["`base`", "`director=mean`", "`director=last`"]
    assert all(f"{metric} ± seeds" in lines[0] for metric in metrics)

    def fit(*_: object, **__: object) -> None:
        raise AssertionError("a finished fit was run again")

    monkeypatch.setattr("predgen.experiments.comparing.fit_prepared", fit)
    choose_defaults.main()
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == files
