"""Frozen first layers read each prompt once: same losses and gradients as reading anew, nothing computed twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen import backbones
from predgen.adapters import apply_peft
from predgen.backbones.frozen_layers import KeptStates
from predgen.backbones.row_store import CHUNK_BYTES, RowStore
from predgen.config import build_config
from predgen.errors import ConfigError
from predgen.methods import Method
from predgen.training.fitting import fit_prepared, prepared_for
from tests.helpers.shapes import (
    LABEL,
    VALUES,
    batch_for,
    byte_level_tokenizer,
    checkpoint_activations,
    ragged_prompts,
    save_model,
    tiny_backbone,
    tiny_method,
    tiny_model,
)
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import new_backbone
from tests.integration.test_exact import correction

FAMILIES = ("llama", "gpt2", "qwen2", "mistral", "bloom", "gemma2", "mpt")
METHODS = ("predictor", "generator", "predgen", "correction")
LAYERS = 3


def backbone_of(family: str) -> Any:
    own_name = {"mpt": {"n_layers": LAYERS}, "bloom": {"n_layer": LAYERS}}.get(family, {})
    backbone = tiny_backbone(family, num_hidden_layers=LAYERS, **own_name)
    backbone.choose_path()
    return backbone


def method_of(name: str, family: str, *, peft: str = "lora", layers: int | None = 1) -> Method:
    backbone = backbone_of(family)
    apply_peft(backbone, peft, rank=2, writes=name != "predictor", layers=layers)
    torch.manual_seed(0)
    for weights in backbone.parameters():
        if weights.requires_grad:
            torch.nn.init.normal_(weights, std=0.3)  # updates of low rank begin as nothing
    method = correction(LABEL, backbone=backbone) if name == "correction" else tiny_method(name, backbone, LABEL)
    return method.train()


def kept(method: Method, num_frozen: int = LAYERS - 1, most_bytes: int = 2 * CHUNK_BYTES) -> KeptStates:
    states = KeptStates(RowStore(most_bytes))
    assert method.backbone.keep_frozen_states(states, num_frozen, writes=method.writes)
    return states


def losses_and_gradients(method: Method, prompts: list[list[int]], values: list[Any]) -> dict[str, torch.Tensor]:
    method.zero_grad()
    losses = method(batch_for(method, prompts, values))
    losses["loss"].backward()
    gradients = {name: one.grad for name, one in method.named_parameters() if one.grad is not None}
    return {name: one.detach() for name, one in (losses | gradients).items()}


@contextmanager
def runs_of(layer: torch.nn.Module) -> Iterator[list[int]]:
    """Counts the rows that a layer is asked for; a layer whose work is kept is not asked."""
    rows: list[int] = []
    inside = next(module for name, module in layer.named_modules() if "mlp" in name or "ffn" in name)
    handle = inside.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradients_are_those_of_reading_anew(name: str, family: str) -> None:
    method = method_of(name, family)
    prompts, values = ragged_prompts(200), VALUES["label"]
    expected = losses_and_gradients(method, prompts, values)
    others = losses_and_gradients(method, prompts[1:3], values[1:3])
    assert any("lora" in name for name in expected)
    kept(method)
    with runs_of(next(iter(method.backbone.layers.values()))) as rows:
        for _ in range(2):  # computed, then kept
            torch.testing.assert_close(losses_and_gradients(method, prompts, values), expected, rtol=1e-4, atol=1e-5)
        first = sum(rows[:1])
        assert first == len(prompts)
        # Rows of another batch, with another width, some of them new.
        torch.testing.assert_close(
            losses_and_gradients(method, prompts[1:3], values[1:3]), others, rtol=1e-4, atol=1e-5
        )
        mixed = [[5, 6, 7], *prompts[1:3]]
        found = losses_and_gradients(method, mixed, values[:3])
    method.backbone.keep_frozen_states(None)
    torch.testing.assert_close(found, losses_and_gradients(method, mixed, values[:3]), rtol=1e-4, atol=1e-5)
    if name == "predictor":  # nothing is written
        assert rows == [len(prompts), 1]


@pytest.mark.parametrize("name", ["predictor", "predgen", "correction"])
def test_of_a_frozen_backbone_all_layers_are_kept(name: str) -> None:
    method = method_of(name, "llama", peft="frozen", layers=None)
    prompts, values = ragged_prompts(200), VALUES["label"]
    expected = losses_and_gradients(method, prompts, values)
    kept(method, LAYERS)
    for _ in range(2):
        torch.testing.assert_close(losses_and_gradients(method, prompts, values), expected, rtol=1e-4, atol=1e-5)


def test_what_there_is_no_room_for_is_computed_each_time() -> None:
    method = method_of("predgen", "llama")
    prompts, values = ragged_prompts(200), VALUES["label"]
    expected = losses_and_gradients(method, prompts, values)
    states = kept(method, most_bytes=100)
    for _ in range(2):
        torch.testing.assert_close(losses_and_gradients(method, prompts, values), expected, rtol=1e-4, atol=1e-5)
    assert len(states.rows) == 0


def test_a_full_disk_keeps_nothing_more_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    method = method_of("generator", "llama")
    prompts, values = ragged_prompts(200), VALUES["label"]
    expected = losses_and_gradients(method, prompts, values)
    states = kept(method)
    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(2):
        torch.testing.assert_close(losses_and_gradients(method, prompts, values), expected, rtol=1e-4, atol=1e-5)
    assert len(states.rows) == 0
    assert [one.getMessage().count("No space left on device") for one in caplog.records] == [1]


def test_checkpointed_activations_read_anew() -> None:
    method = method_of("predgen", "llama")
    prompts, values = ragged_prompts(200), VALUES["label"]
    expected = losses_and_gradients(method, prompts, values)
    states = kept(method)
    checkpoint_activations(method.backbone.bare_model)
    torch.testing.assert_close(losses_and_gradients(method, prompts, values), expected, rtol=1e-4, atol=1e-5)
    assert len(states.rows) == 0


def test_where_it_is_not_exact_nothing_is_kept() -> None:
    states = KeptStates(RowStore(CHUNK_BYTES))
    assert not tiny_backbone("gpt2", resid_pdrop=0.1).keep_frozen_states(states, 1)
    assert not tiny_backbone("llama", attention_dropout=0.1).keep_frozen_states(states, 1)
    assert not tiny_backbone("llama", plain=True).keep_frozen_states(states, 1)
    assert not new_backbone("bert").keep_frozen_states(states, 1)
    assert tiny_backbone("llama").keep_frozen_states(states, 1)


def test_a_row_store_keeps_rows_of_any_length() -> None:
    store = RowStore(2 * CHUNK_BYTES)
    long = torch.arange(CHUNK_BYTES // 4 - 1, dtype=torch.float32)
    assert store.put(b"long", long)
    assert store.put(b"short", torch.tensor([1.0, 2.0]))
    assert not store.put(b"too long", torch.zeros(CHUNK_BYTES // 4, dtype=torch.float32))
    assert store.put(b"short", torch.tensor([9.0]))  # what is there stays
    assert (len(store), store.num_bytes) == (2, 2 * CHUNK_BYTES)
    assert torch.equal(store[b"long"], long)
    assert store[b"short"].tolist() == [1.0, 2.0]


def test_a_row_store_keeps_rows_of_several_types() -> None:
    store = RowStore(1000)
    rows = {b"half": torch.tensor([1.5, -2.0, 3.0]).bfloat16(), b"float": torch.randn(5), b"empty": torch.zeros(0)}
    assert all(store.put(key, row) for key, row in rows.items())
    for key, row in rows.items():
        assert store[key].dtype == row.dtype
        assert torch.equal(store[key], row)
    assert store.num_bytes == 1000  # a small store has a small file


# ---- runs


@pytest.fixture
def base(tmp_path: Path) -> str:
    tokenizer = byte_level_tokenizer()
    return save_model(tmp_path / "base", tiny_model("llama", len(tokenizer), num_hidden_layers=LAYERS), tokenizer)


QUICK: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "epochs": 2, "quiet": True, "device": "cpu"}


def test_a_comparison_reads_each_prompt_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    plain = backbones.frozen_layers.FrozenLayers._compute

    def counted(self: Any, tokens: Any, mask: Any, run: Any) -> Any:
        if len(self.kept.rows) or len(tokens) > 2:  # not the two rows of the check
            computed.append(len(tokens))
        return plain(self, tokens, mask, run)

    settings = {**QUICK, "backbone": base, "trained_layers": 1, "baselines": [], "seeds": 2}
    methods = ["generator", "predgen"]
    expected = predgen.compare(reviews(60), "mood", methods=methods, state_cache=0, **settings)
    monkeypatch.setattr(backbones.frozen_layers.FrozenLayers, "_compute", counted)
    found = predgen.compare(reviews(60), "mood", methods=methods, **settings)
    assert 0 < sum(computed) <= 60
    for name in methods:
        for one, other in zip(found.methods[name].scored, expected.methods[name].scored, strict=True):
            assert one.metrics() == pytest.approx(other.metrics(), rel=1e-4, abs=1e-5)


def test_all_that_is_kept_of_a_table_has_one_limit(base: str) -> None:
    config = build_config(
        {"data": "t.csv", "target": "mood", "backbone": base, "dtype": "float32", "trained_layers": 1}
    )
    prepared = prepared_for(config, reviews(40))
    for method in ("predictor", "generator", "predgen"):
        fit_prepared(config.changed(method=method, max_steps=1, device="cpu"), prepared, quiet=True)
    stores = [one.rows for one in prepared.frozen_states.values()]
    assert len(stores) == 2  # with keys and values, and without
    assert stores[0] is stores[1]
    assert len({one.owner for one in prepared.frozen_states.values()}) == 2
    assert len(stores[0]) > 32


@pytest.mark.parametrize("settings", [{"trained_layers": 1}, {"peft": "frozen"}])
def test_fit_save_load_predict_is_equal_to_the_bit(base: str, tmp_path: Path, settings: dict[str, Any]) -> None:
    model = predgen.fit(reviews(40), "stars", backbone=base, **settings, **QUICK)
    assert model.method.backbone.frozen_layers is None
    model.save(tmp_path / "model")
    rows = reviews(15, seed=3)
    again = predgen.load(tmp_path / "model", device="cpu")
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    plain = predgen.fit(reviews(40), "stars", backbone=base, state_cache=0, **settings, **QUICK)
    pd.testing.assert_frame_equal(model.predict(rows), plain.predict(rows), rtol=1e-3)


def test_a_generator_over_a_frozen_backbone_has_nothing_to_train(base: str) -> None:
    with pytest.raises(ConfigError, match="Expected something to train, found --peft frozen with --method generator"):
        predgen.fit(reviews(40), "mood", backbone=base, peft="frozen", method="generator", **QUICK)
