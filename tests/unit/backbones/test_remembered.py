"""What the cache remembers: values that were measured once, and hashes of files that did not change."""

import hashlib
import os
from pathlib import Path

import pytest

from predgen.backbones import remembered
from predgen.backbones.remembered import FOLDER_VARIABLE, HASHES_FILE, LARGE, hash_of, recall, remember


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns the files whose bytes were read."""
    read: list[Path] = []
    plain = remembered.sha256_of
    monkeypatch.setattr(remembered, "sha256_of", lambda path: (read.append(path), plain(path))[1])
    return read


def file_of(folder: Path, byte: bytes, size: int = LARGE) -> Path:
    file = folder / "weights"
    file.write_bytes(byte * size)
    return file


def test_values_are_kept_beside_each_other_and_damage_is_nothing(own_cache: Path) -> None:
    assert recall("facts.json", "one") is None
    remember("facts.json", "one", 1.5)
    remember("facts.json", "two", {"three": [3]})
    assert (recall("facts.json", "one"), recall("facts.json", "two")) == (1.5, {"three": [3]})
    (own_cache / "facts.json").write_text("[1, 2")
    assert recall("facts.json", "one") is None
    remember("facts.json", "one", 2)
    assert recall("facts.json", "one") == 2


def test_a_cache_that_cannot_be_written_remembers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    remember("facts.json", "one", 1)
    assert recall("facts.json", "one") is None
    file = file_of(tmp_path, b"a")
    assert hash_of(file) == hashlib.sha256(b"a" * LARGE).hexdigest()


def test_a_large_file_is_read_once_until_it_changes(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -1.0)
    file = file_of(tmp_path, b"a")
    first = hashlib.sha256(b"a" * LARGE).hexdigest()
    assert [hash_of(file) for _ in range(3)] == [first] * 3
    assert len(hashed) == 1
    times = file.stat()
    file_of(tmp_path, b"b")  # as large, and its time is set back to what it was
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert hash_of(file) == hashlib.sha256(b"b" * LARGE).hexdigest()
    assert len(hashed) == 2


def test_a_file_that_was_changed_just_now_is_read_again(tmp_path: Path, hashed: list[Path]) -> None:
    file = file_of(tmp_path, b"a")
    assert hash_of(file) == hash_of(file)
    assert len(hashed) == 2
    assert recall(HASHES_FILE, str(file)) is None


def test_a_small_file_is_always_read(tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -1.0)
    file = file_of(tmp_path, b"a", LARGE - 1)
    assert hash_of(file) == hash_of(file)
    assert len(hashed) == 2


@pytest.mark.parametrize("damage", [{"stamp": 3}, {"sha256": "ab"}, None, "text"])
def test_a_damaged_entry_is_not_believed(
    damage: object, tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "SETTLED_SECONDS", -1.0)
    file = file_of(tmp_path, b"a")
    remember(HASHES_FILE, str(file.resolve()), damage)
    assert hash_of(file) == hashlib.sha256(b"a" * LARGE).hexdigest()
    assert len(hashed) == 1
