"""The script behind the table of estimators on Gaussians."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from scripts.studies import gaussian_information as script

from predgen.information import ESTIMATORS, estimators
from predgen.information.exact import gaussian_information


def test_the_pairs_have_the_information_they_are_made_for() -> None:
    pairs = script.gaussians(40_000, 5, 2.0, torch.Generator().manual_seed(0))
    both = torch.cat([pairs.states[:, 0], pairs.answers], dim=1).double()
    correlations = torch.corrcoef(both.T)
    found = sum(gaussian_information(float(correlations[i, 5 + i])) for i in range(5))
    assert found == pytest.approx(2.0, abs=0.05)
    others = correlations[:5, :5] - torch.eye(5, dtype=torch.float64)
    assert float(others.abs().max()) < 0.03


def test_cells_are_kept_and_the_table_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimators, "MAX_STEPS", 5)
    monkeypatch.setattr(script, "DIMENSIONS", (1,))
    monkeypatch.setattr(script, "INFORMATIONS", (0.5, 2.0))
    arguments = ["--out", str(tmp_path / "cells"), "--seeds", "2", "--rows", "120", "60"]
    script.main([*arguments, "--plot", str(tmp_path / "a.png")])
    printed = capsys.readouterr().out
    cells = [json.loads(path.read_text()) for path in (tmp_path / "cells").iterdir()]
    own = [one for one in cells if (one["what"], one["dimension"], one["information"]) == ("true", 1, 2.0)]
    for name in ESTIMATORS:
        values = [one["found"][name] for one in own]
        assert f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} (" in printed
    assert "| 1 | 0 (2 shuffled) |" in printed
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

    def again(*_: object, **__: object) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(script, "run", again)
    script.main(arguments)
    assert capsys.readouterr().out.strip() in printed
