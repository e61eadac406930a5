"""GGUF files as backbones: weights, positions and tokens as in safetensors, and what is refused."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

import predgen
from predgen.backbones import Backbone, find_source, load_backbone
from predgen.backbones.gguf.header import GgufFile
from predgen.backbones.gguf.pre_tokenizers import PRE_TOKENIZERS
from predgen.backbones.gguf.tokenizer import tokenizer_of
from predgen.backbones.model_cache import MODELS, entries
from predgen.backbones.remembered import FOLDER_VARIABLE, cache_folder
from predgen.errors import ArtifactError, BackboneError
from tests.helpers.gguf_files import CONTROL, FAMILIES, HEAD, TOKENS, TYPES, llama3_factors, save_folder, write_gguf

TEXTS = ["\n\n10 ab of <|end|> x 123", "hello", "  two  blanks 3.80"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))


def loaded(path: Path, **settings: Any) -> Backbone:
    return load_backbone(find_source(str(path)), **settings)


def folder_beside(file: Path, config: Any, weights: dict[str, torch.Tensor]) -> Path:
    """Returns a folder with the weights of a file, its tokenizer beside them."""
    folder = file.with_suffix("")
    save_folder(folder, config, weights, AutoTokenizer.from_pretrained(find_source(str(file)).folder))
    return folder


def states_of(backbone: Backbone) -> torch.Tensor:
    tokens, mask = backbone.prompts.collate([ids for ids, _ in backbone.prompts.tokenize(TEXTS)])
    with torch.no_grad():
        return backbone.prompt_states(tokens, mask)


def assert_same_model(one: Backbone, other: Backbone) -> None:
    weights = other.model.state_dict()
    assert {name for name, value in one.model.state_dict().items() if not torch.equal(value, weights[name])} == set()
    assert torch.equal(states_of(one), states_of(other))


@pytest.mark.parametrize(
    ("family", "type_name"),
    [
        *((family, "Q4_1") for family in FAMILIES),
        *(pytest.param("qwen2", name, marks=pytest.mark.slow) for name in TYPES),
    ],
)
def test_weights_and_states_are_those_of_the_same_model_in_safetensors(
    family: str, type_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    config, weights = write_gguf(file, family, type_name)
    assert_same_model(loaded(file), loaded(folder_beside(file, config, weights)))


FIT = {"max_steps": 3, "batch_size": 4, "quiet": True, "device": "cpu"}
ROWS = pd.DataFrame(
    {"text": [f"of {index} ab" for index in range(40)], "label": ["a b", "10"] * 20, "score": np.arange(40) / 10}
)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "phi3", "gpt2", "starcoder2"])
def test_a_model_fitted_on_a_file_predicts_as_one_fitted_on_a_folder(family: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    folder = folder_beside(file, *write_gguf(file, family, "Q4_1"))
    for target in ("label", "score"):
        answers = []
        for place in (file, folder):
            out = tmp_path / f"{target}-{place.name}-model"
            model = predgen.fit(ROWS, target, inputs="text", backbone=str(place), out=out, **FIT)
            answers += [model.predict(ROWS[:9]), predgen.load(out).predict(ROWS[:9])]
        for other in answers[1:]:
            pd.testing.assert_frame_equal(answers[0], other, check_exact=True)


def test_an_artifact_names_its_file_by_its_hash_and_refuses_another(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "qwen2", "Q8_0")
    predgen.fit(ROWS, "label", inputs="text", backbone=str(file), out=tmp_path / "model", **FIT)
    base = json.loads((tmp_path / "model" / "predgen.json").read_text())["base"]
    assert GgufFile.at(file).content_hash in base.values()
    write_gguf(file, "qwen2", "Q8_0", seed=1)
    with pytest.raises(ArtifactError, match="Expected"):
        predgen.load(tmp_path / "model")


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 128}


@pytest.mark.parametrize(
    ("family", "said", "rope"),
    [
        ("llama", {"rope_freqs.weight": llama3_factors(32.0, 1.0, 4.0, 8192)}, LLAMA3),
        (
            "llama",
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            {"rope_type": "linear", "factor": 4.0},
        ),
        ("llama", {"llama.rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        ("llama", {"llama.rope.scaling.type": "none"}, {"rope_type": "default"}),
        (
            "qwen2",
            {f"qwen2.{key}": value for key, value in YARN.items()},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
        ),
        (
            "phi3",
            {
                "rope_factors_long.weight": np.full(HEAD // 2, 4.0, np.float32),
                "rope_factors_short.weight": np.linspace(1, 2, HEAD // 2, dtype=np.float32),
                "phi3.rope.scaling.original_context_length": 256,
            },
            {
                "rope_type": "longrope",
                "long_factor": [4.0] * (HEAD // 2),
                "short_factor": np.linspace(1, 2, HEAD // 2, dtype=np.float32).astype(float).tolist(),
                "original_max_position_embeddings": 256,
                "factor": 2.0,
            },
        ),
        ("phi3", {"phi3.rope.dimension_count": HEAD // 2}, {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ],
)
def test_stretched_positions_are_those_that_the_file_has(
    family: str, said: dict[str, Any], rope: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    config, weights = write_gguf(file, family, "F32", **said)
    backbone = loaded(file)
    read = backbone.model.config.rope_parameters
    assert read["rope_type"] == rope["rope_type"]
    for name in set(rope) - {"rope_type"}:
        assert read[name] == pytest.approx(rope[name], rel=1e-4), name
    config.rope_parameters = {"rope_theta": 10000.0, **rope}
    if family == "phi3":
        config.rope_parameters.setdefault("partial_rotary_factor", 1.0)
        config.original_max_position_embeddings = rope.get("original_max_position_embeddings", 4096)
    other = loaded(folder_beside(file, config, weights))
    torch.testing.assert_close(states_of(backbone), states_of(other), rtol=1e-4, atol=1e-5)


def test_the_window_of_layers_does_not_stretch_with_the_others(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "gemma3_text", **{"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0})
    rope = loaded(file).model.config.rope_parameters
    assert rope["full_attention"]["rope_type"] == "linear"
    assert rope["full_attention"]["factor"] == 8.0
    assert rope["sliding_attention"]["rope_type"] == "default"


def tokens_of(file: Path, text: str) -> list[str]:
    tokenizer = tokenizer_of(GgufFile.at(file))
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("smollm", "\n\n10", ["ĊĊ", "1", "0"]),  # single digits, blanks before them whole
        ("gpt-2", "\n\n10", ["Ċ", "Ċ", "10"]),  # a blank belongs to what follows, digits are joined
        ("llama-bpe", "\n\n10", ["<|start|>", "ĊĊ", "10"]),
        ("qwen2", "\n\n10", ["ĊĊ", "1", "0"]),
        ("qwen2", "  10", ["Ġ", "Ġ", "1", "0"]),  # no blank belongs to a digit
        ("gpt-2", "x<|end|>10", ["x", "<|end|>", "10"]),
    ],
)
def test_a_text_is_cut_as_the_file_names_it(name: str, text: str, tokens: list[str], tmp_path: Path) -> None:
    said: dict[str, Any] = {"tokenizer.ggml.pre": name, "tokenizer.ggml.add_bos_token": None}
    write_gguf(tmp_path / "model.gguf", "llama", **said)
    assert tokens_of(tmp_path / "model.gguf", text) == tokens


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
def test_every_way_to_cut_keeps_every_character(name: str) -> None:
    text = "  It's 12345 o'clock!\n\n\tÄpfel, 漢字かな; naïve… x_1 == 'y'  \r\n"
    pieces = PRE_TOKENIZERS[name].build().pre_tokenize_str(text)
    spans = [span for _, span in pieces]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))


@pytest.mark.parametrize(("said", "first"), [(True, [1]), (False, []), (None, [])])
def test_the_first_token_is_put_before_a_text_if_the_file_says_so(
    said: bool | None, first: list[int], tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen2", **{"tokenizer.ggml.add_bos_token": said})
    tokenizer = tokenizer_of(GgufFile.at(tmp_path / "model.gguf"))
    assert tokenizer("ab")["input_ids"] == [*first, TOKENS.index("ab")]
    assert tokenizer.eos_token == CONTROL[2]
    assert tokenizer.pad_token == CONTROL[0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"tokenizer.ggml.pre": "smolm"}, "Did you mean 'smollm'"),
        ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre"),
        ({"tokenizer.ggml.model": "rwkv"}, "found 'rwkv'"),
        ({"tokenizer.ggml.tokens": None}, "no tokenizer"),
        ({"tokenizer.ggml.eos_token_id": 999}, "found the id 999"),
        ({"tokenizer.ggml.merges": ["ab"]}, "merges of two tokens"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], TOKENS[0]]}, "each token once"),
        ({"general.architecture": "clip"}, "clip"),
        ({"llama.rope.scaling.type": "yarn"}, "no factor"),
        ({"llama.rope.scaling.type": "spiral", "llama.rope.scaling.factor": 2.0}, "spiral"),
        ({"rope_freqs.weight": np.linspace(1, 9, HEAD // 2, dtype=np.float32)}, "as Llama 3.1 has them"),
        ({"blk.0.ffn_extra.weight": np.zeros((3, 3), np.float32)}, "numbers in"),
        ({"llama.block_count": 3}, "missing"),
        ({"llama.attention.head_count": 5}, "model.gguf"),
    ],
)
def test_a_file_that_would_be_read_wrongly_is_refused(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "llama", **said)
    with pytest.raises(BackboneError, match=message):
        loaded(tmp_path / "model.gguf")
    assert not [entry for entry in entries() if "weights" in entry.facts["holds"]]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_and_leaves_nothing(share: float, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "qwen2", "Q4_0")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackboneError, match=r"Expected a (whole )?GGUF file in .*model\.gguf"):
        loaded(file)
    assert not [entry for entry in entries() if "weights" in entry.facts["holds"]]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("not a model")
    with pytest.raises(BackboneError, match="Expected a GGUF file"):
        loaded(tmp_path / "model.gguf")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"Expected a GGUF file at .*modle\.gguf', found none"):
        loaded(tmp_path / "modle.gguf")
    folder = tmp_path / "folder.gguf"  # a folder may be called so
    folder.mkdir()
    with pytest.raises(BackboneError, match=r"a model folder with a config\.json"):
        loaded(folder)


def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "qwen2", "Q8_0")
    states = states_of(loaded(file))
    (weights,) = (cache_folder() / MODELS).rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5] + b"\0\0\0\0\1")
    assert torch.equal(states_of(loaded(file)), states)
    shutil.rmtree(cache_folder())
    assert torch.equal(states_of(loaded(file)), states)


def test_types_of_weights_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "qwen2", "F16")
    for dtype, expected in (("bfloat16", torch.bfloat16), ("float32", torch.float32), ("auto", torch.float16)):
        assert loaded(file, dtype=dtype).model.dtype == expected


SMOLLM2 = "builtin:smollm2"


@pytest.mark.slow
def test_a_real_model_reads_as_it_was_trained() -> None:
    try:
        source = find_source(SMOLLM2)
    except predgen.MissingPackageError as error:
        pytest.skip(str(error))
    backbone = load_backbone(source, dtype="bfloat16")
    tokenizer = backbone.tokenizer
    # Digits one by one, blank lines before them whole.
    assert tokenizer.convert_ids_to_tokens(tokenizer("\n\n10")["input_ids"]) == ["ĊĊ", "1", "0"]
    ids = torch.tensor([tokenizer("The capital of France is Paris. The capital of Italy is")["input_ids"]])
    with torch.no_grad():
        following = int(backbone.model(input_ids=ids).logits[0, -1].argmax())
    assert tokenizer.decode([following]) == " Rome"
