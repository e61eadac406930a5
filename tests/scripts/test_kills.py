"""Commands that are killed at random moments end as those that were never stopped."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_twenty_kills_change_nothing() -> None:
    """In a process of its own, which forks: this one may have threads."""
    command = [sys.executable, "-m", "scripts.checks.kill_and_resume", "--kills", "20", "--rows", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "20 kills"
