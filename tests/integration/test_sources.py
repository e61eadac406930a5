"""Where a backbone's files are: folders, the hub's cache, the models of the package, and what identifies them."""

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from predgen.backbones import find_source, load_backbone
from predgen.backbones.packaged import PACKAGED_MODELS, PackagedModel
from predgen.backbones.remembered import FOLDER_VARIABLE
from predgen.backbones.sources import BUILTIN_MODELS, INSIDE
from predgen.errors import BackboneError, MissingPackageError, UnknownNameError
from tests.helpers.gguf_files import write_gguf


def test_a_folder_is_found_from_everywhere(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(llama.parent)
    source = find_source(llama.name)
    monkeypatch.chdir("/")
    assert find_source(source.name).content_hash() == source.content_hash()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/no-such-model", "a hub id that can be had, found 'someone/no-such-model'.*builtin:nano"),
        ("./no/such/folder", "a local folder, a hub id .*found './no/such/folder'"),
        ("not a name!", "a local folder, a hub id .*found 'not a name!'"),
    ],
)
def test_what_is_neither_here_nor_on_the_hub_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(BackboneError, match=message):
        find_source(name)
    assert time.monotonic() - start < 5, "offline, it must not wait for the network"


def test_a_hub_model_in_the_local_cache_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(llama, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for revision in (None, commit):
        source = find_source("someone/tiny", revision)
        assert source.revision == commit
        assert source.name == "someone/tiny"
        assert source.content_hash() == find_source(str(llama)).content_hash()
        assert load_backbone(source).hidden_size == 16


@pytest.mark.parametrize("name", ["builtin:nanoo", "builtin:", "builtin:../nano", "builtin:nano@", "builtin:nano@x"])
def test_an_unknown_builtin_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown built-in backbone.*Known: builtin:nano, .*builtin:nano@2"):
        find_source(name)


def test_the_model_inside_is_small_and_its_card_is_of_its_version() -> None:
    source = find_source(INSIDE)
    assert sum(path.stat().st_size for path in source.folder.iterdir()) <= 16 * 2**20
    weights = load_file(source.folder / "model.safetensors")
    assert {one.dtype for one in weights.values()} == {torch.bfloat16}
    card = (source.folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"# Model card: `{INSIDE}@{BUILTIN_MODELS[INSIDE]}`")


@pytest.mark.parametrize("name", ["builtin:nano@1", "builtin:nano@3"])
def test_another_version_of_a_builtin_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match=rf"Expected builtin:nano@2, the version that comes .* found {name}\. Use"):
        find_source(name)


# ---- what identifies a model


def test_the_hash_follows_weights_config_and_tokenizer_and_nothing_else(llama: Path, tmp_path: Path) -> None:
    usual = find_source(str(llama)).content_hash()
    copy = shutil.copytree(llama, tmp_path / "elsewhere")
    (copy / "README.md").write_text("something else")
    assert find_source(str(copy)).content_hash() == usual

    weights = load_file(copy / "model.safetensors")
    weights["lm_head.weight"][3, 5] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    changed = {find_source(str(copy)).content_hash()}
    for name in ("config.json", "tokenizer.json"):
        shutil.copytree(llama, copy, dirs_exist_ok=True)
        assert find_source(str(copy)).content_hash() == usual
        content = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**content, "added": 1}))
        changed.add(find_source(str(copy)).content_hash())
        (copy / name).write_bytes((llama / name).read_bytes())
    assert len(changed | {usual}) == 4


# ---- models in packages


def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, sha256: str | None = None) -> str:
    """Makes a tiny GGUF file look like one that lies in packages, in one part or in several; returns its name."""
    content = write_gguf_bytes(tmp_path)
    files = []
    for part in range(parts):
        name = f"toy-part{part}"
        folder = tmp_path / "site" / f"toy_part{part}"
        folder.mkdir(parents=True)
        size = -(-len(content) // parts)
        (folder / "model.gguf").write_bytes(content[part * size : (part + 1) * size])
        info = tmp_path / "site" / f"toy_part{part}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        files.append((name, f"toy_part{part}/model.gguf"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = sha256 or hashlib.sha256(content).hexdigest()
    model = PackagedModel(tuple(files), found, "pip install toy", "Free.", hub="toys/toy", license="mit")
    monkeypatch.setitem(PACKAGED_MODELS, "builtin:toy", model)
    monkeypatch.setitem(BUILTIN_MODELS, "builtin:toy", 1)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return "builtin:toy"


def write_gguf_bytes(tmp_path: Path) -> bytes:
    write_gguf(tmp_path / "toy.gguf", "qwen2", "Q8_0")
    return (tmp_path / "toy.gguf").read_bytes()


@pytest.mark.parametrize("parts", [1, 3])
def test_a_model_in_packages_is_found_by_its_files(parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = packaged(tmp_path, monkeypatch, parts)
    source = find_source(name)
    assert source.name == f"{name}@1"
    assert source.content_hash() == find_source(str(tmp_path / "toy.gguf")).content_hash()
    assert load_backbone(source).hidden_size == 256
    assert "toy_part0" not in sys.modules  # found, not imported


def test_a_model_in_packages_that_is_not_there_has_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = packaged(tmp_path, monkeypatch, 2)
    shutil.rmtree(tmp_path / "site" / "toy_part1-1.0.dist-info")
    with pytest.raises(MissingPackageError, match=r"found 1 of 2 installed.*pip install toy. Free\."):
        find_source(name)


@pytest.mark.parametrize("parts", [1, 2])
def test_another_file_in_a_package_is_refused(parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = packaged(tmp_path, monkeypatch, parts, sha256="0" * 64)
    with pytest.raises(BackboneError, match="SHA-256 0000"):
        find_source(name)
