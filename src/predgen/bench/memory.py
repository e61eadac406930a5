"""The peak memory of one case, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from predgen.bench.rivals import Rival, cases_of
from predgen.bench.shapes import Cell
from predgen.bench.workload import make_workload
from predgen.errors import PredGenError

# glibc gives large blocks back at once, so that what is measured is in use and does not depend on holes between blocks.
LIVE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "131072"}


def peak_memory(cell: Cell, rival: Rival, device: str) -> dict[str, int]:
    """Returns the bytes that a rival takes, weights included, from a process that runs it alone.

    Args:
        cell: the cell.
        rival: what is measured.
        device: cpu or cuda.

    Returns:
        `peak_bytes`: the largest amount, less what the process held before there was a model.

    Raises:
        PredGenError: the process failed, as where there is too little memory.
    """
    arguments = [json.dumps(cell.to_json()), rival.name, device, str(torch.get_num_threads())]
    done = subprocess.run(
        [sys.executable, "-m", "predgen.bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **LIVE_MEMORY},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise PredGenError(
            f"Expected the memory of '{rival.name}', found that its process failed: {last}. Choose a smaller shape."
        )
    measured: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return measured


def memory_here(cell: Cell, name: str, device_name: str) -> dict[str, int]:
    """Returns what `peak_memory` returns, measured in this process, which must not have run anything else.

    Args:
        cell: the cell.
        name: the rival's.
        device_name: cpu or cuda.
    """
    import psutil

    before = psutil.Process().memory_info().rss
    device = torch.device(device_name)
    cases_of(make_workload(cell, device))[name]()
    if device.type == "cuda":
        torch.cuda.synchronize()
        return {"peak_bytes": torch.cuda.max_memory_allocated()}
    return {"peak_bytes": _peak_rss() - before}


def _peak_rss() -> int:
    """Returns the peak of this process's resident memory, in bytes."""
    import psutil

    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return int(info.peak_wset)
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux includes the process that started this one
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
