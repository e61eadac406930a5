"""The script that switches changes for speed off and on. No time is asserted: it is the machine's affair."""

import json
import sys
from pathlib import Path

import pytest
from scripts.checks import speed_changes

from predgen.bench import SHAPES
from predgen.bench.shapes import Shape


def test_every_change_is_measured_with_and_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHAPES, "26M", Shape(16, 2, 2, 2, 32))
    path = tmp_path / "changes.json"
    sizes = ["--prompt-tokens", "40", "--batch-size", "3", "--repetitions", "2"]
    monkeypatch.setattr(sys, "argv", ["speed_changes.py", *sizes, "--json", str(path)])
    speed_changes.main()
    found = json.loads(path.read_text())["changes"]
    assert len(found) == len(speed_changes.CHANGES)
    printed = capsys.readouterr().out
    for name, one in found.items():
        assert f"| {name} | {one['ratio']:.3f} |" in printed
        assert [len(part) for part in one["seconds"]] == [2, 2]
    tokens = {name: one["tokens_per_row"] for name, one in found.items()}
    for name, (without, with_it) in tokens.items():
        if "beginning" in name:
            assert without == 40
            assert with_it == pytest.approx(20 + 20 / 3)
        elif "passes" in name:
            assert with_it < without
        else:
            assert with_it == without or "neighbors" in name
