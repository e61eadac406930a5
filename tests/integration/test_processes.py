"""Two gloo processes, and accumulated batches, against one process with one big batch."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from tests.helpers.tables import reviews

NUM_ROWS = 12
SAME = 1e-3
PROGRAM = """
import sys
import pandas as pd
import predgen

path, out, loss, batch_size, accumulation, form, weight = sys.argv[1:]
table = pd.read_csv(path).astype(object)
model = predgen.fit(
    {"train": table, "validation": table}, "stars", inputs=["review"], out=out, quiet=True, loss=loss,
    batch_size=int(batch_size),
    accumulation=int(accumulation), max_steps=3, learning_rate=1e-3, sampling_end=1, director_form=form or None,
    weight_decay=0, max_grad_norm=1e9,
    warmup_fraction=0, device="cpu", weight=weight or None,
)
assert model.record["train_rows"] == len(table)
"""

# What `predgen` runs.
COMMAND = "from predgen.cli import main; main()"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run_in(processes: int, arguments: list[str]) -> list[tuple[int, str, str]]:
    """Returns the exit code, standard output and standard error of processes, started as torchrun does."""
    port = str(free_port())
    started = []
    for rank in range(processes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        command = [sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    ended = [process.communicate(timeout=600) for process in started]
    # Lines that begin with [rank are what torch's C++ part logs.
    said = [(out, re.sub(r"(?m)^\[rank.*\n", "", errors)) for out, errors in ended]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def fit(
    folder: Path,
    loss: str,
    *,
    batch_size: int,
    accumulation: int = 1,
    processes: int = 1,
    form: str = "",
    weight: str = "",
) -> dict[str, Tensor]:
    """Returns the trained weights of a run in processes of its own."""
    out = folder / f"{loss}-{batch_size}-{accumulation}-{processes}-{form}-{weight}"
    if out.exists():  # another test wanted the same run
        return load_file(out / "weights.safetensors")
    arguments = map(str, (folder / "rows.csv", out, loss, batch_size, accumulation, form, weight))
    for code, _, errors in run_in(processes, ["-c", PROGRAM, *arguments]):
        assert code == 0, errors
    assert not out.with_name(out.name + ".unfinished").exists()
    weights = load_file(out / "weights.safetensors")
    # Runs that had not trained would be equal for nothing.
    assert all(bool((one != 0).any()) for name, one in weights.items() if "lora_B" in name)
    return weights


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Returns the largest difference of a trained tensor, relative to its size.

    LoRA's second matrices begin at 0, so their size is what was trained. Single elements do not tell: Adam divides by
    the gradient's own size and makes steps of the rounding errors of gradients that are nearly 0.
    """
    assert one.keys() == other.keys()
    names = [name for name in one if "lora_B" in name]
    return max(float((one[name] - other[name]).norm() / one[name].norm()) for name in names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    reviews(NUM_ROWS).assign(trust=[3, 1, 0, 1] * (NUM_ROWS // 4)).to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sum", "wdal_stable"])
def test_two_processes_train_as_one_with_the_big_batch(folder: Path, loss: str) -> None:
    whole = fit(folder, loss, batch_size=NUM_ROWS)
    shared = fit(folder, loss, batch_size=NUM_ROWS // 2, processes=2)
    assert difference(whole, shared) < SAME


@pytest.mark.slow
def test_two_processes_weigh_rows_as_one_big_batch(folder: Path) -> None:
    whole = fit(folder, "wdal_stable", batch_size=NUM_ROWS, weight="trust")
    shared = fit(folder, "wdal_stable", batch_size=NUM_ROWS // 2, processes=2, weight="trust")
    assert difference(whole, shared) < SAME
    assert difference(whole, fit(folder, "wdal_stable", batch_size=NUM_ROWS)) > 10 * SAME


@pytest.mark.slow
def test_two_processes_take_the_rows_of_each_step_that_one_takes(folder: Path) -> None:
    """With batches of a third of the rows, the order of the rows matters."""
    whole = fit(folder, "sum", batch_size=NUM_ROWS // 3)
    shared = fit(folder, "sum", batch_size=NUM_ROWS // 6, processes=2)
    assert difference(whole, shared) < SAME
    # The rows of a step matter, or this would show nothing.
    assert difference(whole, fit(folder, "sum", batch_size=NUM_ROWS)) > 10 * SAME


@pytest.mark.slow
def test_what_is_drawn_in_training_differs_between_one_process_and_two(folder: Path) -> None:
    """Each process draws its own rows' tokens, from the seed, the step and its number; the default form draws none."""
    whole = fit(folder, "sum", batch_size=NUM_ROWS // 3, form="states")
    shared = fit(folder, "sum", batch_size=NUM_ROWS // 6, processes=2, form="states")
    assert difference(whole, shared) > 10 * SAME


@pytest.mark.slow
def test_of_two_processes_the_first_one_prints_and_writes(folder: Path, tmp_path: Path) -> None:
    settings = ["--batch-size", "6", "--set", "max_steps=1", "--method", "predictor", "--device", "cpu"]
    command = ["fit", str(folder / "rows.csv"), "--target", "stars", "--inputs", "review", *settings]
    written = ["--out", str(tmp_path / "model"), "--json", str(tmp_path / "fit.json")]
    first, second = run_in(2, ["-c", COMMAND, *command, *written])
    assert (first[0], second) == (0, (0, "", "")), (first, second)
    assert "The model is in" in first[1]
    assert "Rows: " in first[2]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "fit.json"}
    # What is wrong both say, as each must end.
    again = run_in(2, ["-c", COMMAND, *command, *written])
    assert [(code, output) for code, output, _ in again] == [(2, "")] * 2
    assert [len(re.findall(r"(?m)^error: ", errors)) for _, _, errors in again] == [1, 1]
    assert again[1][2].startswith("error: ")  # and no notes before it


@pytest.mark.slow
def test_accumulated_batches_train_as_the_big_one_by_sum_alone(folder: Path) -> None:
    whole, parts = (
        {loss: fit(folder, loss, batch_size=size, accumulation=count) for loss in ("sum", "wdal_stable")}
        for size, count in ((NUM_ROWS, 1), (NUM_ROWS // 3, 3))
    )
    assert difference(whole["sum"], parts["sum"]) < SAME
    # A join that is no weighted sum does not commute with averaging: docs/developers/decisions.md says so.
    assert difference(whole["wdal_stable"], parts["wdal_stable"]) > 10 * SAME
    assert difference(whole["sum"], whole["wdal_stable"]) > 10 * SAME
