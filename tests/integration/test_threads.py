"""One model in many threads, and after a fork: the answers are those of one thread."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen.models import one_at_a_time as turns
from tests.helpers.tables import reviews

NUM_THREADS = 8
SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
METHODS: dict[str, dict[str, Any]] = {
    "predictor": {"method": "predictor"},
    "generator": {"method": "generator"},
    "predgen": {"method": "predgen"},
    "predgen-states": {"method": "predgen", "director_form": "states"},
}
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")


@pytest.fixture(scope="module", params=METHODS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("threads") / "model"
    predgen.fit(reviews(24), "stars", out=out, **SMALL, **METHODS[request.param])
    return out


def loaded(folder: Path, *, packed: bool = True, cached: bool = True) -> predgen.Model:
    model = predgen.load(folder, device="cpu")
    if not packed:
        model._packed.most_bytes = 0
    if not cached:
        backbone: Any = model.method.backbone
        backbone.capabilities = replace(backbone.capabilities, cached=False, pads_inside=False, masks_trees=False)
    return model


def in_threads(work: Callable[[int], pd.DataFrame]) -> list[pd.DataFrame]:
    """Returns what each of the threads made; they begin together."""
    found: dict[int, pd.DataFrame | BaseException] = {}
    together = threading.Barrier(NUM_THREADS)

    def run(number: int) -> None:
        together.wait()
        try:
            found[number] = work(number)
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(NUM_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found.values():
        if isinstance(one, BaseException):
            raise one
    return [found[number] for number in range(NUM_THREADS)]  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize(("packed", "cached"), [(True, True), (False, True), (True, False)])
def test_threads_have_the_answers_of_one_after_the_other(folder: Path, packed: bool, cached: bool) -> None:
    model = loaded(folder, packed=packed, cached=cached)
    rows = [reviews(2 + number, seed=number) for number in range(NUM_THREADS)]
    expected = [model.predict(one) for one in rows]
    assert bool(model._packed._packed) is packed  # the road that is meant
    for one, other in zip(in_threads(lambda number: model.predict(rows[number])), expected, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_thread_waits_for_the_answer_in_the_making() -> None:
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with turns.one_at_a_time(torch.device("cpu")):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with turns.one_at_a_time(torch.device("cpu")):
        inside.set()
        thread.join(timeout=0.2)
        with turns.one_at_a_time(torch.device("cpu")):  # a thread that is in may enter again
            order.append("first")
    thread.join()
    assert order == ["first", "second"]


# Two threads in torch's pool, which a fork does not copy: a child that computed with them would wait for ever.
FORKING = """
import os, pickle, sys, threading
import predgen
from tests.helpers.tables import reviews

model, rows = predgen.load(sys.argv[1], device="cpu"), reviews(30, seed=3)
expected = model.predict(rows)
busy = threading.Thread(target=lambda: [model.predict(rows) for _ in range(3)])
busy.start()  # an answer is in the making when the process forks
child = os.fork()
if child == 0:
    try:
        found = model.predict(rows)
        difference = (found["prediction"].astype(float) - expected["prediction"].astype(float)).abs().max()
        os._exit(0 if difference < 1e-5 and found["written"].equals(expected["written"]) else 1)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(2)
_, status = os.waitpid(child, 0)
busy.join()
again = model.predict(rows)
assert again.equals(expected)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@fork
@pytest.mark.slow
def test_a_forked_child_has_the_same_answers(folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@fork
def test_a_forked_child_is_told_that_its_parents_device_is_not_for_it() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with turns.one_at_a_time(torch.device("cuda", 0)):
                said: Any = "entered"
        except predgen.BackboneError as error:
            said = str(error)
        except BaseException as error:
            said = repr(error)
        os.write(write, pickle.dumps(said))
        os._exit(0)
    os.waitpid(child, 0)
    message = pickle.loads(os.read(read, 10_000))
    os.close(read)
    os.close(write)
    assert "found one forked after that, and a model on 'cuda:0'" in message
    assert "Load the model in the new process, or start processes by spawn" in message
