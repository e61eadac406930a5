"""Asks a real server with many clients, and stops it in the middle of its work.

    python -m scripts.checks.load --clients 16 --seconds 120
    python -m scripts.checks.load --clients 64 --seconds 600

A model of labels is fitted over builtin:nano, or one is named with --model, and `predgen serve` is started with it. The
clients ask one after the other, with one row or several, some as a stream. Every answer must be the one that `predgen
predict` writes into a file. At the end the server gets SIGTERM while all clients ask: it must exit with 0, and each
answer that it counts must have arrived. The figures are milliseconds of a request (p50, p95, p99), errors, and the
resident memory of the server's process: before the first request, after the warm-up (a quarter of the time), and at the
end. It is flat if the end is at most 5 % above the warm-up. Exit code 1 if an answer is missing or another one, or if
memory is not flat in a run of five minutes or more; in a shorter one caches may still fill.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is imported
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import httpx2
import numpy as np
import pandas as pd
import psutil
from tests.helpers.tables import reviews

import predgen

PREDGEN = [sys.executable, "-c", "from predgen.cli import main; main()"]
NUM_ROWS = 200
MOST_ROWS = 6
# What another batch may change of a probability.
ROUNDING = 1e-4
START_SECONDS = 120
# What memory may grow by after the warm-up, as a share of it, and from how many seconds on it is a fault.
FLAT_WITHIN, LONG_SECONDS = 0.05, 300.0


@dataclass
class Found:
    """What the clients saw.

    Attributes:
        seconds: of each request that was answered.
        answered: requests that were answered with 200.
        refused: requests that were refused after the server was asked to stop.
        faults: what should not have been.
    """

    seconds: list[float] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def fitted(folder: Path) -> Path:
    """Fits a small model of labels."""
    settings: dict[str, Any] = {"inputs": ["review"], "backbone": "builtin:nano", "batch_size": 8, "max_steps": 20}
    predgen.fit(reviews(100), "mood", out=folder / "mood", device="cpu", quiet=True, **settings)
    return folder / "mood"


def known_answers(folder: Path, texts: list[str]) -> dict[str, dict[str, Any]]:
    """Returns the answer of each text, as `predgen predict` writes it."""
    with tempfile.TemporaryDirectory() as place:
        rows, out = Path(place) / "rows.csv", Path(place) / "answers.jsonl"
        pd.DataFrame({"review": texts}).to_csv(rows, index=False)
        predict = [
            "predict",
            str(folder),
            str(rows),
            "--out",
            str(out),
            "--probabilities",
            "--device",
            "cpu",
            "--quiet",
        ]
        subprocess.run([*PREDGEN, *predict], check=True, stdout=subprocess.DEVNULL)
        answers = list(map(json.loads, out.read_text(encoding="utf-8").splitlines()))
    return {answer.pop("review"): answer for answer in answers}


@contextmanager
def started(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Starts a server on a free port, and gives its process and its address."""
    command = [*PREDGEN, "serve", str(folder), "--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # comes when the models are loaded
        address = re.search(r"http://[\d.:]+\d", line)
        if address is None:
            raise SystemExit(f"The server did not start: {line!r}")
        wait_until_it_answers(address[0])
        yield process, address[0]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_until_it_answers(address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx2.get(f"{address}/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        if time.monotonic() > end:
            raise SystemExit("The server does not answer.")
        time.sleep(0.05)


def ask(client: httpx2.Client, texts: list[str], *, stream: bool) -> list[dict[str, Any]]:
    """Returns the answers for texts; raises where the answer is an error or is cut off."""
    body = {"rows": [{"review": text} for text in texts], "probabilities": True}
    response = client.post("/v1/predict", json=body, headers={"Accept": "application/x-ndjson"} if stream else {})
    response.raise_for_status()
    return list(map(json.loads, response.text.splitlines())) if stream else list(response.json()["answers"])


def is_same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Returns whether an answer is another one up to rounding."""
    return found.keys() == wanted.keys() and all(
        abs(found[name] - cell) <= ROUNDING if isinstance(cell, float) else found[name] == cell
        for name, cell in wanted.items()
    )


def client_work(
    address: str, known: dict[str, dict[str, Any]], seed: int, stopping: threading.Event, found: Found
) -> None:
    """Asks until the server refuses after it was asked to stop."""
    draw, texts = random.Random(seed), list(known)
    with httpx2.Client(base_url=address, timeout=120) as client:
        while True:
            wanted = draw.choices(texts, k=draw.choice([1, 1, 1, MOST_ROWS]))
            was_stopping, start = stopping.is_set(), time.perf_counter()
            try:
                answers = ask(client, wanted, stream=draw.random() < 0.2)
            except httpx2.TransportError as error:
                # A request that the server had not taken yet is refused, by a closed connection.
                if was_stopping or stopping.is_set():
                    found.refused += 1
                else:
                    found.faults.append(f"{type(error).__name__}: {error}")
                return
            except httpx2.HTTPStatusError as error:
                found.faults.append(f"{error.response.status_code}: {error.response.text[:200]}")
                return
            found.seconds.append(time.perf_counter() - start)
            found.answered += 1
            if len(answers) != len(wanted) or not all(
                is_same(answer, known[text]) for answer, text in zip(answers, wanted, strict=True)
            ):
                found.faults.append(f"other answers for {wanted}: {answers}")


def measured(folder: Path, *, num_clients: int, seconds: float, options: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the figures of a server under load, and what was wrong."""
    known = known_answers(folder, list(reviews(NUM_ROWS, seed=1)["review"]))
    stopping, each = threading.Event(), [Found() for _ in range(num_clients)]
    with started(folder, *options) as (process, address):
        threads = [
            threading.Thread(target=client_work, args=(address, known, seed, stopping, found))
            for seed, found in enumerate(each)
        ]
        memory, end = [resident_mb(process.pid)], time.monotonic() + seconds
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            time.sleep(min(1.0, seconds / 10))
            memory.append(resident_mb(process.pid))
        batches = httpx2.get(f"{address}/metrics").text
        stopping.set()
        process.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        for thread in threads:
            thread.join()
        code = process.wait(timeout=120)
        took = time.monotonic() - stopped
        assert process.stdout is not None
        said = process.stdout.read()
    figures = {**_figures(each, seconds, batches, took), **memory_figures(memory)}
    faults = _faults(each, code, said)
    if seconds >= LONG_SECONDS and not figures["memory is flat"]:
        faults.append(f"memory grew by more than {FLAT_WITHIN:.0%} after the warm-up")
    return {**figures, "errors": len(faults)}, faults


def resident_mb(pid: int) -> float:
    """Returns a process's resident memory in MB, that of its children included."""
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


def memory_figures(looks: list[float]) -> dict[str, Any]:
    """Returns what looks at equal distances say of a process's memory in MB.

    The first look is before any work. Later figures are means of a tenth of the looks: of those behind the first
    quarter, which is the warm-up, and of the last.
    """
    part, warm = max(1, len(looks) // 10), len(looks) // 4
    after_warm_up, at_end = float(np.mean(looks[warm : warm + part])), float(np.mean(looks[-part:]))
    return {
        "memory MB, at the start": round(looks[0], 1),
        "memory MB, after the warm-up": round(after_warm_up, 1),
        "memory MB, at the end": round(at_end, 1),
        "memory is flat": at_end <= (1 + FLAT_WITHIN) * after_warm_up,
    }


def _figures(each: list[Found], seconds: float, metrics: str, took: float) -> dict[str, Any]:
    times = np.array([one for found in each for one in found.seconds])
    sums = {
        name: float(re.findall(rf"^predgen_batch_rows_{name}{{.*}} (.*)$", metrics, re.MULTILINE)[0])
        for name in ("sum", "count")
    }
    return {
        "clients": len(each),
        "requests": len(times),
        "requests per second": round(len(times) / seconds, 1),
        "rows of a batch": round(sums["sum"] / sums["count"], 2),
        **{f"p{share} ms": round(float(np.percentile(times, share)) * 1000, 1) for share in (50, 95, 99)},
        "seconds to stop": round(took, 2),
        "refused after SIGTERM": sum(found.refused for found in each),
    }


def _faults(each: list[Found], code: int, said: str) -> list[str]:
    faults = [fault for found in each for fault in found.faults]
    if code != 0:
        faults.append(f"exit code {code}")
    answered = sum(found.answered for found in each)
    if f"Stopped. {answered} requests were answered, 0 of them with an error." not in said:
        faults.append(f"the server said {said.strip()!r}, the clients have {answered} answers")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 where nothing was lost and every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--delay-ms", default="5")
    parser.add_argument("--model", help="a model of labels whose only input is `review`; fitted if not given")
    parser.add_argument("--json", help="where the figures go")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = fitted(Path(place)) if given.model is None else Path(given.model)
        options = ["--delay-ms", given.delay_ms]
        figures, faults = measured(folder, num_clients=given.clients, seconds=given.seconds, options=options)
    print(pd.Series(figures).to_string())
    print("\n".join(faults[:20]) or "no faults")
    if given.json:
        Path(given.json).write_text(json.dumps({**figures, "faults": faults}, indent=2) + "\n", encoding="utf-8")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
