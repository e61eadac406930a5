"""Runs that are killed at random moments end as the run that was never stopped."""

import pytest
from scripts.checks import kill_and_resume


@pytest.mark.slow
def test_three_kills_change_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kill_and_resume.main(["--kills", "3", "--rows", "40"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 kills")
