"""Tiny random language models and tokenizers, and slow answers to compare the fast ones with.

The weights are enlarged: with the usual small ones a wrong mask or a wrong position changes next to nothing. The
references run one unpadded row at a time through the Hugging Face model itself, without a cache, and find what may
follow by listing all values; they share no code with what they check.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from predgen.backbones import Backbone, Memory
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.codec.codec import Codec
from predgen.methods import (
    Answering,
    Batch,
    Generator,
    Method,
    PooledHead,
    PredGen,
    Predictor,
    Sampling,
    Scale,
    Writer,
)
from predgen.methods.base import num_outputs_of
from predgen.methods.heads import field_heads, truth_of
from predgen.methods.losses import TokenLoss, join_of
from predgen.names import JOINS
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Target
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding

FAMILIES = ("llama", "gpt2", "qwen2")
ROADS = [pytest.param(False, id="cached"), pytest.param(True, id="plain")]
HIDDEN_SIZE = 16
MAX_POSITIONS = 96

# Both have targets of unequal lengths, forced tokens inside and choices at the end.
NUMBER = Number(-2.5, 12.0, decimals=1)
LABEL = Label(("x", "y", "z", "w"), ("good", "very good", "good grief", "bad"))
TARGETS: dict[str, Target] = {"number": NUMBER, "label": LABEL}
VALUES: dict[str, list[Any]] = {"number": [-1.2, 3.0, 11.9, 0.0, 12.0], "label": ["y", "x", "w", "z", "x"]}
PROMPT_LENGTHS = (9, 2, 6, 1, 4)

_FAMILY_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1, "tie_word_embeddings": False},
    "gpt2": {"n_positions": MAX_POSITIONS, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
    "qwen2": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 4},
    "bloom": {"n_layer": 2, "n_head": 2},
    "mpt": {"d_model": HIDDEN_SIZE, "n_heads": 2, "n_layers": 2, "max_seq_len": MAX_POSITIONS},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},
}
_T5 = {"d_model": HIDDEN_SIZE, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
_BART = {"d_model": HIDDEN_SIZE, "d_ff": 32} | {
    f"{part}_{name}": value
    for part in ("encoder", "decoder")
    for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))
}
_GEMMA = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 4,
}
# Their shapes, and whether a tree is written in one forward of the decoder.
ENCODER_DECODERS: dict[str, tuple[dict[str, Any], bool]] = {
    "t5": (_T5, True),
    "mt5": (_T5, True),
    "umt5": (_T5, False),
    "bart": (_BART, True),
    "mbart": (_BART, True),
    "pegasus": (_BART, True),
    "marian": (_BART, True),
    "t5gemma": ({"hidden_size": HIDDEN_SIZE}, True),
}
_BERT = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": MAX_POSITIONS,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "deberta": {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "deberta-v2": {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "mpnet": _BERT,
    "distilbert": {"dim": HIDDEN_SIZE, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "max_position_embeddings": 96},
    "electra": {**_BERT, "embedding_size": HIDDEN_SIZE},
    "albert": {**_BERT, "embedding_size": 8},
    "modernbert": {**_BERT, "local_attention": 8, "global_attn_every_n_layers": 2},
}
WORDS = ("a", "good", "very", "bad", "film", "1", "2")
_CORPUS = ["a good film 3.5", "a very good film", "a bad film 12.0", "good grief, what a film", "very bad 1313"]


# ---- models and tokenizers


def byte_level_tokenizer(*, eos: str | None = "</s>", pad: str | None = "<pad>") -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE: every text has tokens, and digits are merged in running text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [token for token in dict.fromkeys((pad, eos)) if token is not None]
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=specials,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, pad_token=pad, clean_up_tokenization_spaces=False
    )


def word_level_tokenizer(
    words: Sequence[str] = ("a", "good", "very", "bad", "film", "1", "2"),
) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of whole words, without an end token and without most digits."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(("<unk>", *words))}, "<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def tiny_model(family: str, vocab_size: int, *, seed: int = 0, std: float = 0.5, **changes: Any) -> Any:
    """Returns a causal language model of two layers with large random weights, in evaluation mode.

    Args:
        family: its `model_type`.
        vocab_size: rows of its embeddings.
        seed: of its weights.
        std: of its weights; those of norms lie around 1.
        changes: settings of the config.
    """
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **_FAMILY_SETTINGS.get(family, {}),
        **changes,
    }
    return enlarged(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)), seed=seed, std=std)


def enlarged(model: Any, *, seed: int = 0, std: float = 0.5) -> Any:
    """Returns the model with large random weights, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name.lower() or ".ln_" in name else 0.0
            is_gain = center and name.endswith("weight")
            parameter.normal_(1.0 if is_gain else 0.0, 0.1 if center else std, generator=generator)
    return model.eval()


def tiny_encoder_decoder(family: str, tokenizer: Any, **changes: Any) -> Any:
    """Returns an encoder-decoder language model of two layers each, as `tiny_model` does."""
    own = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": 2}
    settings = {**ENCODER_DECODERS[family][0], **changes}
    if family == "t5gemma":
        parts = {part: {**_GEMMA, "vocab_size": len(tokenizer), **own, **changes} for part in ("encoder", "decoder")}
        config = AutoConfig.for_model(family, **parts, vocab_size=len(tokenizer), **own)
        config.decoder_start_token_id = 2
    else:
        config = AutoConfig.for_model(
            family, vocab_size=len(tokenizer), decoder_start_token_id=tokenizer.pad_token_id, **own, **settings
        )
    return enlarged(AutoModelForSeq2SeqLM.from_config(config))


def tiny_encoder(family: str, tokenizer: Any, **changes: Any) -> Any:
    """Returns an encoder with the head of a masked language model, as most checkpoints have it."""
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **ENCODERS[family], **changes}
    return enlarged(AutoModelForMaskedLM.from_config(AutoConfig.for_model(family, **settings)))


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Returns an uncased tokenizer of words and letters that frames texts as a BERT's does."""
    specials = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    letters = [piece for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for piece in (letter, f"##{letter}")]
    pieces = [*specials, *letters, "-", ".", ",", ":", "good", "very", "bad", "film", "grief"]
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_backbone(family: str = "llama", *, plain: bool = False, seed: int = 0, **changes: Any) -> DecoderOnlyBackbone:
    """Returns a backbone over a tiny model and the byte-level tokenizer; equal arguments give equal weights."""
    tokenizer = byte_level_tokenizer()
    return DecoderOnlyBackbone(tiny_model(family, len(tokenizer), seed=seed, **changes), tokenizer, cached=not plain)


def checkpoint_activations(model: Any) -> None:
    """Turns gradient checkpointing on, under the name that it has in this version of transformers."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def save_model(folder: Path, model: Any, tokenizer: Any | None) -> str:
    """Writes a model's folder and returns its name, as a user would give it."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def tiny_method(
    name: str,
    backbone: Backbone,
    target: Target,
    *,
    seed: int = 0,
    full: bool = False,
    token_loss: TokenLoss | None = None,
    head: str | None = None,
    loss: str = "wdal_stable",
    sampling: Sampling | None = None,
    scales: Sequence[Scale] | None = None,
) -> Method:
    """Returns a method over a backbone, with heads that the seed decides.

    Args:
        name: the method's.
        backbone: the language model.
        target: what is predicted.
        seed: of the heads.
        full: take the softmax over the whole vocabulary.
        token_loss: what L_W is.
        head: the pooling of the predictor's head, or the Director's.
        loss: how L_W and L_D are joined.
        sampling: how predgen is fed its own tokens.
        scales: of the fields; some numbers if not given.
    """
    torch.manual_seed(seed)
    if scales is None:
        scales = [Scale(2.0, 3.0) if isinstance(field, Number) else Scale() for field in target.fields.values()]
    codec, fields = Codec(target, backbone), field_heads(target, scales)
    num_outputs = num_outputs_of(fields)
    if name == "predictor":
        pooled = PooledHead.of(head or backbone.pooling, backbone.prompt_size, num_outputs)
        return Predictor(backbone, codec, fields, pooled)
    writer = Writer(SymbolModel(backbone, codec, full), token_loss or TokenLoss(), fields)
    if name == "generator":
        return Generator(writer)
    director = PooledHead.of(head or "attention", backbone.hidden_size, num_outputs)
    join = join_of(loss, squared_error=isinstance(target, Number))
    return PredGen(writer, director, join, sampling, joins_linearly=JOINS[loss].is_linear)


def answering_for(
    method: Method, decoding: str = "auto", estimates: Sequence[str] | None = None, *, trie_mass: float = 1.0
) -> Answering:
    """Returns how a method answers, with the answers of the Director where there is one."""
    name: Any = method.cheapest_decoding() if decoding == "auto" else decoding
    return Answering.of(Decoding(name, trie_mass=trie_mass), len(method.fields), estimates=estimates)


# ---- batches


def ragged_prompts(vocab_size: int, lengths: Sequence[int] = PROMPT_LENGTHS, seed: int = 0) -> list[list[int]]:
    """Returns random prompts of the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in lengths]


def batch_for(method: Method, prompts: Sequence[list[int]], values: Sequence[Any]) -> Batch:
    """Returns a batch for a method's `forward`."""
    truth = truth_of(method.target, values, [head.scale for head in method.fields])
    return Batch(*method.backbone.collate(prompts), method.codec.encode(values), truth)


def count_forwards(model: Any, run: Callable[[], object]) -> int:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = model.register_forward_pre_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return calls


# ---- references


def all_paths(backbone: Backbone, target: Target) -> dict[tuple[int, ...], Any]:
    """Returns the token ids of every value of a target, the end token included, and the value."""
    if isinstance(target, Label):
        ids = backbone.word_ids(target.words)
        return {(*path, backbone.end_id): value for path, value in zip(ids, target.values, strict=True)}
    unit = 10**target.decimals
    found = {}
    for units in range(round(target.low * unit), round(target.high * unit) + 1):
        text = f"{units / unit:.{target.decimals}f}"
        found[(*(backbone.symbol_id(character) for character in text), backbone.end_id)] = float(text)
    return found


def may_follow(paths: Mapping[tuple[int, ...], Any], prefix: Sequence[int]) -> list[int]:
    """Returns the tokens that continue a prefix towards some value."""
    start = tuple(prefix)
    return sorted({path[len(start)] for path in paths if path[: len(start)] == start and len(path) > len(start)})


def path_of(paths: Mapping[tuple[int, ...], Any], value: Any) -> list[int]:
    """Returns the token ids of one value."""
    return list(next(path for path, one in paths.items() if one == value))


def run_alone(model: Any, prompt: Sequence[int], target: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns H[0..m] and the logits that follow each, from one unpadded forward without a cache."""
    output = model(input_ids=torch.tensor([[*prompt, *target]]), use_cache=False, output_hidden_states=True)
    return output.hidden_states[-1][0, len(prompt) - 1 :], output.logits[0, len(prompt) - 1 :]


def write_alone(model: Any, prompt: Sequence[int], paths: Mapping[tuple[int, ...], Any]) -> list[int]:
    """Returns the greedily written tokens, one full forward for every token, forced or not."""
    written: list[int] = []
    while allowed := may_follow(paths, written):
        logits = run_alone(model, prompt, written)[1][-1]
        written.append(max(allowed, key=lambda token: float(logits[token])))
    return written


def writer_loss_alone(
    model: Any,
    prompt: Sequence[int],
    gold: Sequence[int],
    paths: Mapping[tuple[int, ...], Any],
    fed: Sequence[int] | None = None,
) -> Tensor:
    """Returns one row's mean cross-entropy over the tokens that had a choice, in nats.

    Args:
        model: the Hugging Face model.
        prompt: the row's prompt.
        gold: its target.
        paths: the targets of all values.
        fed: the tokens that the model is fed; gold if not given.
    """
    logits = run_alone(model, prompt, gold if fed is None else fed)[1]
    losses = []
    for position, token in enumerate(gold):
        allowed = may_follow(paths, gold[:position])
        if len(allowed) > 1:
            losses.append(torch.logsumexp(logits[position, allowed], dim=0) - logits[position, token])
    return torch.stack(losses).mean()


def assert_layers_equal_unpadded_rows(
    backbone: Backbone,
    prompts: Sequence[list[int]],
    target: Tensor,
    target_mask: Tensor,
    alone: Callable[[list[int], list[int]], tuple[Sequence[Tensor], Sequence[Tensor]]],
) -> None:
    """Compares the states at every layer with those of each row by itself, and the last ones with what is read.

    Args:
        backbone: the model.
        prompts: of a ragged batch.
        target: what is written after each, padded on the right.
        target_mask: which of its tokens are not padding.
        alone: gives the layers of one prompt and of its target, from Hugging Face's own forward.
    """
    tokens, mask = backbone.collate(prompts)
    found = backbone.layer_states(tokens, mask, target, target_mask)
    for row, prompt in enumerate(prompts):
        expected = alone(prompt, target[row, target_mask[row]].tolist())
        sides = ((found.prompt, mask, expected[0]), (found.written, target_mask, expected[1]))
        for layers, own, wanted in sides:
            for states, one in zip(layers, wanted, strict=True):
                assert relative_difference(states[row, own[row]], one) < 1e-5
    written = backbone.write(backbone.read(tokens, mask), target, target_mask).states[:, 1:]
    assert relative_difference(found.prompt[-1][mask], backbone.prompt_states(tokens, mask)[mask]) < 1e-5
    assert relative_difference(found.written[-1][target_mask], written[target_mask]) < 1e-5
    without = backbone.layer_states(tokens, mask, target[:, :0], target_mask[:, :0])
    for states, one in zip(without.prompt, found.prompt, strict=True):
        assert relative_difference(states[mask], one[mask]) < 1e-5
    assert [one.shape for one in without.written] == [one[:, :0].shape for one in found.written]


def with_vocabulary(memory: Memory, vocabulary: Tensor) -> Memory:
    """Returns a memory that was read for the logits of some tokens."""
    return replace(memory, logits=memory.logits[:, vocabulary], vocabulary=vocabulary)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Returns |found − expected| / |expected|, in Euclidean norms."""
    return float((found - expected).detach().norm() / expected.detach().norm().clamp(min=1e-30))
