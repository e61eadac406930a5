"""The code's form is as CONTRIBUTING.md says."""

import ast

import pytest
from scripts.checks import house


def test_every_count_is_within_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert house.main([]) == 0, capsys.readouterr().out


def test_the_counts_find_what_they_count() -> None:
    asking = "if isinstance(target, Number | Label) or isinstance(target, int) or isinstance(x, LabelSet): pass"
    assert len(house.questions_in(ast.parse(asking))) == 2
    assert house.long_functions()[0][0] > 40
    assert [count.number for count in house.counts() if count.what == "floors of imports"] == [house.floors()]
