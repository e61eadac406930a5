"""The study of GPUs: it runs on a CPU at a tiny shape, and says so where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts.studies import gpu_shapes

CASES = ["train predictor", "predict predictor", "train predgen", "predict predgen"]
TINY = ["--shapes", "tiny", "--device", "cpu", "--batch-size", "2", "--prompt-tokens", "8", "--repetitions", "2"]


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_shapes.py", *options])
    return gpu_shapes.main()


# In a process of its own: torch compiles no functions whose shapes are checked, as they are in every test.
CODE = """
import sys
from predgen.bench.shapes import SHAPES, Shape
from scripts.studies.gpu_shapes import main
SHAPES["tiny"] = Shape(64, 2, 2, 2, 96)
sys.exit(main())
"""


@pytest.mark.slow
def test_a_tiny_shape_on_the_cpu(tmp_path: Path) -> None:
    options = [*TINY, "--backend", "eager", "--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    done = subprocess.run([sys.executable, "-c", CODE, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert [(row["form"], row["what"]) for row in found["rows"]] == [
        (form, case) for form in ("plain", "compiled", "graphs") for case in CASES
    ]
    assert [row["failed"] for row in found["rows"] if "failed" in row] == []
    assert all(0 < row["share_of_rate"] < 1 and row["seconds"] > 0 for row in found["rows"])
    assert all(row["over_predictor"]["ratio"] > 0 for row in found["rows"] if row["what"].endswith("predgen"))
    assert len((tmp_path / "a.md").read_text().splitlines()) == 2 + len(found["rows"])


class Doubled(torch.nn.Module):
    """A layer; torch compiles none of its own by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns twice the product."""
        doubled: torch.Tensor = 2 * self.linear(states)
        return doubled


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
def test_compiled_layers_are_called_in_their_form_alone() -> None:
    layer = Doubled()
    graphs: list[Any] = []

    def counted(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    [call] = gpu_shapes.compiled_calls([layer], "default", counted)
    run = gpu_shapes.in_form(lambda: layer(torch.ones(1, 2)), [layer], [call])
    plain = layer(torch.ones(1, 2))
    assert graphs == []
    assert torch.allclose(run(), plain)
    assert len(graphs) == 1
    assert gpu_shapes.compiled_calls([layer], None, "inductor") == [None]


def test_goals_are_told_from_what_was_measured() -> None:
    def goal(**row: Any) -> Any:
        return gpu_shapes.shown({"shape": "1B", "form": "plain", "seconds": 1.0, "peak_bytes": 2**30, **row})[-1]

    assert goal(what="train predgen", share_of_rate=0.41) == "share ≥ 0.4: met"
    assert goal(what="train predgen", share_of_rate=0.39) == "share ≥ 0.4: missed"
    assert goal(what="predict predgen", share_of_rate=0.1, over_predictor={"ratio": 1.16}) == "over ≤ 1.15: missed"
    assert goal(what="predict predgen", share_of_rate=0.1, over_predictor={"ratio": 1.15}) == "over ≤ 1.15: met"
    assert goal(what="train predictor", share_of_rate=0.1) is None
    failed = gpu_shapes.shown({"shape": "1B", "form": "graphs", "what": "train predgen", "failed": "Error: no"})
    assert failed[3:] == ["failed: Error: no", None, None, None, None]


def test_a_form_is_taken_out_again() -> None:
    layer = torch.nn.Linear(2, 2)
    with gpu_shapes.called_by([layer], [lambda states: "compiled"]):
        assert layer(torch.ones(1, 2)) == "compiled"
    assert layer(torch.ones(1, 2)).shape == (1, 2)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: Expected a CUDA GPU, found none.")
