"""Every example in a docstring runs and shows what it says."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

import predgen

ROOT = Path(predgen.__file__).parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")}


# The docstrings come from the source: doctest's own search passes over functions that the shape checks have wrapped.
@pytest.mark.parametrize("module", SOURCES)
def test_examples_show_what_they_say(module: str) -> None:
    source = SOURCES[module].read_text(encoding="utf-8")
    written = sum(line.lstrip().startswith(">>>") for line in source.splitlines())
    names = vars(importlib.import_module(module))
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    said: list[str] = []
    for node in ast.walk(ast.parse(source)):
        docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if docstring:
            where = getattr(node, "name", module)
            runner.run(parser.get_doctest(docstring, dict(names), f"{module}.{where}", str(module), 0), out=said.append)
    assert runner.tries == written > 0, "an example stands outside of every docstring"
    assert runner.failures == 0, "".join(said)


def test_the_modules_that_have_examples() -> None:
    assert {
        "predgen.errors",
        "predgen.config.layers",
        "predgen.targets.number",
        "predgen.training.schedules",
        "predgen.report.tables",
    } <= set(SOURCES)
