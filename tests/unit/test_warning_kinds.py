"""Warnings: one tree, given at the caller's line, and once in work of many fits."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import predgen
from predgen import warning_kinds
from predgen.warning_kinds import CutPromptsWarning, LeakWarning, each_once, warn
from tests.helpers.warned import all_warnings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "warnings.md"
KINDS = [
    name
    for name, value in vars(warning_kinds).items()
    if isinstance(value, type) and issubclass(value, Warning) and value is not warning_kinds.PredGenWarning
]


def test_every_warning_is_public_and_of_one_tree() -> None:
    assert len(KINDS) > 15
    assert set(KINDS) <= set(predgen.__all__)
    assert all(issubclass(getattr(predgen, name), predgen.PredGenWarning) for name in KINDS)
    assert issubclass(predgen.PredGenWarning, UserWarning)
    assert not issubclass(predgen.PredGenWarning, predgen.PredGenError)


def test_every_warning_is_in_the_table_of_the_docs_in_the_order_of_the_module() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == KINDS
    assert all(cell.strip() for row in rows for cell in row.split("|")[1:4])


# The hook that checks shapes in tests stands between a package and its callers, so this runs without it.
CALLER = """
import warnings
from predgen.tables.reading import read_table

for _ in range(3):
    read_table("rows.csv")  # the line
    with warnings.catch_warnings():  # what makes Python forget what it has shown
        pass
read_table("rows.csv")  # another line
"""


def test_a_warning_names_the_line_of_the_caller_and_is_shown_once_for_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('text,y\n"half open,yes\nplain,no\nclosed",yes\n', encoding="utf-8")
    (tmp_path / "caller.py").write_text(CALLER, encoding="utf-8")
    for filters, places in ([], [6, 9]), (["-W", "always"], [6, 6, 6, 9]), (["-W", "ignore"], []):
        command = [sys.executable, *filters, "caller.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        shown = re.findall(r"caller\.py:(\d+): OpenQuoteWarning: Row 1 of", done.stderr)
        assert [int(line) for line in shown] == places, done.stderr


def test_without_each_once_a_warning_is_given_as_often_as_python_lets_it() -> None:
    with all_warnings() as found:
        for _ in range(3):
            warn(LeakWarning("a column"))
    assert len(found) == 3


def test_work_of_many_fits_gives_each_warning_once() -> None:
    with all_warnings() as found, each_once():
        for number in range(3):
            warn(LeakWarning("a column"))
            warn(LeakWarning(f"column {number}"))
            warn(CutPromptsWarning(f"{number} of 9 were cut"), about=("training", 9))
            with each_once():  # inside of other such work nothing begins anew
                warn(LeakWarning("a column"))
                warn(CutPromptsWarning("all were cut"), about=("validation", 9))
    assert [str(one) for one in found] == [
        *("a column", "column 0", "0 of 9 were cut", "all were cut", "column 1", "column 2"),
    ]
    with all_warnings() as found:  # what is said in one such work is said in the next one too
        for _ in range(2):
            with each_once():
                warn(LeakWarning("a column"))
    assert len(found) == 2


def test_each_once_ends_with_an_error() -> None:
    with pytest.raises(KeyError), each_once():
        raise KeyError
    with all_warnings() as found:
        warn(LeakWarning("a"))
        warn(LeakWarning("a"))
    assert len(found) == 2


def test_filters_silence_one_kind_and_make_errors() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", predgen.LeakWarning)
        warn(LeakWarning("a"))
        warn(CutPromptsWarning("b"))
    assert [str(one.message) for one in caught] == ["b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", predgen.PredGenWarning)
        with pytest.raises(predgen.LeakWarning, match=r"^a$"):
            warn(LeakWarning("a"))
