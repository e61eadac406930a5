"""torch computes with as many threads as the machine has idle cores."""

import pytest
import torch

from predgen.parallel import threads


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine of two cores whose counters a test sets: cores that others use, and the time."""
    state = {"busy": 0.0, "time": 0.0, "threads": 2.0, "all": 0.0}

    def look() -> threads._Look:
        passed = 10.0
        state["time"] += passed
        state["all"] += passed * (state["busy"] + state["threads"])
        return threads._Look(state["time"], state["all"], state["time"] * 0)

    def set_threads(number: int) -> None:
        state["threads"] = number

    def own(before: threads._Look, after: threads._Look) -> float:
        return state["busy"]

    monkeypatch.setattr(threads, "_look", look)
    monkeypatch.setattr(threads, "_busy_cores", own)
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(threads.time, "monotonic", lambda: state["time"] + threads.INTERVAL)
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: int(state["threads"]))
    monkeypatch.setattr(threads.torch, "set_num_threads", set_threads)
    return state


def follower() -> threads._Follower:
    return threads._Follower(stopped=False)


def test_a_core_that_is_busy_is_left_alone_and_taken_again_when_it_is_idle(machine: dict[str, float]) -> None:
    one = follower()
    one.follow()
    assert machine["threads"] == 2
    machine["busy"] = 1.0
    one.follow()
    assert machine["threads"] == 1
    machine["busy"] = 2.0
    one.follow()
    assert machine["threads"] == 1
    machine["busy"] = 0.1
    one.follow()
    assert machine["threads"] == 2


def test_a_number_that_somebody_chose_stays(machine: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    machine["busy"] = 1.0
    chosen = follower()
    machine["threads"] = 4
    chosen.follow()
    machine["threads"] = 2
    chosen.follow()
    assert machine["threads"] == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads._Follower().follow()
    assert machine["threads"] == 2


def test_what_this_process_uses_is_not_other_programs() -> None:
    before, after = threads._Look(0.0, 100.0, 50.0), threads._Look(10.0, 127.0, 69.0)
    assert threads._busy_cores(before, after) == pytest.approx(0.8)
    assert threads._busy_cores(before, threads._Look(10.0, 100.0, 60.0)) == 0.0


def test_the_counters_of_this_machine_grow() -> None:
    before = threads._look()
    torch.ones(300, 300) @ torch.ones(300, 300)
    after = threads._look()
    assert after.time >= before.time
    assert after.all >= before.all > 0
    assert after.own >= before.own > 0
