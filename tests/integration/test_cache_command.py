"""`predgen cache` lists and clears what is kept of GGUF files, one process at a time makes an entry."""

import json
import multiprocessing
from pathlib import Path

import pytest

from predgen.backbones import find_source, load_backbone
from predgen.backbones.model_cache import MODELS, entries, kept
from predgen.backbones.remembered import FOLDER_VARIABLE, cache_folder
from predgen.errors import BackboneError
from tests.helpers.commands import refused, run
from tests.helpers.gguf_files import write_gguf


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))


def test_entries_are_listed_and_cleared(tmp_path: Path) -> None:
    assert "Kept: 0 of 0 entries" in run("cache").stdout
    write_gguf(tmp_path / "model.gguf", "qwen2", "Q8_0")
    load_backbone(find_source(str(tmp_path / "model.gguf")))
    done = run("cache", "--json", tmp_path / "cache.json")
    assert "Kept: 2 of 2 entries" in done.stdout
    listed = json.loads((tmp_path / "cache.json").read_text())
    assert [entry["holds"] for entry in listed] == ["weights in float32", "config and tokenizer"]
    assert all(entry["file"] == str(tmp_path / "model.gguf") and entry["bytes"] > 1000 for entry in listed)
    name = listed[0]["name"]
    assert f"Did you mean '{name}'" in refused("cache", "clear", name + "x")
    assert "Cleared: 1 of 2 entries" in run("cache", "clear", name).stdout
    assert [entry.folder.name for entry in entries()] == [listed[1]["name"]]
    assert "Cleared: 1 of 1 entries" in run("cache", "clear").stdout
    assert entries() == []
    assert "Did you mean 'clear'" in refused("cache", "cleer")


def _made_by_a_process(folder: str, log: str) -> None:
    def make(new: Path) -> None:
        with Path(log).open("a") as file:
            file.write("made\n")
        (new / "content").write_text("x" * 1000)

    assert (kept("entry", {"holds": "a test"}, make) / "content").read_text() == "x" * 1000


def test_one_process_makes_an_entry_and_the_others_take_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_made_by_a_process, args=(str(tmp_path), str(tmp_path / "log"))) for _ in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "made\n"


def test_what_fails_leaves_no_entry(tmp_path: Path) -> None:
    def fail(new: Path) -> None:
        (new / "half").write_text("half")
        raise BackboneError("no")

    with pytest.raises(BackboneError, match="no"):
        kept("entry", {}, fail)
    assert list((cache_folder() / MODELS).iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(BackboneError, match=r"set PREDGEN_CACHE to another folder"):
        kept("entry", {}, lambda new: None)
