"""The script of one LoRA step: it runs on a CPU, and measures nothing that is not there."""

import sys

import pytest
import torch
from scripts.checks import one_lora_step


def test_a_tiny_shape_on_the_cpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["one_lora_step.py", "--shape", "tiny", "--device", "cpu"])
    assert one_lora_step.main() == 0
    first, step, planned, peak = capsys.readouterr().out.splitlines()
    assert first == "tiny in bfloat16 on cpu, 4 rows of 128 tokens"
    assert "parameters trained" in step
    assert planned.endswith("(an estimate)")
    assert peak.split(maxsplit=1) == ["peak:", "not measured on a CPU"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["one_lora_step.py"])
    assert one_lora_step.main() == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: Expected a CUDA GPU, found none.")
