"""Runs that are killed at random moments end as the run that was never stopped."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
def test_three_kills_change_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sys.modules.pop("kill_and_resume", None)
    import kill_and_resume  # type: ignore[import-not-found]

    kill_and_resume.main(["--kills", "3", "--rows", "40"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 kills")
