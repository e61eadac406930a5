"""The script behind the table of point estimates."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts.studies import number_estimates


@pytest.mark.slow
def test_each_estimate_is_measured_on_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "lcp").mkdir(parents=True)
    for part, size in (("train", 16), ("validation", 24), ("test", 40)):
        rows = [
            {"token": "fish", "sentence": f"There were {row} of them in the sea.", "complexity": row % 7 / 6}
            for row in range(size)
        ]
        pd.DataFrame(rows).to_json(tmp_path / "data" / "lcp" / f"{part}.jsonl", orient="records", lines=True)
    monkeypatch.setattr(number_estimates, "TASKS", {"lcp": number_estimates.TASKS["lcp"]})
    monkeypatch.setattr(number_estimates, "SPLITS", 20)
    arguments = [str(tmp_path / "data"), "--out", str(tmp_path / "runs"), "--seeds", "2", "--max-train-rows", "8"]
    monkeypatch.setattr(sys, "argv", ["number_estimates.py", *arguments])
    number_estimates.main()
    tables = capsys.readouterr().out.split("\n| metric | estimate")[1]
    cells = [json.loads((tmp_path / "runs" / f"lcp-{seed}.json").read_text()) for seed in (0, 1)]
    truth = np.array(cells[0]["test_truth"])
    assert len(truth) == 40
    for metric, loss in (("mse", np.square), ("mae", np.abs)):
        for name in number_estimates.ESTIMATES:
            mean = np.mean([loss(np.array(cell["test"][name]) - truth).mean() for cell in cells])
            assert f"| lcp {metric} | {name} | {mean:.4f} ±" in tables
    # All values of the mode and of greedy text can be written; means need not be.
    assert all(round(value, 6) == value for value in cells[0]["test"]["greedy text"])
    assert any(round(value, 6) != value for value in cells[0]["test"]["mean"])

    def fit(*_: object, **__: object) -> None:
        raise AssertionError("a finished fit was run again")

    monkeypatch.setattr("predgen.fit", fit)
    number_estimates.main()
    assert capsys.readouterr().out.split("| metric | estimate")[1] == tables


def test_coverage_counts_the_truths_inside() -> None:
    predicted, truth = np.zeros(30), np.arange(30.0)
    # Of the first 19 rows the 18th smallest error is 17: that much is held on either side.
    assert number_estimates.coverage(predicted, truth, np.arange(19), np.arange(10, 30)) == 8 / 20
