"""How a backbone is loaded and trained: types, devices, few bits, checkpointing, chat templates, own code."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file

import predgen
from predgen.backbones import find_source, load_backbone, loading
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model
from tests.helpers.tables import reviews

pytestmark = pytest.mark.slow  # together they take more than a few seconds

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
# Matrices of 4 bits want sizes that blocks divide.
WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
CHAT = (
    "{% for message in messages %}<|user|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def predicts_again(model: predgen.Model, folder: Path, **options: Any) -> predgen.Model:
    """Saves and loads a model, whose answers stay the same to the bit, and returns what was loaded."""
    rows = reviews(25, seed=9)
    model.save(folder)
    again = predgen.load(folder, device="cpu", **options)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    return again


# ---- types and devices


def test_the_type_of_the_saved_weights_is_taken_where_it_is_asked_for(llama: Path) -> None:
    tokenizer = byte_level_tokenizer()
    save_model(llama.parent / "half", tiny_model("llama", len(tokenizer)).to(torch.bfloat16), tokenizer)
    for folder, dtype in ((llama, torch.float32), (llama.parent / "half", torch.bfloat16)):
        backbone = load_backbone(find_source(str(folder)), dtype="auto")
        assert next(backbone.parameters()).dtype == dtype


def test_layers_stay_where_a_device_map_put_them(llama: Path, tmp_path: Path) -> None:
    backbone = load_backbone(find_source(str(llama)), device_map="auto")
    assert backbone.is_placed
    before = next(backbone.model.parameters()).data_ptr()
    assert next(backbone.to(torch.float64).model.parameters()).dtype == torch.float32
    assert next(backbone.model.parameters()).data_ptr() == before
    assert not load_backbone(find_source(str(llama))).is_placed
    model = predgen.fit(reviews(40), "stars", backbone=str(llama), device_map="auto", **SMALL)
    assert not predicts_again(model, tmp_path / "model").method.backbone.is_placed  # a device was named
    assert predgen.load(tmp_path / "model").method.backbone.is_placed
    usual = predgen.fit(reviews(40), "stars", backbone=str(llama), **SMALL)
    pd.testing.assert_frame_equal(usual.predict(reviews(25)), model.predict(reviews(25)), check_exact=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "a device map among auto, balanced.*found 'nonsense'"),
        ("cuda:7", "that this machine has for device_"),
    ],
)
def test_a_device_map_that_cannot_be_is_no_damage(llama: Path, name: str, message: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(predgen.ConfigError, match=message):
        predgen.fit(reviews(40), "stars", backbone=str(llama), device_map=name, **SMALL)


# ---- few bits


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_frozen_model_of_few_bits_is_fitted_with_lora(tmp_path: Path, bits: str) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra predgen[quantized] is not installed")
    tokenizer = byte_level_tokenizer()
    name = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer), std=0.1, **WIDE), tokenizer)
    backbone = load_backbone(find_source(name), quantization=bits)  # type: ignore[arg-type]
    assert backbone.is_quantized
    assert backbone.is_placed
    layer = backbone.model.model.layers[0].mlp.up_proj
    assert type(layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[bits]
    settings = {**SMALL, "method": "predgen", "peft": "lora"}
    model = predgen.fit(reviews(40), "stars", backbone=name, quantization=bits, **settings)
    again = predicts_again(model, tmp_path / "model")
    assert type(again.method.backbone.bare_model.model.layers[0].mlp.up_proj).__name__ != "Linear"  # type: ignore[attr-defined]
    saved = load_file(tmp_path / "model" / "weights.safetensors")
    assert all("lora_" in key or not key.startswith("backbone.") for key in saved)


def test_few_bits_are_refused_where_they_cannot_be(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(predgen.ConfigError, match=r"rocoft or frozen with quantization '4bit'.*found 'none'"):
        predgen.fit(reviews(40), "stars", backbone=str(llama), quantization="4bit", peft="none", **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "find_spec", lambda name: name)

        def fails(*_: object, **__: object) -> None:
            raise RuntimeError("no kernel for this machine")

        patch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fails)
        with pytest.raises(predgen.ConfigError, match=r"run with 8bit weights, found that they do not .*no kernel"):
            predgen.fit(reviews(40), "stars", backbone=str(llama), quantization="8bit", peft="lora", **SMALL)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(predgen.ConfigError, match=r"bitsandbytes for quantization '8bit', found none.*\[quantized\]"):
        predgen.fit(reviews(40), "stars", backbone=str(llama), quantization="8bit", peft="lora", **SMALL)


# ---- checkpointed activations


@pytest.mark.parametrize("peft", ["none", "lora"])
@pytest.mark.parametrize("method", ["predictor", "generator", "predgen"])
def test_checkpointed_activations_change_no_more_than_rounding(llama: Path, method: str, peft: str) -> None:
    rows = reviews(25, seed=9)
    settings = {**SMALL, "backbone": str(llama), "method": method, "peft": peft}
    usual = predgen.fit(reviews(40), "stars", **settings)
    recomputed = predgen.fit(reviews(40), "stars", gradient_checkpointing=True, **settings)
    parts = recomputed.method.backbone.model.modules()
    assert any(getattr(part, "gradient_checkpointing", False) for part in parts)
    found, expected = (model.predict(rows)["prediction"].to_numpy(dtype=float) for model in (recomputed, usual))
    assert abs(found - expected).max() < 1e-3
    assert recomputed.record["history"][0]["loss"] == pytest.approx(usual.record["history"][0]["loss"], rel=1e-4)


def test_a_model_that_cannot_checkpoint_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model("llama", len(tokenizer))
    backbone = load_backbone(find_source(save_model(tmp_path / "base", model, tokenizer)))
    backbone.model.supports_gradient_checkpointing = False
    with pytest.raises(predgen.BackboneError, match=r"can checkpoint its activations, found LlamaForCausalLM"):
        backbone.checkpoint_activations()


# ---- chat templates


def test_a_prompt_is_wrapped_as_a_users_message(llama: Path, tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT
    name = save_model(tmp_path / "chat", tiny_model("llama", len(tokenizer)), tokenizer)
    backbone = load_backbone(find_source(name), chat_template=True)
    (ids, spans), *_ = backbone.tokenize_prompts(["a good film"])
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a good film"}], add_generation_prompt=True, return_dict=True
    )
    assert ids == expected["input_ids"]
    assert tokenizer.eos_token_id in ids  # a special token of the template is one token, not its letters
    assert len(spans) == len(tokenizer("a good film")["input_ids"])
    model = predgen.fit(reviews(40), "stars", backbone=name, chat_template=True, max_prompt_tokens=40, **SMALL)
    again = predicts_again(model, tmp_path / "model")
    long = again.predict(reviews(2).assign(review="a very good film " * 40))  # cut inside the message
    assert not long["invalid"].any()
    with pytest.raises(predgen.BackboneError, match=r"an instruct model with a chat template, found a tokenizer with"):
        load_backbone(find_source(str(llama)), chat_template=True)


def test_a_models_answers_do_not_follow_its_bases_chat_template(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = CHAT
    name = save_model(tmp_path / "chat", tiny_model("llama", len(tokenizer)), tokenizer)
    model = predgen.fit(reviews(40), "stars", backbone=name, chat_template=True, **SMALL)
    model.save(tmp_path / "model")
    before = model.predict(reviews(9))
    for change in (lambda file: file.write_text(CHAT.replace("user", "somebody")), lambda file: file.unlink()):
        change(tmp_path / "chat" / "chat_template.jinja")
        pd.testing.assert_frame_equal(
            predgen.load(tmp_path / "model", device="cpu").predict(reviews(9)), before, check_exact=True
        )
    (ids, _), *_ = model.method.backbone.tokenize_prompts(["a</s>b"])
    assert ids.count(tokenizer.eos_token_id) == 1  # that of the template: no text closes the user's turn


def test_a_template_that_hides_the_message_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = "<|user|>hello</s>"
    name = save_model(tmp_path / "chat", tiny_model("llama", len(tokenizer)), tokenizer)
    with pytest.raises(predgen.BackboneError, match="shows a message once, found it 0 times"):
        load_backbone(find_source(name), chat_template=True)


# ---- code of a repository

OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own(llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder whose model is defined by code of its own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(llama.parent / "modules"))
    (llama / "modeling_own.py").write_text(OWN_CODE)
    config = json.loads((llama / "config.json").read_text())
    config["model_type"] = "own-llama"
    config["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    (llama / "config.json").write_text(json.dumps(config))
    return llama


def test_code_of_a_repository_runs_only_where_it_is_asked_for(own: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "backbone": str(own), "method": "generator"}
    with pytest.raises(predgen.BackboneError, match=r"code of its own in .*--set trust_remote_code=true"):
        predgen.fit(reviews(40), "stars", **settings)
    model = predgen.fit(reviews(40), "stars", trust_remote_code=True, **settings)
    assert type(model.method.backbone.bare_model).__name__ == "OwnModel"  # type: ignore[attr-defined]
    predicts_again(model, tmp_path / "model", trust_remote_code=True)
    assert not list((tmp_path / "model").rglob("*.py"))
    with pytest.raises(predgen.ArtifactError, match=r"leave to run the code of the base model .*--trust-remote-code"):
        predgen.load(tmp_path / "model")
    # A tokenizer's own class is saved as the plain one that its tokenizer.json is.
    tokenizer_config = own / "tokenizer_config.json"
    settings_of = json.loads(tokenizer_config.read_text()) | {"auto_map": {"AutoTokenizer": [None, "tokens_own.Own"]}}
    (own / "tokens_own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\n\n\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    tokenizer_config.write_text(json.dumps(settings_of | {"tokenizer_class": "Own"}))
    again = predgen.fit(reviews(40), "stars", trust_remote_code=True, **settings)
    assert type(again.method.backbone.tokenizer).__name__ == "Own"
    predicts_again(again, tmp_path / "tokens", trust_remote_code=True)
    assert not list((tmp_path / "tokens").rglob("*.py"))
    # Other code is another model.
    (own / "modeling_own.py").write_text(OWN_CODE + "\n# changed\n")
    with pytest.raises(predgen.ArtifactError, match="with the hash"):
        predgen.load(tmp_path / "model", trust_remote_code=True)
