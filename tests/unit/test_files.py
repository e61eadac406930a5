"""Text files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from predgen.files import write_text


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
