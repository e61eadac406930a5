"""Files and folders that appear whole or not at all, with the modes that they had, and never over another's work."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from predgen.errors import OutputExistsError
from predgen.files import alone_at, folder_appears_whole, put, write_text
from predgen.tables.saving import OUTPUT_SUFFIXES, TableWriter


@pytest.fixture
def closed_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def write_table(path: Path, *, overwrite: bool = False) -> None:
    with TableWriter(path, overwrite=overwrite) as writer:
        writer.write(pd.DataFrame({"text": ["private"]}))
        if path.suffix == ".parquet":  # the first rows are written once more
            writer.write(pd.DataFrame({"text": [1]}))


def test_the_text_is_written_as_utf8_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "text.md"
    write_text(str(path), "größer – 1\n2\n")
    assert path.read_bytes() == "größer – 1\n2\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "text", []
    path.write_text("old")
    replace = os.replace

    def watch(source: Path, target: Path) -> None:
        seen.append((Path(source).read_text(), Path(target).read_text(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_text(path, "new" * 100_000)
    assert seen == [("new" * 100_000, "old", tmp_path)]
    assert path.read_text() == "new" * 100_000
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        write_text(path, "half of this " * 1000 + "\ud800")

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot exchange two names in one step")
def test_a_folder_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()

    def never(*_: object) -> None:
        raise AssertionError("the folder was without its name for a moment")

    monkeypatch.setattr(os, "rename", never)
    with folder_appears_whole(path) as folder:
        (folder / "new").touch()
    assert [one.name for one in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    monkeypatch.setattr("predgen.files._exchange", lambda first, second: False)
    with folder_appears_whole(path) as folder:
        (folder / "new").touch()
    assert [one.name for one in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


# ---- modes


@pytest.mark.usefixtures("closed_umask")
def test_new_files_and_folders_follow_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "text.json", "private")
    assert mode_of(tmp_path / "text.json") == 0o600
    for suffix in OUTPUT_SUFFIXES:
        write_table(tmp_path / f"answers{suffix}")
        assert mode_of(tmp_path / f"answers{suffix}") == 0o600
    with folder_appears_whole(tmp_path / "model") as folder:
        write_text(folder / "part", "private")
    assert mode_of(tmp_path / "model") == 0o700
    assert mode_of(tmp_path / "model" / "part") == 0o600


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_what_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert (path.read_text(), mode_of(path)) == ("new", mode)
    for suffix in OUTPUT_SUFFIXES:
        table = tmp_path / f"answers{suffix}"
        table.write_text("old")
        table.chmod(mode)
        write_table(table, overwrite=True)
        assert mode_of(table) == mode
        assert table.read_bytes() != b"old"


def test_a_folder_that_is_replaced_keeps_its_modes(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "part").write_text("old")
    (path / "part").chmod(0o640)
    path.chmod(0o750)
    with folder_appears_whole(path) as folder:
        write_text(folder / "part", "new")
        write_text(folder / "more", "new")
    assert (mode_of(path), mode_of(path / "part"), mode_of(path / "more")) == (0o750, 0o640, 0o644)
    assert (path / "part").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


# ---- two writers of one name


@pytest.mark.parametrize("suffix", OUTPUT_SUFFIXES)
def test_the_second_of_two_tables_does_not_replace_the_first(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answers{suffix}"
    with pytest.raises(OutputExistsError, match="something came there meanwhile"), TableWriter(path) as second:
        second.write(pd.DataFrame({"text": ["second"]}))
        write_table(path)
        first = path.read_bytes()
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]
    with TableWriter(path, overwrite=True) as third:
        third.write(pd.DataFrame({"text": ["third"]}))
    assert path.read_bytes() != first


def test_the_second_of_two_folders_does_not_replace_the_first(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with (
        pytest.raises(OutputExistsError, match="something came there meanwhile"),
        folder_appears_whole(path, replace=False) as second,
    ):
        write_text(second / "part", "second")
        with folder_appears_whole(path, replace=False) as first:
            write_text(first / "part", "first")
    assert (path / "part").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_file_system_has_no_links_nothing_is_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    put(tmp_path / "first", tmp_path / "out", replace=False)
    with pytest.raises(OutputExistsError, match="something came there meanwhile"):
        put(tmp_path / "second", tmp_path / "out", replace=False)
    assert (tmp_path / "out").read_text() == "first"


# ---- names that are none, links, and others at work


def write_model(path: Path, text: str) -> None:
    with folder_appears_whole(path) as folder:
        (folder / "a.txt").write_text(text)


@pytest.mark.parametrize("name", [".", "../model", "inner/.."])
def test_a_folder_may_be_named_from_inside(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "model", "old")
    (tmp_path / "model" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    write_model(Path(name), "new")
    assert (tmp_path / "model" / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_link_stays_and_the_folder_behind_it_is_replaced(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "old")
    (tmp_path / "latest").symlink_to("model")
    write_model(tmp_path / "latest", "new")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "model" / "a.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "model"]


def test_the_second_at_the_same_folder_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with alone_at(out):
        with pytest.raises(OutputExistsError, match=r"work on '.*model', found that another process"), alone_at(out):
            pass
        with alone_at(tmp_path / "other"), alone_at(None):
            pass
    with alone_at(out):
        assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]
    assert not list(tmp_path.iterdir())
