"""The memory plan against what is really allocated: weights to the byte, activations and the peak within a factor."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig

from predgen.adapters import apply_peft
from predgen.backbones import Backbone, new_backbone
from predgen.codec.codec import Codec
from predgen.config import RunConfig, build_config
from predgen.errors import ConfigError
from predgen.inspecting.known_shapes import KNOWN_SHAPES, known_config, one_token_each
from predgen.inspecting.memory_plan import plan_memory
from predgen.methods import Batch, Method, Scale
from predgen.methods.exact import ExactPredGen
from predgen.methods.heads import truth_of
from predgen.models.building import build_method
from predgen.names import PEFT_METHODS
from predgen.targets.label import Label
from predgen.targets.number import Number

pytestmark = pytest.mark.slow  # together they take more than a few seconds

WIDE = {"vocab_size": 500, "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
T5 = {"vocab_size": 500, "d_model": 64, "d_kv": 16, "num_heads": 4, "num_layers": 3, "decoder_start_token_id": 1}
GPT2 = {"vocab_size": 500, "n_embd": 64, "n_head": 4, "n_layer": 3}
BART = {
    "vocab_size": 500,
    "d_model": 64,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 3),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 256),
    "decoder_start_token_id": 1,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**WIDE, "intermediate_size": 172}),
    "llama with fewer keys": ("llama", {**WIDE, "intermediate_size": 172, "num_key_value_heads": 2}),
    "gpt2": ("gpt2", GPT2),
    "bert": ("bert", {**WIDE, "intermediate_size": 256}),
    "bert without dropout": (
        "bert",
        {**WIDE, "intermediate_size": 256, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    ),
    "t5": ("t5", {**T5, "d_ff": 256}),
    "gated t5": ("t5", {**T5, "d_ff": 160, "feed_forward_proj": "gated-gelu"}),
    "bart": ("bart", BART),
    "gemma2": ("gemma2", {**WIDE, "intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 16}),
    "mixtral": ("mixtral", {**WIDE, "intermediate_size": 96, "num_key_value_heads": 2, "num_local_experts": 4}),
    "mamba": ("mamba", {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 3}),
}
UNCOUNTED = ("mixtral", "mamba")
COUNTED = [shape for shape in SHAPES if shape not in UNCOUNTED]

NUMBER = Number(0.0, 99.0, 1)
LABEL = Label(("x", "y"), ("good", "bad"))
ROWS, PROMPT_TOKENS = 4, 96


def config_for(peft: str, dtype: str = "float32", form: str | None = "states") -> RunConfig:
    settings = {"model.peft": peft, "model.dtype": dtype, "model.lora_rank": 8, "train.batch_size": ROWS}
    settings |= {"model.director_form": form}
    return build_config({"data.data": "", "data.target": ""}, settings)


def made(shape: str, dtype: str = "float32", device: str = "meta") -> Backbone:
    family, settings = SHAPES[shape]
    config = AutoConfig.for_model(family, **settings)
    return new_backbone(config, shape, one_token_each(), dtype=dtype, device=device)


def planned(shape: str, peft: str, dtype: str = "float32", target: Any = NUMBER) -> dict[str, Any]:
    backbone = made(shape, dtype)
    return plan_memory(config_for(peft, dtype), backbone, Codec(target, backbone), prompt_tokens=PROMPT_TOKENS)


def part(plan: dict[str, Any], *names: str, of: str = "fit_bytes") -> int:
    return sum(one[of] for one in plan["parts"] if one["name"] in names)


def real_method(shape: str, peft: str, dtype: str = "float32", target: Any = NUMBER) -> Method:
    backbone = made(shape, dtype, "cpu")
    return build_method(config_for(peft, dtype), backbone, Codec(target, backbone), [Scale()]).train()


def batch_of(method: Method, value: Any = 12.5) -> Batch:
    # One row is shorter, as in any real batch, so that there is padding to mask.
    lengths = [PROMPT_TOKENS] * (ROWS - 1) + [PROMPT_TOKENS - 5]
    prompts = [torch.randint(3, 90, (length,)).tolist() for length in lengths]
    tokens, mask = method.backbone.collate(prompts)
    gold = method.codec.encode([value] * ROWS)
    return Batch(tokens, mask, gold, truth_of(method.target, [value] * ROWS, [Scale()]))


def trained(method: Method) -> list[torch.nn.Parameter]:
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def num_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize(
    ("shape", "peft", "dtype"),
    [
        *((shape, peft, "float32") for shape in ("llama", "bert", "t5") for peft in PEFT_METHODS),
        *(("llama", peft, "bfloat16") for peft in PEFT_METHODS),
    ],
)
def test_weights_gradients_and_moments_are_exact(shape: str, peft: str, dtype: str) -> None:
    plan = planned(shape, peft, dtype)
    method = real_method(shape, peft, dtype)
    parameters = trained(method)
    optimizer = torch.optim.AdamW(parameters)
    method(batch_of(method))["loss"].backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert part(plan, "frozen weights", "trained weights") == num_bytes(method.parameters())
    assert part(plan, "trained weights") == num_bytes(parameters)
    assert part(plan, "gradients") == num_bytes(one.grad for one in parameters if one.grad is not None)
    assert part(plan, "AdamW moments") == num_bytes(moments)
    assert plan["trained_parameters"] == sum(one.numel() for one in parameters)
    assert plan["parameters"] == sum(one.numel() for one in method.parameters())


def saved_bytes(method: Method, batch: Batch) -> int:
    """Returns the bytes of all different tensors that a forward keeps for its gradients, but parameters and inputs."""
    known = [
        *method.parameters(),
        *method.buffers(),
        batch.prompt,
        batch.prompt_mask,
        *vars(batch.gold).values(),
        batch.truth,
    ]
    skipped = {tensor.untyped_storage().data_ptr() for tensor in known}
    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skipped:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = method(batch)["loss"]
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("shape", "peft", "dtype"),
    [
        *((shape, peft, "float32") for shape in COUNTED for peft in ("none", "lora")),
        *(("llama", peft, dtype) for peft in ("dora", "adalora", "rocoft") for dtype in ("float32", "bfloat16")),
        *((shape, "lora", "bfloat16") for shape in ("llama", "bert", "t5", "bart")),
        ("t5", "dora", "float32"),
        ("bert", "adalora", "float32"),
        ("gpt2", "rocoft", "float32"),
    ],
)
def test_activations_are_within_a_factor_of_what_is_kept(shape: str, peft: str, dtype: str) -> None:
    plan = planned(shape, peft, dtype)
    method = real_method(shape, peft, dtype)
    found = saved_bytes(method, batch_of(method))
    # Keys and values are kept once, for the gradients and by the memory that a write starts from.
    ratio = part(plan, "activations", "key/value cache") / found
    factor = 1.4 if peft == "dora" else 1.3
    assert 1 / factor < ratio < factor, ratio


@pytest.mark.parametrize("peft", ["none", "lora"])
def test_the_default_form_is_counted_where_trees_are_one_forward(peft: str) -> None:
    backbone = made("llama")
    config = config_for(peft, form=None)
    plan = plan_memory(config, backbone, Codec(NUMBER, backbone), prompt_tokens=PROMPT_TOKENS)
    assert plan["note"] is None
    backbone = made("llama", device="cpu")
    method = build_method(config, backbone, Codec(NUMBER, backbone), [Scale()]).train()
    assert isinstance(method, ExactPredGen)
    ratio = part(plan, "activations", "key/value cache") / saved_bytes(method, batch_of(method))
    assert 1 / 1.3 < ratio < 1.3, ratio


def test_where_they_are_not_the_plan_is_of_the_papers_form_and_says_so() -> None:
    backbone = made("bert")
    plan = plan_memory(config_for("lora", form=None), backbone, Codec(NUMBER, backbone), prompt_tokens=PROMPT_TOKENS)
    assert "those of director_form=states" in plan["note"]
    assert part(plan, "activations") > 0


def test_experts_are_counted_where_their_weights_are_trained() -> None:
    plan = planned("mixtral", "none", "bfloat16")
    method = real_method("mixtral", "none", "bfloat16")
    ratio = part(plan, "activations", "key/value cache") / saved_bytes(method, batch_of(method))
    assert 0.95 < ratio < 1.05, ratio


@pytest.mark.parametrize("shape", UNCOUNTED)
def test_a_forward_that_needs_values_is_named_instead_of_a_number(shape: str) -> None:
    plan = planned(shape, "lora")
    assert "activations and working space cannot be counted for" in plan["note"]
    assert part(plan, "activations", "working space", "key/value cache") == 0 < part(plan, "frozen weights")


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and their largest sum; not those that were there before."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.live = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                # Rows of gradients have a storage for their places and one for their values.
                parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
                for part in parts:
                    self.add(part.untyped_storage())
        return result

    def add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen | self.known:
            self.seen.add(key)
            self.live += size
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self.drop, key, size)

    def drop(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


def peak_of(method: Method, work: Callable[[], object]) -> int:
    with Peak(method.parameters()) as peak:
        work()
    return num_bytes(method.parameters()) + peak.most


@pytest.mark.parametrize("peft", ["none", "lora"])
@pytest.mark.parametrize("shape", ["llama", "bert without dropout", "t5"])
def test_the_whole_plan_is_near_the_peak_of_a_step_and_of_an_answer(shape: str, peft: str) -> None:
    plan = planned(shape, peft)
    method = real_method(shape, peft)
    optimizer = torch.optim.AdamW(trained(method))
    batch = batch_of(method)

    def steps() -> None:
        for _ in range(2):  # the first one has no moments yet
            method(batch)["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()

    assert 1 / 1.25 < plan["fit_bytes"] / peak_of(method, steps) < 1.25
    found = peak_of(method.eval(), lambda: method.answer(batch.prompt, batch.prompt_mask))
    assert 1 / 1.5 < plan["predict_bytes"] / found < 1.5


def test_the_type_of_the_weights_may_be_the_config_s_own() -> None:
    config = AutoConfig.for_model("llama", **SHAPES["llama"][1], dtype=torch.bfloat16)
    backbone = new_backbone(config, "llama", one_token_each(), dtype="auto")
    plan = plan_memory(config_for("lora"), backbone, Codec(NUMBER, backbone), prompt_tokens=PROMPT_TOKENS)
    assert plan == planned("llama", "lora", "bfloat16")


def test_what_the_plan_grows_with() -> None:
    backbone = made("llama")
    codec = Codec(LABEL, backbone)

    def plan(**settings: Any) -> dict[str, Any]:
        prompt_tokens = settings.pop("prompt_tokens", 64)
        config = build_config({"data.data": "", "data.target": ""}, settings)
        return plan_memory(config, made("llama"), codec, prompt_tokens=prompt_tokens)

    small, large = plan(batch_size=2), plan(batch_size=4)
    for name in ("logits", "key/value cache"):
        assert part(large, name) == 2 * part(small, name) > 0
    # Each further row keeps the same; beside the rows, only the losses' few scalars are kept.
    larger = plan(batch_size=6)
    assert part(larger, "activations") - part(large, "activations") == part(large, "activations") - part(
        small, "activations"
    )
    assert 0 <= 2 * part(small, "activations") - part(large, "activations") < 100
    assert part(large, "frozen weights", "gradients") == part(small, "frozen weights", "gradients")
    longer = plan(batch_size=2, prompt_tokens=128)
    assert part(longer, "activations") > 1.9 * part(small, "activations")
    assert part(longer, "logits") == part(small, "logits")
    ranks = [plan(lora_rank=rank)["trained_backbone_parameters"] for rank in (4, 8)]
    assert ranks[1] == 2 * ranks[0]
    assert plan(peft="none")["trained_parameters"] == plan(peft="none")["parameters"]
    assert part(plan(), "gradients", "AdamW moments", of="predict_bytes") == 0


@pytest.mark.parametrize("tokens", [0, 4096, -1])
def test_prompts_that_the_model_does_not_read_are_refused(tokens: int) -> None:
    backbone = made("llama")
    with pytest.raises(ConfigError, match=rf"Expected prompts of 1 to \d+ tokens.*found {tokens}\."):
        plan_memory(config_for("lora"), backbone, Codec(NUMBER, backbone), prompt_tokens=tokens)


@pytest.mark.parametrize(
    ("name", "parameters", "lora"),
    [
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616, 39_976_960),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320, 62_586_880),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248, 41_943_040),
    ],
)
def test_known_shapes_have_the_parameters_that_their_authors_count(name: str, parameters: int, lora: int) -> None:
    backbone = new_backbone(known_config(name), name, one_token_each(), dtype="bfloat16")
    assert sum(one.numel() for one in backbone.parameters()) == parameters
    assert all(one.is_meta for one in backbone.parameters())
    assert backbone.added_token_ids == []
    apply_peft(backbone, "lora", rank=16, writes=True)
    assert sum(one.numel() for one in backbone.parameters() if one.requires_grad) == lora


def test_the_plan_of_a_known_shape_counts_its_bytes() -> None:
    name, parameters = "meta-llama/Llama-2-7b-hf", 6_738_415_616
    backbone = new_backbone(known_config(name), name, one_token_each(), dtype="bfloat16")
    config = build_config({"data.data": "", "data.target": "", "model.dtype": "bfloat16"})
    plan = plan_memory(config, backbone, Codec(NUMBER, backbone), prompt_tokens=128)
    assert plan["trained_backbone_parameters"] == 39_976_960
    # Frozen weights of 2 bytes; the update of rank 16 and the heads in float32.
    assert part(plan, "frozen weights") == 2 * parameters
    assert part(plan, "trained weights") == 4 * plan["trained_parameters"]


def test_the_known_shapes_are_all_tested_above() -> None:
    assert len(KNOWN_SHAPES) == 3
