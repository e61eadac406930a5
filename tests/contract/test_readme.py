"""The README: its Python runs, its commands run, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import predgen

ROOT = Path(predgen.__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What keeps a command of the README short here; the commands themselves are run as they stand.
SHORT = ["--set", "max_steps=2", "--max-train-rows", "40", "--max-eval-rows", "20"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"^[A-Z_]{5,}$", README, flags=re.MULTILINE) == []


def test_links_to_files_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_the_python_block_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prediction" in done.stdout
    assert "'mse'" in done.stdout
    assert (tmp_path / "stars-model" / "predgen.json").exists()


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(tmp_path: Path) -> None:
    (text,) = blocks("bash")
    commands = [shlex.split(line) for line in text.strip().splitlines()]
    assert {command[1] for command in commands} == {"demo", "inspect", "fit", "predict", "evaluate", "compare"}
    for command in commands:
        assert command[0] == "predgen"
        arguments = [*command[1:], *(SHORT if command[1] in ("fit", "compare") else [])]
        run = [sys.executable, "-c", "from predgen.cli import main; main()", *arguments]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout, command
    assert (tmp_path / "answers.csv").exists()
    assert (tmp_path / "result.json").exists()
