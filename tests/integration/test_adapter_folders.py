"""Folders of PEFT adapters are no backbones: each is refused with what can be done."""

import copy
import json
from pathlib import Path

import pytest
from peft import (
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)

from predgen.backbones import find_source, load_backbone
from predgen.errors import BackboneError
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model

# peft asks transformers 5.23 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Returns the folder of a tiny Llama."""
    tokenizer = byte_level_tokenizer()
    save_model(tmp_path / "base", tiny_model("llama", len(tokenizer)), tokenizer)
    return tmp_path / "base"


def save_adapter(folder: Path, base: Path, config: PeftConfig) -> None:
    model = tiny_model("llama", len(byte_level_tokenizer()))
    model.name_or_path = model.config._name_or_path = str(base)
    get_peft_model(model, copy.deepcopy(config)).save_pretrained(folder)  # peft writes the base's name into it


@pytest.mark.parametrize("beside_a_model", [False, True])
@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PROMPT_TUNING"),
        (PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "PREFIX_TUNING"),
        (PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=2, encoder_hidden_size=8), "P_TUNING"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_learned_prompts_are_refused(
    base: Path, tmp_path: Path, config: PeftConfig, kind: str, beside_a_model: bool
) -> None:
    folder = base if beside_a_model else tmp_path / "adapter"
    save_adapter(folder, base, config)
    assert (folder / "config.json").exists() is beside_a_model
    with pytest.raises(BackboneError, match=rf"found an adapter of the kind {kind} over '.*base'.* silently pass by"):
        find_source(str(folder))


def test_a_lora_is_to_be_merged_first(base: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", base, LoraConfig(target_modules="all-linear"))
    with pytest.raises(BackboneError, match=r"kind LORA over '.*base'\. Merge it first .*merge_and_unload\(\)"):
        find_source(str(tmp_path / "adapter"))

    merged = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").merge_and_unload()
    save_model(tmp_path / "merged", merged, byte_level_tokenizer())
    assert load_backbone(find_source(str(tmp_path / "merged"))).capabilities.cached


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"peft_type": "LORA"})])
def test_a_damaged_adapter_is_refused(base: Path, text: str) -> None:
    (base / "adapter_config.json").write_text(text)
    with pytest.raises(BackboneError, match=r"Expected a readable adapter_config\.json in .*found damage"):
        find_source(str(base))
