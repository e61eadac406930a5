"""Every family of decoder-only models: the road that it takes, and that it is exact, from a folder to a fitted model.

The references run one unpadded row at a time through the Hugging Face model itself. Prompts, targets and trees are
longer than any window, and every row is written over three times, with padding in its middle.
"""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, CpmAntConfig, XLNetConfig

import predgen
from predgen.backbones import Backbone, Memory, find_source, load_backbone
from predgen.backbones.base import TreeWritten
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.errors import BackboneError
from tests.helpers.shapes import (
    byte_level_tokenizer,
    count_forwards,
    ragged_prompts,
    relative_difference,
    run_alone,
    save_model,
    tiny_model,
    with_vocabulary,
)
from tests.helpers.tables import reviews

pytestmark = pytest.mark.slow  # together they take more than a few seconds

WINDOW = 4
PROMPT_LENGTHS = (20, 2, 9, 13, 5)
# The columns that each write adds, and how many of them are tokens in each row.
WRITES = ((3, 1, 2, 0, 1), (1, 2, 0, 2, 2), (2, 0, 4, 1, 3))
TOLERANCE = 5e-5


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Attributes:
        kind: the config's `model_type`.
        road: that is taken.
        trees: whether a tree is one forward under a mask, or its branches are rows.
        changes: settings of its config.
        more_rows: of the embeddings than the tokenizer has tokens.
        tied: whether the output matrix is that of the embeddings.
        std: of its weights.
        name: in the test's name, where the kind is not enough.
    """

    kind: str
    road: Literal["cached", "plain"] = "cached"
    trees: Literal["masked", "rows"] = "masked"
    changes: dict[str, Any] = field(default_factory=dict)
    more_rows: int = 0
    tied: bool = False
    std: float = 0.5
    name: str = ""


GROUPED: dict[str, Any] = {"num_key_value_heads": 1}
SLIDING: dict[str, Any] = {**GROUPED, "sliding_window": WINDOW}
MIXED: dict[str, Any] = {**SLIDING, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
NO_DROPOUT = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
EXPERTS = {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
CHUNKED = {
    **GROUPED,
    "layer_types": ["chunked_attention", "full_attention"],
    "attention_chunk_size": WINDOW,
    "no_rope_layers": [1, 0],
    "intermediate_size_mlp": 32,
    "num_local_experts": 2,
    "head_dim": 8,
}

FAMILIES = [
    Family("llama", changes=GROUPED, more_rows=11),
    Family("mistral", changes=SLIDING, tied=True),
    Family("qwen2", changes=GROUPED, tied=True),
    Family(
        "qwen2",
        changes={**SLIDING, "use_sliding_window": True, "max_window_layers": 1},
        more_rows=3,
        name="qwen2-windows",
    ),
    Family("qwen3", changes={**GROUPED, "head_dim": 8}, more_rows=5, tied=True),
    Family("gemma", changes={**GROUPED, "head_dim": 8}, tied=True),
    Family("gemma2", changes=MIXED, more_rows=7, tied=True),
    Family("gemma3_text", changes=MIXED, tied=True),
    Family("phi", more_rows=2),
    Family("phi3", changes=SLIDING),
    Family("gpt2", changes=NO_DROPOUT, more_rows=9, tied=True),
    Family("gpt_neox"),
    Family("olmo2", changes=GROUPED, more_rows=1),
    Family("olmo3", changes=MIXED),
    Family("opt", changes={"ffn_dim": 32, "word_embed_proj_dim": 16}, more_rows=6, tied=True),
    Family(
        "opt",
        changes={"ffn_dim": 32, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        tied=True,
        name="opt-projected",
    ),
    Family("falcon", changes={"alibi": False}, tied=True),
    Family("falcon", trees="rows", changes={"alibi": True}, more_rows=4, name="falcon-alibi"),
    Family("stablelm", changes=GROUPED),
    Family("smollm3", changes={**GROUPED, "no_rope_layers": [1, 0]}, more_rows=8, tied=True),
    Family("cohere", changes=GROUPED, tied=True),
    Family("cohere2", changes=MIXED, more_rows=3, tied=True),
    Family("granite", changes={**GROUPED, "logits_scaling": 4.0}, more_rows=2),
    Family("mixtral", changes={**SLIDING, "num_local_experts": 2}),
    Family("gptj", changes={**NO_DROPOUT, "rotary_dim": 4}, more_rows=5),
    Family("codegen", changes={**NO_DROPOUT, "rotary_dim": 4, "num_attention_heads": 4}),
    Family("gpt_bigcode", changes=NO_DROPOUT, more_rows=1, tied=True),
    Family("starcoder2", changes={**SLIDING, "residual_dropout": 0.0, "embedding_dropout": 0.0}),
    Family("bloom", trees="rows", changes={"n_layer": 2, "n_head": 2}, more_rows=10, tied=True),
    Family("mpt", trees="rows", changes={"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": 96}, tied=True),
    Family(
        "gpt_neo",
        trees="rows",
        changes={
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "num_layers": 2,
            "num_heads": 2,
            "embed_dropout": 0.0,
            "resid_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        more_rows=2,
        tied=True,
    ),
    Family("gpt_oss", changes={**MIXED, "num_local_experts": 2, "num_experts_per_tok": 2}),
    Family(
        "modernbert-decoder",
        changes={
            "local_attention": 2 * WINDOW,
            "global_attn_every_n_layers": 2,
            **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "cls", "sep")},
        },
        more_rows=4,
        tied=True,
    ),
    Family("mamba", road="plain", trees="rows", changes={"state_size": 4}, more_rows=3, std=0.1),
    Family(
        "mamba2",
        road="plain",
        trees="rows",
        changes={"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
        tied=True,
        std=0.1,
    ),
    Family("rwkv", road="plain", trees="rows", changes={"attention_hidden_size": 16, "rescale_every": 1}, more_rows=2),
    Family(
        "recurrent_gemma",
        road="plain",
        trees="rows",
        changes={
            **GROUPED,
            "block_types": ["recurrent", "attention"],
            "lru_width": 16,
            "attention_window_size": WINDOW,
            "head_dim": 8,
        },
        tied=True,
        std=0.3,
    ),
    Family(
        "lfm2",
        road="plain",
        trees="rows",
        changes={**GROUPED, "layer_types": ["conv", "full_attention"]},
        more_rows=6,
        tied=True,
    ),
    Family(
        "qwen3_next",
        road="plain",
        trees="rows",
        changes={**GROUPED, **DELTA, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8},
    ),
    Family(
        "deepseek_v3", changes={**LATENT, **EXPERTS, "first_k_dense_replace": 1, "num_key_value_heads": 2}, more_rows=1
    ),
    Family(
        "qwen3_5_text",
        road="plain",
        trees="rows",
        changes={**GROUPED, **DELTA, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8},
        tied=True,
    ),
    Family(
        "jamba",
        road="plain",
        trees="rows",
        changes={
            **GROUPED,
            **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
            **{"num_experts": 2, "mamba_d_state": 4, "use_mamba_kernels": False},
        },
        more_rows=2,
        std=0.3,
    ),
    Family(
        "falcon_h1",
        road="plain",
        trees="rows",
        changes={
            **GROUPED,
            **{"head_dim": 8, "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_n_groups": 1},
            **{"mamba_d_state": 4, "mamba_chunk_size": 8},
        },
        std=0.3,
    ),
    Family("roberta", road="plain", trees="rows", changes={"is_decoder": True, "pad_token_id": 1}, tied=True),
    Family("llama4_text", changes={**CHUNKED, "attn_temperature_tuning": False}),
    Family(
        "llama4_text",
        road="plain",
        trees="rows",
        changes={**CHUNKED, "attn_temperature_tuning": True, "floor_scale": 4},
        more_rows=3,
        name="llama4-scaled",
    ),
]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name or family.kind)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Family, Path, Any]]:
    """Returns a row of the table, the folder of a tiny model of it, and the model itself."""
    family: Family = request.param
    try:
        AutoConfig.for_model(family.kind)
    except ValueError:
        pytest.skip(f"this version of transformers has no {family.kind}")
    tokenizer = byte_level_tokenizer()
    rows = len(tokenizer) + family.more_rows
    model = tiny_model(family.kind, rows, std=family.std, tie_word_embeddings=family.tied, **family.changes)
    folder = tmp_path_factory.mktemp("families") / family.kind
    save_model(folder, model, tokenizer)
    yield family, folder, model
    gc.collect()


def random_tree(vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a tree for each row, with branches longer than the window."""
    parents = [None, None, 0, 0, 2, 4, 5, 6, 1, 8]
    ancestors = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent is not None:
            ancestors[node] |= ancestors[parent]
    shape = (len(PROMPT_LENGTHS), len(parents))
    tokens = torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(3))
    return tokens, ancestors.sum(dim=1).expand(shape), ancestors.expand(len(PROMPT_LENGTHS), -1, -1)


@torch.no_grad()
def test_states_and_logits_equal_unpadded_forwards(saved: tuple[Family, Path, Any]) -> None:
    family, folder, model = saved
    backbone = load_backbone(find_source(str(folder)))
    assert isinstance(backbone, DecoderOnlyBackbone)
    cached = backbone.capabilities.cached
    assert (cached, backbone.capabilities.masks_trees) == (family.road == "cached", family.trees == "masked")
    vocab_size = len(model.get_input_embeddings().weight)
    assert len(backbone.model.get_input_embeddings().weight) == vocab_size
    output = model.get_output_embeddings()
    assert output is None or (output.weight is model.get_input_embeddings().weight) == family.tied

    prompts = ragged_prompts(vocab_size, PROMPT_LENGTHS)
    tokens, mask = backbone.collate(prompts)
    last_states = backbone.prompt_states(tokens, mask)
    for row, states in enumerate(last_states):
        assert relative_difference(states[mask[row]], all_states(model, prompts[row])) < TOLERANCE
    layers = backbone.layer_states(tokens, mask, tokens[:, :0], mask[:, :0]).prompt
    assert relative_difference(layers[-1][mask], last_states[mask]) < TOLERANCE
    memory = backbone.read(tokens, mask)
    assert (memory.cache is not None) == cached
    # Without its cache, as under gradient checkpointing, and with it.
    for one in [replace(memory, cache=None), memory] if cached else [memory]:
        assert_all_writes_are_exact(backbone, model, one, prompts, one_forward=family.trees == "masked")


def all_states(model: Any, prompt: list[int]) -> Tensor:
    output = model(input_ids=torch.tensor([prompt]), use_cache=False, output_hidden_states=True)
    states: Tensor = output.hidden_states[-1][0]
    return states


def assert_all_writes_are_exact(
    backbone: Backbone, model: Any, memory: Memory, prompts: list[list[int]], *, one_forward: bool
) -> None:
    """Writes over a memory, over what was written, and a tree over that, each against unpadded rows."""
    vocab_size = len(model.get_input_embeddings().weight)
    generator = torch.Generator().manual_seed(1)
    texts = [list(prompt) for prompt in prompts]
    for lengths in WRITES:
        mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
        tokens = torch.randint(vocab_size, mask.shape, generator=generator)
        written = backbone.write(memory, tokens, mask)
        for row, length in enumerate(lengths):
            new = tokens[row, :length].tolist()
            states, logits = run_alone(model, texts[row], new)
            assert relative_difference(written.states[row, : length + 1], states) < TOLERANCE
            assert relative_difference(written.logits[row, : length + 1], logits) < TOLERANCE
            texts[row] += new
        memory = written.memory

    tokens, depths, ancestors = random_tree(vocab_size)
    tree = backbone.write_tree(memory, tokens, depths, ancestors)
    few = torch.tensor([5, 3, 200])
    some = backbone.write_tree(with_vocabulary(memory, few), tokens, depths, ancestors)
    rows = Backbone.write_tree(backbone, memory, tokens, depths, ancestors)
    assert relative_difference(tree.states, rows.states) < TOLERANCE
    assert relative_difference(tree.logits, rows.logits) < TOLERANCE
    if one_forward:
        assert count_forwards(backbone.model, lambda: backbone.write_tree(memory, tokens, depths, ancestors)) == 1
    assert_a_tree_grows(backbone, memory, (tokens, depths, ancestors), tree)
    for row, text in enumerate(texts):
        for node in (3, 7, 9):  # the tips: no other node sees them
            branch = ancestors[row, node]
            states, logits = run_alone(model, text, tokens[row, branch].tolist())
            assert relative_difference(tree.states[row, branch], states[1:]) < TOLERANCE
            assert relative_difference(tree.logits[row, branch], logits[1:]) < TOLERANCE
            assert relative_difference(some.logits[row, branch], logits[1:, few]) < TOLERANCE


def assert_a_tree_grows(backbone: Backbone, memory: Memory, tree: Any, whole: TreeWritten) -> None:
    """Writes a tree in three parts, and one part a second time, as another tree grows from the same beginning."""
    tokens, depths, ancestors = tree
    before, parts = None, []
    for begin, end in ((0, 3), (3, 4), (4, tokens.shape[1])):
        own = slice(begin, end)
        written = [
            backbone.write_tree(memory, tokens[:, own], depths[:, own], ancestors[:, own, :end], before)
            for _ in range(2)
        ]
        assert relative_difference(written[1].states, written[0].states) < TOLERANCE
        assert torch.equal(written[0].tree.ancestors, ancestors[:, :end, :end])
        before = written[0].tree
        parts.append(written[0])
    for name in ("states", "logits"):
        found = torch.cat([getattr(part, name) for part in parts], dim=1)
        assert relative_difference(found, getattr(whole, name)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(("method", "peft"), [("predictor", "lora"), ("generator", "none"), ("predgen", "lora")])
def test_a_fitted_model_is_the_same_after_a_reload(
    saved: tuple[Family, Path, Any], tmp_path: Path, method: str, peft: str
) -> None:
    _, folder, _ = saved
    model = predgen.fit(
        reviews(20),
        "mood",
        backbone=str(folder),
        inputs=["review"],
        method=method,
        peft=peft,
        batch_size=4,
        max_steps=3,
        max_prompt_tokens=24,
        lora_rank=2,
        quiet=True,
        device="cpu",
    )
    before = {name: one.clone() for name, one in model.method.named_parameters() if one.requires_grad}
    assert all(bool(torch.isfinite(one).all()) for one in before.values())
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(6, seed=9)
    found = model.predict(rows, probabilities=True)
    pd.testing.assert_frame_equal(found, again.predict(rows, probabilities=True), check_exact=True)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            CpmAntConfig(
                hidden_size=16, num_attention_heads=2, dim_head=8, dim_ff=32, num_hidden_layers=2, prompt_length=4
            ),
            r"do not depend on padding or on later tokens, found CpmAntForCausalLM, whose states differ by \d",
        ),
        (
            XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=32),
            "do not depend on padding or on later tokens, found XLNetLMHeadModel",
        ),
    ],
    ids=["cpmant", "xlnet"],
)
def test_what_is_exact_on_no_road_is_refused_by_name(tmp_path: Path, config: Any, reason: str) -> None:
    tokenizer = byte_level_tokenizer()
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    save_model(tmp_path / "model", model, tokenizer)
    with pytest.raises(BackboneError, match=reason):
        load_backbone(find_source(str(tmp_path / "model")))


LONG = {"rope_theta": 10000.0, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (
            "phi3",
            {"original_max_position_embeddings": 16, "rope_parameters": LONG, "sliding_window": None},
        ),
        (
            "llama",
            {
                "max_position_embeddings": 16,
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 4.0},
            },
        ),
        ("llama", {"rope_parameters": {**LONG, "original_max_position_embeddings": 16}}),
    ],
    ids=["phi3-longrope", "llama-dynamic", "llama-longrope"],
)
@torch.no_grad()
def test_rotary_positions_that_depend_on_the_longest_row_are_kept_where_they_do_not(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    tokenizer = byte_level_tokenizer()
    model = tiny_model(kind, len(tokenizer), **GROUPED, **changes)
    save_model(tmp_path / kind, model, tokenizer)
    backbone = load_backbone(find_source(str(tmp_path / kind)))
    assert backbone.longest_prompt(6) == 10
    for longest, exact in ((10, True), (11, False)):
        prompts = ragged_prompts(250, (longest, 3))
        tokens = torch.arange(12).reshape(2, 6)
        written = backbone.write(backbone.read(*backbone.collate(prompts)), tokens, torch.ones(2, 6, dtype=torch.bool))
        states, _ = run_alone(model, prompts[1], tokens[1].tolist())
        assert (relative_difference(written.states[1], states) < TOLERANCE) is exact
