"""The reference is made from the code and leaves nothing out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from scripts.docs.reference import commands, pages, write_pages

import predgen
from predgen import errors
from predgen.config import SECTIONS
from predgen.measures.kinds import MEASURES
from predgen.measures.metrics import RELATIVE_ERROR
from tests.helpers.pages import DOCS

PAGES = pages()


def entries(page: str, directive: str) -> list[str]:
    return re.findall(rf"^```\{{{directive}\}} (.*)$", PAGES[page], flags=re.MULTILINE)


def test_every_public_name_has_its_entry() -> None:
    text = PAGES["python.md"] + PAGES["errors.md"]
    shown = re.findall(r"^\.\. auto\w+:: predgen\.(\w+)$", text, flags=re.MULTILINE)
    assert sorted(shown) == sorted(set(predgen.__all__) - {"__version__"})
    assert all(getattr(predgen, name).__doc__ for name in shown)


def test_the_tree_of_errors_has_them_all() -> None:
    tree = PAGES["errors.md"].partition("```text\n")[2].partition("```")[0]
    every = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert sorted(re.findall(r"^ *(\w+)", tree, flags=re.MULTILINE)) == sorted(every)
    assert "    OutputExistsError (FileExistsError)\n" in tree
    assert "        DivergenceError (RuntimeError)\n" in tree


@pytest.mark.parametrize("name", commands())
def test_every_command_has_its_page_with_every_option(name: str) -> None:
    assert f"[`predgen {name}`](commands/{name}.md)" in PAGES["command-line.md"]
    command = commands()[name]
    shown = entries(f"commands/{name}.md", "option")
    options = [set(re.findall(r"(?<!\S)-[\w-]+", entry)) for entry in shown if entry.startswith("-")]
    expected = [{*param.opts, *param.secondary_opts} for param in command.params if param.param_type_name == "option"]
    assert sorted(map(sorted, options)) == sorted(map(sorted, [*expected, {"--help"}]))
    assert len(shown) - len(options) == sum(param.param_type_name == "argument" for param in command.params)
    assert f"predgen {name}" in PAGES[f"commands/{name}.md"]
    assert "[bold]" not in PAGES[f"commands/{name}.md"]


def test_every_setting_has_its_entry() -> None:
    settings = [name for section in SECTIONS.values() for name in section.model_fields]
    assert entries("settings.md", "confval") == settings
    for section in SECTIONS.values():
        assert all(field.description for field in section.model_fields.values())


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("seed", [":type: integer, at least 0, below 4294967296", ":default: `0`"]),
        ("warmup_fraction", [":type: number, at least 0, below 1", ":default: `0.06`"]),
        ("split", [":type: 3 numbers", ":default: `[0.8, 0.1, 0.1]`"]),
        ("gradient_checkpointing", [":type: true or false", ":default: `false`"]),
        ("target", [":type: list", ":default: none: it must be given"]),
        ("inputs", [":type: list", ":default: not given"]),
    ],
)
def test_a_setting_has_its_type_range_and_default(name: str, lines: list[str]) -> None:
    entry = PAGES["settings.md"].partition(f"```{{confval}} {name}\n")[2].partition("```\n")[0]
    assert entry.splitlines()[:2] == lines


def test_every_metric_is_explained() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    defined = [name for line in re.findall(r"^(`.*)\n: ", text, flags=re.MULTILINE) for name in line.split("`")[1::2]]
    known = {name for measure in MEASURES.values() for name in (*measure.NAMES, *measure.LOWER_IS_BETTER)}
    assert set(defined) == known | {RELATIVE_ERROR, "coverage", "answered_share", "risk_answered", "risk_all"}
    assert all(f"`{name}` ↓" in PAGES["metric-tables.inc"] for name in ("mse", "log_loss", "hamming_loss"))
    assert all(f"`{name}` ↑" in PAGES["metric-tables.inc"] for name in ("r2", "accuracy", "jaccard"))


@pytest.mark.slow
def test_every_key_of_an_artifact_is_explained(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"a text {number}", "number": number % 5} for number in range(20)]
    predgen.fit(rows, target="number", kind="number", out=tmp_path / "model", max_steps=1, quiet=True)
    explained = re.findall(r"^\| `([\w./]+)` \|", (DOCS / "reference" / "artifact.md").read_text("utf-8"), re.MULTILINE)
    keys = list(json.loads((tmp_path / "model" / "predgen.json").read_text(encoding="utf-8")))
    files = [f"{path.name}/" if path.is_dir() else path.name for path in (tmp_path / "model").iterdir()]
    assert sorted(explained) == sorted([*keys, *files])


def test_only_what_changed_is_written_and_old_pages_go(tmp_path: Path) -> None:
    write_pages(tmp_path)
    page, old = tmp_path / "settings.md", tmp_path / "commands" / "gone.md"
    old.write_text("a command that is no more", encoding="utf-8")
    before = page.stat().st_mtime_ns
    write_pages(tmp_path)
    assert page.stat().st_mtime_ns == before
    assert not old.exists()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(PAGES)
