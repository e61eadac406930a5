"""Artifacts of release 0.6.0, made by its own code, load and predict equal to the bit."""

import subprocess
from pathlib import Path

import pytest
from scripts.checks import release_artifacts

# Several fields with all that is fitted after training; the script has nineteen artifacts of all kinds.
NAMES = ["predgen-record"]


@pytest.mark.slow
def test_artifacts_of_the_release_answer_as_they_did(tmp_path: Path) -> None:
    known = ["git", "cat-file", "-e", f"{release_artifacts.RELEASE}^{{commit}}"]
    if subprocess.run(known, cwd=release_artifacts.ROOT, capture_output=True, check=False).returncode:
        pytest.skip(f"the history of this copy does not reach back to {release_artifacts.RELEASE}")
    assert release_artifacts.check(tmp_path, release_artifacts.RELEASE, NAMES) == []


def test_a_difference_of_one_bit_is_found() -> None:
    before = {"a": {"rows": [[0.1 + 0.2]], "metrics": {"mse": 1.0}}}
    now = {"a": {"rows": [[0.3]], "metrics": {"mse": 1.0}}}
    assert release_artifacts.differences(before, before) == []
    assert release_artifacts.differences(before, now) == ["a: rows"]


def test_metrics_may_be_more_and_round_otherwise() -> None:
    before = {"a": {"metrics": {"mse": 0.1 + 0.2, "r2": float("nan")}}}
    assert release_artifacts.differences(before, {"a": {"metrics": {"mse": 0.3, "new": 1.0, "r2": float("nan")}}}) == []
    for wrong in ({"mse": 0.3001, "r2": float("nan")}, {"mse": 0.3}, {"mse": 0.3, "r2": 0.0}):
        assert release_artifacts.differences(before, {"a": {"metrics": wrong}}) == ["a: metrics"]
