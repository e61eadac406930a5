"""The script behind the table of decimals and forms."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts.studies import long_numbers


@pytest.mark.slow
def test_every_form_is_measured_from_director_writer_and_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "lcp").mkdir(parents=True)
    for part, size in (("train", 16), ("validation", 12), ("test", 20)):
        rows = [
            {"token": "fish", "sentence": f"There were {row} of them in the sea.", "complexity": (row % 7 + 1) / 9}
            for row in range(size)
        ]
        pd.DataFrame(rows).to_json(tmp_path / "data" / "lcp" / f"{part}.jsonl", orient="records", lines=True)
    monkeypatch.setattr(long_numbers, "DECIMALS", (2, 4))
    arguments = [str(tmp_path / "data"), "--out", str(tmp_path / "runs"), "--seeds", "1", "--max-train-rows", "8"]
    monkeypatch.setattr(sys, "argv", ["long_numbers.py", *arguments])
    long_numbers.main()
    tables = capsys.readouterr().out.split("\n| form | decimals")[1]
    for form, decimals, tokens in (("fixed", 2, 5), ("fixed", 4, 7), ("scientific", 2, 8), ("scientific", 4, 10)):
        cell = json.loads((tmp_path / "runs" / f"{form}-{decimals}-0.json").read_text())
        assert cell["tokens"] == tokens  # 0.33 and its end; e-1*3.3 and its end
        truth = np.array(cell["truth"])
        for source in long_numbers.SOURCES:
            assert f"{np.mean((np.array(cell[source]) - truth) ** 2):.4f} ± 0.0000" in tables
        np.testing.assert_allclose(cell["both"], (np.array(cell["Director"]) + np.array(cell["Writer"])) / 2)
        if form == "fixed":
            assert all(round(value, decimals) == value for value in cell["Writer"])
