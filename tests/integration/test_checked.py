"""What a model does exactly is tried once for the same files, libraries and processor, also by another process."""

import json
from pathlib import Path
from typing import Any

import pytest

from predgen.backbones import checked
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.loading import load_backbone
from predgen.backbones.remembered import FOLDER_VARIABLE
from predgen.backbones.sources import find_source
from tests.helpers.shapes import save_model, tiny_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(checked, "LARGE", 0)
    return tmp_path / "cache"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns the models that were tried."""
    found: list[Any] = []
    plain = DecoderOnlyBackbone.choose_path
    monkeypatch.setattr(DecoderOnlyBackbone, "choose_path", lambda self: (found.append(self), plain(self))[1])
    return found


def loaded(folder: Path, dtype: str = "float32", *, anew: bool = True) -> Any:
    if anew:  # as another process would
        checked._found.clear()
    return load_backbone(find_source(str(folder)), dtype=dtype)


def test_another_process_finds_what_this_one_found(llama: Path, tried: list[Any], own_cache: Path) -> None:
    first, second = loaded(llama), loaded(llama)
    assert len(tried) == 1
    assert second.capabilities == first.capabilities
    assert second.capabilities.cached
    assert (second.hidden_size, second.prompt_size) == (first.hidden_size, first.prompt_size)
    loaded(llama, "bfloat16")
    assert len(tried) == 2
    loaded(llama, "bfloat16", anew=False)
    (own_cache / checked.CHECKED_FILE).unlink()
    loaded(llama, "bfloat16", anew=False)
    assert len(tried) == 2  # this process knows it


@pytest.mark.parametrize("what", ["weights", "predgen", "check", "processor", "small"])
def test_it_is_tried_anew_where_something_is_not_the_same(
    what: str, llama: Path, tried: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(llama)
    if what == "weights":
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(llama)
        save_model(llama, tiny_model("llama", len(tokenizer), seed=5), tokenizer)
    elif what == "predgen":
        monkeypatch.setattr(checked, "__version__", "99")
    elif what == "check":
        monkeypatch.setattr(checked, "VERSION", 99)
    elif what == "processor":
        monkeypatch.setattr(checked, "processor_name", lambda: "another")
    else:
        monkeypatch.setattr(checked, "LARGE", 2**40)
    loaded(llama)
    assert len(tried) == 2


@pytest.mark.parametrize("damage", [{}, {"capabilities": {"cached": True}}, {"capabilities": {"no": 1}}, None, 3])
def test_a_damaged_entry_is_not_believed(damage: Any, llama: Path, tried: list[Any], own_cache: Path) -> None:
    first = loaded(llama)
    file = own_cache / checked.CHECKED_FILE
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), damage)))
    assert loaded(llama).capabilities == first.capabilities
    assert len(tried) == 2
