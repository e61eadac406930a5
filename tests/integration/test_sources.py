"""Where a backbone's files are: folders, the hub's cache, the models of the package, and what identifies them."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from predgen.backbones import find_source, load_backbone
from predgen.backbones.sources import BUILTIN_MODELS
from predgen.errors import BackboneError, UnknownNameError


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
    with pytest.raises(UnknownNameError, match=r"Unknown built-in backbone.*Known: builtin:nano, builtin:nano@2"):
        find_source(name)


def test_a_builtin_is_small_and_its_card_is_of_its_version() -> None:
    for name, version in BUILTIN_MODELS.items():
        source = find_source(name)
        assert sum(path.stat().st_size for path in source.folder.iterdir()) <= 16 * 2**20
        weights = load_file(source.folder / "model.safetensors")
        assert {one.dtype for one in weights.values()} == {torch.bfloat16}
        card = (source.folder / "README.md").read_text(encoding="utf-8")
        assert card.startswith(f"# Model card: `{name}@{version}`")


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
