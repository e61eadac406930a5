"""The code's form is as CONTRIBUTING.md says."""

import pytest
from scripts.checks import house


def test_every_count_is_within_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    assert house.main([]) == 0, capsys.readouterr().out


def test_the_counts_find_what_they_count() -> None:
    # The folders that answer questions of kind are where such questions stand.
    assert any("targets/" in place for place in house.questions_of_kind(rooms=()))
    assert house.long_functions()[0][0] > 40
    assert [count.number for count in house.counts() if count.what == "floors of imports"] == [house.floors()]
