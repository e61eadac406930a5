"""The benchmark on real rows: what each rival does, in a process of its own. No time is asserted."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from predgen.bench import real, real_rivals
from predgen.bench.real import GOALS, RATIOS, RIVALS, run_real_bench
from predgen.errors import ConfigError, PredGenError, UnknownNameError
from predgen.report.real_benchmark import real_benchmark_markdown
from tests.helpers.commands import refused, run
from tests.helpers.task_rows import write_rows

WORDS = {0: "dreadful", 1: "lovely"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows in the form of both tasks' files."""
    sentences = [{"idx": row, "sentence": f"a {WORDS[row % 2]} film {row}", "label": row % 2} for row in range(24)]
    pairs = [
        {"sentence1": f"a film {row}", "sentence2": f"the {WORDS[row % 2]} film", "label": float(row % 6), "genre": "g"}
        for row in range(24)
    ]
    for name, rows in (("sst2", sentences), ("stsb", pairs)):
        write_rows(tmp_path / name, {part: rows for part in ("train", "validation", "test")})
    return tmp_path


def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replaces the processes by figures; returns what each was to do."""
    asked: list[dict[str, Any]] = []

    def figures(work: dict[str, Any], scratch: Path) -> dict[str, Any]:
        asked.append(work)
        seconds = 2.0 if work["rival"] == "hf_trainer" else 1.0
        return {"fit_seconds": seconds, "predict_seconds": 0.5, "peak_bytes": 2**20, "score": 0.75, "test_rows": 8}

    monkeypatch.setattr(real, "_run", figures)
    return asked


def test_all_rivals_run_in_turns_over_the_same_rows(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake(monkeypatch)
    rivals = ["predictor", "predgen", "hf_trainer"]
    found = run_real_bench(
        data, backbone="builtin:nano", rivals=rivals, train_rows=16, test_rows=8, repetitions=2, runs=data / "runs"
    )
    assert len(asked) == 2 * 2 * 3
    assert len({(work["task"], work["rows"]) for work in asked}) == 2
    assert all(work["settings"]["backbone"] == asked[0]["settings"]["backbone"] for work in asked)
    ratios = found["tasks"]["sst2"]["ratios"]
    assert ratios["fit_predictor_over_hf_trainer"]["ratio"] == 0.5
    assert set(ratios) == {name for name, (_, over, base) in RATIOS.items() if {over, base} <= set(rivals)}
    text = real_benchmark_markdown(found, GOALS)
    assert "| predictor | 1.0 | 16.0 | 1 | 0.750 |" in text
    assert "| fit_predictor_over_hf_trainer | 0.50 | 0.50 – 0.50 | ≤ 0.45 | missed |" in text
    # What is finished is not run again.
    asked.clear()
    run_real_bench(
        data,
        backbone="builtin:nano",
        rivals=rivals,
        train_rows=16,
        test_rows=8,
        repetitions=2,
        runs=data / "runs",
        resume=True,
    )
    assert asked == []


def test_each_ratio_and_goal_has_its_rivals() -> None:
    assert set(GOALS) <= set(RATIOS)
    assert all({over, base} <= set(RIVALS) for _, over, base in RATIOS.values())
    assert {rival.kind for rival in RIVALS.values()} == set(real_rivals.FITS) == set(real_rivals.IMPORTS)


def test_what_a_rival_lacks_is_said(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected the Python of an earlier release \(--release\).*release_predgen"):
        run_real_bench(data, backbone="builtin:nano", rivals=["release_predgen"])
    with pytest.raises(UnknownNameError, match="rival"):
        run_real_bench(data, backbone="builtin:nano", rivals=["predictr"])
    assert "Expected at least 1 repetition" in refused("bench", "--real", str(data), "--repetitions", "0")
    assert "Expected --real DATA" in refused("bench", "--rivals", "predictor")
    assert "no-such-folder" in refused("bench", "--real", str(data / "no-such-folder"), "--rivals", "predictor")
    assert "predictr" in refused("bench", "--real", str(data), "--rivals", "predictr")


def test_a_rival_that_fails_is_named_with_its_reason(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"python": "/bin/false", "rival": "predictor", "task": "sst2", "threads": 1}
    with pytest.raises(PredGenError, match=r"rival 'predictor' on sst2.*it was killed.*--rivals"):
        real._run(work, data)


@pytest.mark.slow
def test_real_processes_fit_and_answer(data: Path) -> None:
    done = run(
        *("bench", "--real", data, "--rows", 8, "--repetitions", 1),
        *("--rivals", "predgen,hf_trainer,cross_encoder", "--json", data / "real.json"),
    )
    assert done.code == 0, done
    found = json.loads((data / "real.json").read_text())["tasks"]
    assert set(found["sst2"]["rivals"]) == {"predgen", "hf_trainer"}
    assert set(found["stsb"]["rivals"]) == {"predgen", "hf_trainer", "cross_encoder"}
    for task in found.values():
        for figures in task["rivals"].values():
            assert figures["test_rows"] == 8
            assert all(figures[name] > 0 for name in ("fit_seconds", "predict_seconds", "peak_bytes"))


@pytest.mark.skipif(find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed, which reads a real file")
def test_llama_cpp_takes_the_label_whose_first_token_is_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Llama:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.n_tokens = 0

        def tokenize(self, text: bytes, add_bos: bool = True) -> list[int]:
            return [{b" lovely": 1, b" dreadful": 2}.get(text, 0)]

        def reset(self) -> None:
            self.n_tokens = 0

        def eval(self, tokens: list[int]) -> None:
            self.n_tokens = len(tokens)
            self.scores = [[0.0, 0.2, 0.7]]

    module = type("llama_cpp", (), {"Llama": Llama})
    monkeypatch.setitem(__import__("sys").modules, "llama_cpp", module)
    work = {"gguf": "a.gguf", "threads": 1, "labels": ["1", "0"], "words": ["lovely", "dreadful"]}
    answer = real_rivals.llama_cpp(work, pd.DataFrame())
    assert answer(pd.DataFrame({"prompt": ["x", "y"]})) == ["0", "0"]
