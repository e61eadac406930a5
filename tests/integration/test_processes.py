"""Two gloo processes, and accumulated batches, against one process with one big batch."""

import os
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
# One step reads all rows, so that the order of the rows cannot matter.
PROGRAM = """
import sys
import pandas as pd
import predgen

path, out, loss, batch_size, accumulation = sys.argv[1:]
table = pd.read_csv(path).astype(object)
model = predgen.fit(
    {"train": table, "validation": table}, "stars", inputs=["review"], out=out, quiet=True, loss=loss,
    batch_size=int(batch_size),
    accumulation=int(accumulation), max_steps=3, learning_rate=1e-3, sampling_end=0, weight_decay=0, max_grad_norm=1e9,
    warmup_fraction=0, device="cpu",
)
assert model.record["train_rows"] == len(table)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def fit(folder: Path, loss: str, *, batch_size: int, accumulation: int = 1, processes: int = 1) -> dict[str, Tensor]:
    """Returns the trained weights of a run in processes of its own."""
    out = folder / f"{loss}-{batch_size}-{accumulation}-{processes}"
    if out.exists():  # another test wanted the same run
        return load_file(out / "weights.safetensors")
    command = [sys.executable, "-c", PROGRAM, *map(str, (folder / "rows.csv", out, loss, batch_size, accumulation))]
    port = str(free_port())
    started = []
    for rank in range(processes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
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
    reviews(NUM_ROWS).iloc[:NUM_ROWS].to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sum", "wdal_stable"])
def test_two_processes_train_as_one_with_the_big_batch(folder: Path, loss: str) -> None:
    whole = fit(folder, loss, batch_size=NUM_ROWS)
    shared = fit(folder, loss, batch_size=NUM_ROWS // 2, processes=2)
    assert difference(whole, shared) < SAME


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
