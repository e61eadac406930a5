"""`predgen serve` as a process: what it refuses to begin with, and how it stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from scripts.checks import load

import predgen
from predgen.errors import ConfigError
from predgen.serving.running import bound_memory, open_port
from tests.helpers.commands import refused
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "mood"
    predgen.fit(reviews(40), "mood", out=out, **SMALL)
    return out


def test_a_server_that_cannot_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Missing argument 'MODEL...'" in refused("serve")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"that {port} cannot be had" in refused("serve", "nowhere", "--port", port)
    free = ("--port", "0")
    assert "Expected" in refused("serve", "nowhere", *free)
    assert "a name of its own for each model" in refused("serve", "a/stars", "b/stars", *free)
    assert "for the limit 'rows', found 0" in refused("serve", "stars", "--max-rows", "0", *free)
    assert "for the limit 'timeout seconds', found nan" in refused("serve", "stars", "--timeout", "nan", *free)
    assert "Expected a file of API keys at 'none.txt'" in refused("serve", "stars", "--keys", "none.txt", *free)
    assert "Invalid value for '--port'" in refused("serve", "stars", "--port", "65536")


def test_without_its_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert "pip install 'predgen[serve]'" in refused("serve", "stars")


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be had"):
        open_port("256.1.1.1", 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_arrived_is_answered_before_it_stops(mood: Path, number: int) -> None:
    texts = list(reviews(24)["review"])
    lines: list[dict[str, Any]] = []
    with load.started(mood, "--delay-ms", "1500") as (process, address):

        def ask() -> None:
            with httpx2.Client(base_url=address, timeout=60) as client:
                lines.extend(load.ask(client, texts, stream=True))

        thread = threading.Thread(target=ask)
        thread.start()
        while 'predgen_waiting_rows{model="mood"} 24.0' not in httpx2.get(f"{address}/metrics").text:
            time.sleep(0.01)
        process.send_signal(number)
        time.sleep(0.5)  # the rows still wait for others
        assert not lines
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{address}/health")
        thread.join()
        assert process.wait(timeout=60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "Stopped. 1 requests were answered, 0 of them with an error.\n"
    assert len(lines) == len(texts)


@pytest.mark.slow
def test_a_server_that_is_stopped_while_it_loads_ends_as_other_commands(mood: Path) -> None:
    code = "from predgen.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(mood), "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 128 + signal.SIGTERM)
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_nothing_is_lost_and_no_answer_is_another_under_load(mood: Path, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    arguments = ["--clients", "8", "--seconds", "10", "--model", str(mood), "--json", str(out)]
    command = [sys.executable, "-m", "scripts.checks.load", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["faults"] == []
    assert figures["requests"] > 8
    assert figures["rows of a batch"] > 1
    assert figures["errors"] == 0
    assert 100 < figures["memory MB, at the start"] <= figures["memory MB, at the end"]


def test_memory_is_flat_where_it_no_longer_grows_after_the_warm_up() -> None:
    filled = [100.0 + min(look, 24) for look in range(100)]
    assert load.memory_figures(filled) == {
        "memory MB, at the start": 100.0,
        "memory MB, after the warm-up": 124.0,
        "memory MB, at the end": 124.0,
        "memory is flat": True,
    }
    assert not load.memory_figures([100.0 + look for look in range(100)])["memory is flat"]


def test_a_server_keeps_few_shapes_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict[str, str]())
    bound_memory()
    kept = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "16"}
    assert os.environ == kept
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "1024"})
    bound_memory()
    assert os.environ == {**kept, "LRU_CACHE_CAPACITY": "1024"}
