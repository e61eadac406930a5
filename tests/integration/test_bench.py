"""The benchmark: rivals do what they say. No time is asserted: it is the machine's affair."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from predgen.bench import GOALS, SHAPES, Cell, grid_of, rivals, run_bench, running, workload
from predgen.bench.memory import memory_here, peak_memory
from predgen.bench.published import Published
from predgen.bench.rivals import cases_of, number_of
from predgen.bench.running import MEMORY_RATIO, RATIOS
from predgen.bench.shapes import Shape
from predgen.bench.timing import count_flops, count_tokens, matrix_rate, ratio, time_cases
from predgen.bench.workload import make_workload
from predgen.errors import ConfigError, OutputExistsError, PredGenError, UnknownNameError
from tests.helpers.commands import refused, run
from tests.helpers.shapes import tiny_model

CPU = torch.device("cpu")
TINY = Shape(16, 2, 2, 2, 32)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Gives a cell of few numbers; the processes that measure memory do not know it."""
    monkeypatch.setitem(SHAPES, "26M", TINY)
    monkeypatch.setattr(workload, "RAGGED_ROWS", 6)
    monkeypatch.setattr(rivals, "SURE", 2.0**12)  # so small a model is unsure of everything
    monkeypatch.setattr(
        running, "peak_memory", lambda cell, rival, device: {"peak_bytes": 3 if rival == rivals.TRAIN_ONE_PASS else 6}
    )
    return Cell(prompt_tokens=8, batch_size=3)


def published_batch(vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(vocabulary, (3, 7), generator=generator)
    gold = torch.randint(vocabulary, (3, 4), generator=generator)
    return prompt, gold, torch.randn(3, generator=generator)


@pytest.mark.parametrize("own", [False, True])
def test_the_published_loss_is_that_of_its_equations(own: bool) -> None:
    torch.manual_seed(0)
    model = tiny_model("llama", 50)
    published = Published(model, 50)
    prompt, gold, truth = published_batch(50)
    found = published(prompt, gold, truth, self_fed=own)
    fed = gold.clone()
    if own:  # the likeliest token after all before it, without a cache
        for step in range(gold.shape[1]):
            fed[:, step] = model(input_ids=torch.cat([prompt, fed[:, :step]], dim=1)).logits[:, -1].argmax(dim=-1)
    assert torch.equal(found.fed, fed)
    logits = model(input_ids=torch.cat([prompt, fed], dim=1)).logits
    assert found.logits.shape == logits.shape  # the whole sequence
    probabilities = logits.softmax(dim=-1)
    steps = [probabilities[row, 6 + step, gold[row, step]] for row in range(3) for step in range(4)]
    writer = -torch.stack(steps).log().mean()
    outputs = logits[:, 7:11].mean(dim=1) @ published.head.weight[0] + published.head.bias
    director = ((outputs - truth) ** 2).mean()
    torch.testing.assert_close(found.writer, writer)
    torch.testing.assert_close(found.director, director)
    expected = torch.log(1 + writer) + torch.log(1 + director) + (1 + writer) * (1 + director)
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    assert all(one.grad is not None and bool(one.grad.isfinite().all()) for one in published.parameters())


def test_the_published_prediction_writes_greedily_and_runs_again() -> None:
    torch.manual_seed(0)
    published = Published(tiny_model("llama", 50), 50)
    prompt, gold, truth = published_batch(50)
    written, again = published.predict(prompt, gold, truth)
    assert torch.equal(written, published(prompt, gold, truth, self_fed=True).fed)
    assert torch.equal(again.fed, written)
    assert not again.loss.requires_grad
    kinder, same = published.predict(prompt, gold, truth, all_logits=False)
    assert torch.equal(kinder, written)
    torch.testing.assert_close(same.loss, again.loss)


def test_all_rivals_work_on_the_same_batch(tiny: Cell) -> None:
    work = make_workload(tiny, CPU)
    assert work.batch.prompt.shape == (3, 8)
    assert bool(work.batch.prompt_mask.all())
    assert work.batch.gold.symbols.shape == (3, 5)  # d.dd and the end
    cases = cases_of(work)
    assert {rival.name for pair in RATIOS.values() for rival in pair} == set(cases)
    assert list(cases) == [rival.name for rival in rivals.RIVALS]
    seen: list[tuple[int, ...]] = []
    handle = work.backbone.model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    expected = {
        rivals.TRAIN_PREDICTOR.name: [(3, 8)],
        rivals.TRAIN_ONE_PASS.name: [(3, 8), (3, 4), (3, 5)],
        rivals.TRAIN_PUBLISHED.name: [(3, 8), *[(3, 1)] * 4, (3, 13)],
        rivals.TRAIN_SFT.name: [(3, 13)],
        rivals.PREDICT_PREDICTOR.name: [(3, 8)],
        rivals.PREDICT_PUBLISHED.name: [(3, 8), *[(3, 1)] * 4, (3, 13)],
        rivals.PREDICT_KINDER.name: [(3, 8), *[(3, 1)] * 4, (3, 13)],
        rivals.PREDICT_GENERATE.name: [(3, 8), *[(3, 1)] * 4],
    }
    for name, shapes in expected.items():
        seen.clear()
        cases[name]()
        assert seen == shapes, name
    seen.clear()
    cases[rivals.PREDICT_PREDGEN.name]()
    assert seen[0] == (3, 8)
    assert 5 <= sum(columns for _, columns in seen[1:]) <= 6
    seen.clear()
    cases[rivals.TRAIN_FIXED_POINT.name]()
    assert 4 <= len(seen) <= 8  # read, at least a pass and one that finds nothing to change, write
    handle.remove()
    every, pruned = (
        count_tokens(work.backbone.model, cases[name]) for name in (rivals.PREDICT_ALL.name, rivals.PREDICT_PRUNED.name)
    )
    assert every == 3 * (8 + 60)
    assert 3 * 8 <= pruned < every


def test_training_steps_leave_gradients(tiny: Cell) -> None:
    work = make_workload(tiny, CPU)
    cases = cases_of(work)
    for name in (
        rivals.TRAIN_PREDICTOR.name,
        rivals.TRAIN_ONE_PASS.name,
        rivals.TRAIN_PUBLISHED.name,
        rivals.TRAIN_SFT.name,
    ):
        work.backbone.zero_grad(set_to_none=True)
        cases[name]()
        layer = work.backbone.model.model.layers[0].self_attn.q_proj.weight
        assert layer.grad is not None, name
        assert float(layer.grad.norm()) > 0, name


def test_a_bench_has_all_ratios_under_their_names(tiny: Cell, tmp_path: Path) -> None:
    found = run_bench([tiny], repetitions=2, device="cpu")
    json.loads(json.dumps(found, allow_nan=False))
    assert set(GOALS) <= set(found)
    one = found["cells"][0]
    for name, (over, base) in RATIOS.items():
        assert len(one["seconds"][over.name]) == 2
        assert found[name] == pytest.approx(one["median_seconds"][over.name] / one["median_seconds"][base.name])
        assert one["spreads"][name]["lower_quartile"] <= one["spreads"][name]["upper_quartile"]
    assert found[MEMORY_RATIO] == 0.5
    assert one["tokens_per_row"][rivals.TRAIN_SFT.name] == 13
    assert found["machine"]["device"] == "cpu"
    assert one["parameters"] == 32_000 * 16 + 2 * (4 * 16**2 + 3 * 16 * 32 + 2 * 16) + 16
    products = one["flops"][rivals.TRAIN_ONE_PASS.name]
    used = found["train_flops_over_matrix_rate"]
    assert used == pytest.approx(
        products / one["median_seconds"][rivals.TRAIN_ONE_PASS.name] / one["matrix_flops_per_second"]
    )


def test_a_target_of_too_many_numbers_has_no_ratios_of_them(tiny: Cell) -> None:
    found = run_bench([Cell(prompt_tokens=6, target="16-tokens", batch_size=2)], repetitions=1, device="cpu")
    assert found["trie_overhead_over_predictor"] is None
    assert found["cells"][0]["target_tokens"] == 16
    assert found["predict_overhead_over_predictor"] > 0


def test_finished_cells_are_not_measured_again(tiny: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(cell: Cell, repetitions: int, device: torch.device) -> dict[str, Any]:
        measured.append(cell.name)
        return {"cell": cell.to_json(), "ratios": {name: 1.0 for name in GOALS}}

    monkeypatch.setattr(running, "measure", measure)
    cells = grid_of(tiny, gpu=False)
    assert len({cell.name for cell in cells}) == len(cells) == 1 + 2 * 3 * 2 * 3
    assert cells[0] == tiny
    assert {cell.shape for cell in grid_of(tiny, gpu=True)} == set(SHAPES)
    folder = tmp_path / "runs"
    run_bench(cells[:2], runs=folder, device="cpu")
    with pytest.raises(OutputExistsError, match="found finished cells"):
        run_bench(cells[:3], runs=folder, device="cpu")
    found = run_bench(cells[:3], runs=folder, resume=True, device="cpu")
    assert measured == [cell.name for cell in cells[:3]]
    assert len(found["cells"]) == 3
    run_bench(cells[:1], runs=folder, overwrite=True, device="cpu")
    assert measured[3:] == [tiny.name]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="found something else"):
        run_bench(cells[:1], runs=folder, overwrite=True, device="cpu")
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own() -> None:
    cell = Cell("6M", 16, batch_size=2)
    bytes_of = {rival: peak_memory(cell, rival, "cpu")["peak_bytes"] for rival in running.MEMORY_RIVALS}
    weights = 4 * 6_140_000
    assert all(2 * weights < one < 40 * weights for one in bytes_of.values())  # weights and gradients at least
    with pytest.raises(PredGenError, match="Expected the memory of 'nothing', found that its process failed: KeyError"):
        peak_memory(cell, replace(rivals.TRAIN_SFT, name="nothing"), "cpu")


def test_memory_counts_what_a_case_takes(tiny: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    def take() -> None:
        taken.append(torch.ones(2**26, dtype=torch.float32))  # 256 MiB

    monkeypatch.setattr("predgen.bench.memory.make_workload", lambda *_: None)
    monkeypatch.setattr("predgen.bench.memory.cases_of", lambda _: {"take": take})
    assert memory_here(tiny, "take", "cpu")["peak_bytes"] > 200 * 2**20


def test_cases_are_timed_in_turns() -> None:
    order: list[str] = []
    seconds = time_cases({name: lambda name=name: order.append(name) for name in "abc"}, 5, CPU)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 5, "b": 5, "c": 5}
    turns = [order[start : start + 3] for start in range(0, 18, 3)]  # one more than what counts
    assert len(order) == 18
    assert all(set(turn) == set("abc") for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_ratio_is_one_of_medians() -> None:
    found = ratio([2.0, 4.0, 30.0], [1.0, 2.0, 3.0])
    assert found["ratio"] == 2.0
    assert found["lower_quartile"] == 2.0
    assert found["upper_quartile"] == 6.0


def test_operations_are_counted() -> None:
    left, right = torch.ones(3, 4), torch.ones(4, 5)
    assert count_flops(lambda: left @ right) == 2 * 3 * 4 * 5
    assert matrix_rate(torch.float32, CPU) > 1e6


def test_a_text_that_is_no_number_is_none() -> None:
    assert number_of("3.25") == 3.25
    assert number_of("3..2") is None


def test_cells_refuse_what_is_not_there() -> None:
    with pytest.raises(UnknownNameError, match="26M"):
        Cell("26m")
    with pytest.raises(UnknownNameError, match=r"d\.dd"):
        Cell(target="d.d")
    with pytest.raises(ConfigError, match="Expected prompts and batches of at least 2, found 1 tokens and 16 rows"):
        Cell(prompt_tokens=1)
    with pytest.raises(ConfigError, match="Expected at least 1 repetition, found 0"):
        run_bench([Cell()], repetitions=0)
    with pytest.raises(ConfigError, match="Expected either --resume or --overwrite"):
        run_bench([Cell()], runs=".nothing", resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="Expected --runs DIR to go on with"):
        run_bench([Cell()], resume=True)


def test_the_command_writes_its_tables(tiny: Cell, tmp_path: Path) -> None:
    files = {"--json": tmp_path / "bench.json", "--markdown": tmp_path / "bench.md"}
    named = [part for option, path in files.items() for part in (option, str(path))]
    small = ["--prompt-tokens", "8", "--batch-size", "3", "--repetitions", "1", "--device", "cpu"]
    done = run("bench", *small, *named)
    assert done.code == 0, done
    found = json.loads(files["--json"].read_text())
    assert set(GOALS) <= set(found)
    text = files["--markdown"].read_text()
    for name, (side, limit) in GOALS.items():
        met = found[name] <= limit if side == "most" else found[name] >= limit
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {found[name]:.2f} |" in line
        assert line.endswith(f"| {'met' if met else 'missed'} |")
        assert name in done.stdout
    for name, seconds in found["cells"][0]["median_seconds"].items():
        assert f"| {name} | {1000 * seconds:.1f} |" in text


def test_the_command_refuses_wrong_names(tmp_path: Path) -> None:
    assert "26M" in refused("bench", "--shape", "26")
    assert "at least 1 thread" in refused("bench", "--threads", "0")
    assert "is a folder" in refused("bench", "--json", str(tmp_path))
