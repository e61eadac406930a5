"""Training the last layers alone: what is trained, what stays as it was, and what is refused."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen.adapters import apply_peft
from predgen.backbones.stacks import last_layers
from predgen.errors import BackboneError
from predgen.names import PEFT_METHODS
from tests.helpers.commands import refused
from tests.helpers.shapes import (
    NUMBER,
    VALUES,
    batch_for,
    byte_level_tokenizer,
    save_model,
    tiny_backbone,
    tiny_method,
    tiny_model,
)
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of
from tests.integration.test_peft_methods import SHAPES, backbone_of


@pytest.mark.parametrize("peft", sorted(set(PEFT_METHODS) - {"frozen"}))
@pytest.mark.parametrize("shape", SHAPES)
def test_only_the_last_layer_is_trained(shape: str, peft: str) -> None:
    method = tiny_method("predgen", backbone_of(shape), NUMBER)
    backbone = method.backbone
    last = last_layers(backbone.model, 1)
    assert len(last) == (2 if shape == "t5" else 1)
    whole = last_layers(backbone.model, None)
    assert len(whole) > len(last)
    apply_peft(backbone, peft, rank=2, writes=True, layers=1)
    trained = [name for name, one in backbone.named_parameters() if one.requires_grad]
    above = tuple(f".{name}." for name in last)
    # Rows of added tokens, and what an encoder writes with, are trained in every case.
    stray = [name for name in trained if not any(part in f".{name}" for part in above)]
    assert all("token_adapter" in name or not name.startswith("model.") for name in stray), stray
    assert len(trained) > len(stray)
    method.train()
    method(batch_for(method, prompts_of(backbone), VALUES["number"]))["loss"].backward()
    assert any(
        one.grad is not None and float(one.grad.norm()) > 0 for one in backbone.parameters() if one.requires_grad
    )


def test_the_lower_layers_keep_nothing_for_gradients() -> None:
    backbone = tiny_backbone("llama")
    apply_peft(backbone, "lora", rank=2, writes=True, layers=1)
    seen: list[bool] = []
    for layer in last_layers(backbone.model, None).values():
        layer.register_forward_hook(lambda module, inputs, output: seen.append(_first(output).requires_grad))
    tokens = torch.ones(1, 3, dtype=torch.long)
    backbone.model(input_ids=tokens)
    assert seen == [False] * (len(seen) - 1) + [True]


def _first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    base = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer)), tokenizer)
    settings: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
    model = predgen.fit(reviews(40), "stars", backbone=base, trained_layers=1, **settings)
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(15, seed=3)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    lower = [name for name, one in again.method.named_parameters() if "layers.0." in name and one.requires_grad]
    assert lower == []


def test_more_layers_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"trained_layers of at most 2, the layers of this model, found 3"):
        apply_peft(tiny_backbone("llama"), "lora", rank=2, writes=True, layers=3)
    table = tmp_path / "table.csv"
    reviews(30).to_csv(table, index=False)
    said = refused("fit", table, "--target", "mood", "--out", tmp_path / "out", "--set", "trained_layers=99")
    assert "Expected trained_layers of at most" in said
    assert not (tmp_path / "out").exists()
