"""Folders of work: nothing of anybody else's is replaced, what is finished is not made again."""

from pathlib import Path
from typing import Any

import pytest

from predgen.config import build_config
from predgen.errors import ConfigError, OutputExistsError
from predgen.training.runs import Finished, begin, check_rows, check_settings, unfinished_folder

CONFIG = build_config({"data": "a.csv", "target": "stars"})


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("what", ["file", "folder", "folder with a config"])
def test_what_was_not_begun_here_is_never_replaced(tmp_path: Path, what: str, overwrite: bool) -> None:
    place = tmp_path / "mine"
    if what == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / ("config.yaml" if "config" in what else "thesis.txt")).write_text("mine")
    with pytest.raises(OutputExistsError, match=r"an unfinished run or nothing at .*, found something else"):
        check_settings(place, CONFIG, overwrite=overwrite, resume=False)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_an_empty_folder_and_no_folder_are_places_to_begin(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "deep/er"):
        check_settings(tmp_path / name, CONFIG, overwrite=False, resume=False)
        begin(tmp_path / name, CONFIG, "abc")
        check_settings(tmp_path / name, CONFIG, overwrite=False, resume=True)
        check_rows(tmp_path / name, "abc")
        with pytest.raises(ConfigError, match="Expected the rows"):
            check_rows(tmp_path / name, "abd")
        with pytest.raises(OutputExistsError, match="Use --resume to go on with it"):
            check_settings(tmp_path / name, CONFIG, overwrite=False, resume=False)
        check_settings(tmp_path / name, CONFIG, overwrite=True, resume=False)


def test_finished_figures_are_made_once_and_failed_ones_leave_no_file(tmp_path: Path) -> None:
    finished = Finished(tmp_path)
    calls: list[Any] = []

    def make(folder: Path | None) -> dict[str, Any]:
        calls.append(folder)
        assert folder is not None
        folder.mkdir(exist_ok=True)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return {"x": 0.1 + 0.2, "none": None}

    with pytest.raises(KeyboardInterrupt):
        finished.figures("one", make)
    assert [path.name for path in tmp_path.iterdir()] == ["one.unfinished"]  # what the next call goes on from
    for _ in range(2):
        assert finished.figures("one", make) == {"x": 0.1 + 0.2, "none": None}
    assert calls == [unfinished_folder(tmp_path / "one")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]
    assert Finished(None).figures("one", lambda folder: {"folder": folder}) == {"folder": None}
