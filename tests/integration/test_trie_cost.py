"""The script behind the table of what a trie costs. No time is asserted: it is the machine's affair."""

import importlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    trie_cost = importlib.import_module("trie_cost")

CASES = (
    trie_cost.READ,
    trie_cost.TWO_LABELS,
    trie_cost.TOPIC_LABELS,
    trie_cost.NUMBERS,
    trie_cost.GREEDY,
    trie_cost.ONE_BY_ONE,
)
SHAPE = ("--hidden-size", "16", "--layers", "2", "--heads", "2", "--feed-forward", "32")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Returns the figures and what was printed."""
    path = tmp_path_factory.mktemp("trie") / "cost.json"
    printed: list[str] = []
    sizes = ("--prompt-tokens", "6", "--batch-size", "4", "--repetitions", "3", "--rows-at-once", "96")
    with pytest.MonkeyPatch.context() as patch:
        threads = str(torch.get_num_threads())  # of the whole process: other tests keep theirs
        patch.setattr(sys, "argv", ["trie_cost.py", *sizes, *SHAPE, "--threads", threads, "--json", str(path)])
        patch.setattr(trie_cost, "print", printed.append, raising=False)
        trie_cost.main()
    return json.loads(path.read_text()), "\n".join(printed)


def test_every_case_has_a_row_and_its_figures(run: tuple[dict[str, Any], str]) -> None:
    found, printed = run
    assert tuple(found["cases"]) == CASES
    read = statistics.median(found["cases"][trie_cost.READ]["seconds"])
    for name, case in found["cases"].items():
        middle = statistics.median(case["seconds"])
        assert len(case["seconds"]) == 3
        assert case["median_seconds"] == middle > 0
        assert case["ratio"] == pytest.approx(middle / read)
        assert case["lower_quartile"] <= case["upper_quartile"]
        assert f"| {name} | {1000 * middle:.1f} | {middle / read:.2f} |" in printed
    assert f"torch {torch.__version__}, {torch.get_num_threads()} threads; 3 repetitions" in printed
    assert 0 < found["padded_fraction"] < 0.5


def test_what_is_written_is_what_the_trie_has(run: tuple[dict[str, Any], str]) -> None:
    cases = run[0]["cases"]
    assert cases[trie_cost.READ]["written_tokens"] == 0
    for name in (trie_cost.TWO_LABELS, trie_cost.TOPIC_LABELS, trie_cost.NUMBERS):
        assert cases[name]["written_tokens"] == cases[name]["nodes"]
    # 0 … 4, their points, and 0.0 … 4.9; 5.00 has no choice after its first digit.
    assert cases[trie_cost.NUMBERS]["nodes"] == 5 + 5 + 50
    assert cases[trie_cost.TOPIC_LABELS]["nodes"] > cases[trie_cost.TWO_LABELS]["nodes"]
    assert cases[trie_cost.ONE_BY_ONE]["written_tokens"] >= len(trie_cost.TOPICS)
    # 4 rows of 64 labels, 96 at once, and the prompts.
    assert cases[trie_cost.ONE_BY_ONE]["forwards"] == 3 + 1


def test_goals_say_what_the_medians_say(run: tuple[dict[str, Any], str]) -> None:
    found, printed = run
    assert [(goal["case"], goal["base"], goal["goal"]) for goal in found["goals"]] == list(trie_cost.GOALS)
    for goal in found["goals"]:
        case, base = (found["cases"][goal[name]]["median_seconds"] for name in ("case", "base"))
        assert goal["ratio"] == pytest.approx(case / base)
        assert goal["met"] == (goal["ratio"] <= goal["goal"])
        words = "met" if goal["met"] else "not met"
        assert any(
            line.startswith(f"- {goal['case']} /") and line.endswith(f": {words}.") for line in printed.split("\n")
        )


def test_both_roads_score_alike(run: tuple[dict[str, Any], str]) -> None:
    found = run[0]["agreement"]
    assert set(found) == {trie_cost.TWO_LABELS, trie_cost.TOPIC_LABELS, trie_cost.NUMBERS}
    assert all(one["difference"] < 1e-4 and one["lowest"] < one["highest"] for one in found.values())


def test_a_ratio_is_of_medians_and_its_quartiles_of_single_repetitions() -> None:
    seconds = {"base": [1.0, 2.0, 4.0], "case": [6.0, 2.0, 8.0]}
    # Ratios of the repetitions: 6, 1, 2.
    assert trie_cost.ratio(seconds, "case", "base") == {"ratio": 3.0, "lower_quartile": 1.5, "upper_quartile": 4.0}


def test_the_default_shape_has_26_million_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Any] = []
    monkeypatch.setattr(sys, "argv", ["trie_cost.py"])
    monkeypatch.setattr(trie_cost, "measure", lambda options: parsed.append(options) or {})
    monkeypatch.setattr(trie_cost, "report_of", lambda _: "")
    trie_cost.main()
    (options,) = parsed
    assert (options.prompt_tokens, options.batch_size) == (128, 16)
    with torch.device("meta"):
        model = trie_cost.LlamaForCausalLM(trie_cost.config_of(options, 6144))
    assert 25e6 < sum(one.numel() for one in model.parameters()) < 27e6
