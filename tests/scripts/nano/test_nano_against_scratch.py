"""The pretrained weights against weights drawn anew: the same shape, rates chosen alike."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import predgen
from predgen.backbones import find_source, load_backbone
from scripts.nano import nano_against_scratch as against_scratch
from tests.scripts.nano.weights import equal, weights_of


def test_the_rate_is_chosen_on_validation_rows_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str, float, int]] = []

    def fake(data: Path, *, backbone: str, learning_rate: float, seed: int, **_: Any) -> Any:
        ran.append((data.name, backbone, learning_rate, seed))
        # The best rate by validation, of the lowest error or the highest accuracy, is the worst on the test rows.
        better = learning_rate < 0.01
        metrics = {"mse": float(better), "accuracy": float(not better)}
        best = float(not better) if data.name == "stsb" else float(better)
        return SimpleNamespace(record={"best_metric": best}, evaluate=lambda _: SimpleNamespace(metrics=metrics))

    monkeypatch.setattr(predgen, "fit", fake)
    monkeypatch.setattr(against_scratch, "scratch", lambda folder, seed: f"scratch {seed}")
    command = ["nano_against_scratch.py", "data", "--rates", "0.02", "0.001", "--seeds", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    against_scratch.main()
    starts = {seed: ("builtin:nano", f"scratch {seed}") for seed in (0, 1)}
    assert sorted(ran) == sorted(
        (task, start, rate, seed)
        for task in ("stsb", "sst2")
        for rate, seed in ((0.02, 0), (0.001, 0), (0.001, 1))
        for start in starts[seed]
    )
    printed = capsys.readouterr().out
    assert "| stsb mse | scratch | 0.001 | 1.000 | 0.000 | 1.000 1.000 |" in printed
    assert "| sst2 accuracy | pretrained | 0.001 | 0.000 | 0.000 | 0.000 0.000 |" in printed


def test_scratch_has_the_shape_of_nano_and_the_weights_of_its_seed(tmp_path: Path) -> None:
    nano = weights_of(find_source("builtin:nano").folder)
    found = [weights_of(Path(against_scratch.scratch(tmp_path / name, int(name[0])))) for name in ("0", "1", "0 again")]
    assert {name: one.shape for name, one in found[0].items()} == {name: one.shape for name, one in nano.items()}
    assert equal(found[0], found[2])
    assert not equal(found[0], found[1])
    assert not equal(found[0], nano)
    backbone = load_backbone(find_source(str(tmp_path / "0")))
    assert backbone.tokenize_prompts(["12 films"]) == load_backbone(find_source("builtin:nano")).tokenize_prompts(
        ["12 films"]
    )
