"""A cell made ready: a model of random weights, a batch, and every rival's training step and prediction over them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from predgen.backbones import find_source
from predgen.backbones.backbone import Backbone
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.prepacking import PrepackedWeights
from predgen.bench.published import Published
from predgen.bench.shapes import SHAPES, TARGETS, VOCABULARY, Cell
from predgen.codec.codec import Codec, EncodedTargets
from predgen.codec.kinds import is_enumerable
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
from predgen.methods.buckets import answer_all, in_order
from predgen.methods.heads import field_heads
from predgen.methods.losses import TokenLoss, wdal_stable
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Target
from predgen.writing.sampling import Draws, draw
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# Large enough for the context to move the probabilities, so that the likeliest symbols differ between rows.
WEIGHT_DEVIATION = 0.05
TWO_LABELS = ("negative", "positive")
# Labels that share first words and last ones, as real ones do.
TOPICS = tuple(
    f"{first} {second}"
    for first in ("air", "business", "city", "computer", "energy", "food", "health", "public")
    for second in ("history", "news", "planning", "policy", "prices", "safety", "science", "travel")
)
# Where only likely numbers are scored, a model that is sure of the first digit: its states are so many times larger. As
# it stands, a model of random weights gives every first digit more than a thousandth, and nothing could be left out.
TRIE_MASS = 0.999
SURE = 8.0
# Prompts of many lengths: their median is half of the cell's, and some are four times as long as the median.
RAGGED_ROWS = 128
RAGGED_MEDIAN, RAGGED_DEVIATION, RAGGED_MOST = 0.5, 0.5, 2.0

TRAIN_PREDICTOR, TRAIN_ONE_PASS, TRAIN_FIXED_POINT = "train predictor", "train predgen", "train predgen, fixed point"
TRAIN_PUBLISHED, TRAIN_SFT = "train published", "train sft"
PREDICT_PREDICTOR, PREDICT_PREDGEN = "predict predictor", "predict predgen"
PREDICT_PUBLISHED, PREDICT_GENERATE = "predict published", "predict generate"
PREDICT_KINDER = "predict published, last logits alone while it writes"
# What this package's models do on a CPU done to the others, and left out for ours.
PREDICT_PUBLISHED_PACKED, PREDICT_GENERATE_PACKED = (
    "predict published, packed weights",
    "predict generate, packed weights",
)
PREDICT_PLAIN = "predict predgen, plain weights"
PREDICT_ALL, PREDICT_PRUNED = "predict all numbers", "predict likely numbers, sure model"
PREDICT_TWO, PREDICT_64 = "predict 2 labels", "predict 64 labels"
PREDICT_BUCKETED, PREDICT_UNSORTED = "predict ragged, bucketed", "predict ragged, unsorted"


@dataclass(frozen=True)
class Workload:
    """What all rivals work on.

    Attributes:
        backbone: the model and its tokenizer.
        prompt: prompts of one length.
        prompt_mask: all of it is prompt.
        gold: the gold targets.
        truth: standardized numbers.
        ragged: prompts of many lengths.
        cases: what each rival does, by name.
    """

    backbone: Backbone
    prompt: Int[Tensor, "batch prompt"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    gold: EncodedTargets
    truth: Tensor
    ragged: list[list[int]]
    cases: dict[str, Callable[[], object]]


def make_backbone(cell: Cell, device: torch.device) -> DecoderOnlyBackbone:
    """Returns a Llama of random weights, the same for the same cell."""
    shape = SHAPES[cell.shape]
    tokenizer = AutoTokenizer.from_pretrained(find_source("builtin:nano").folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        initializer_range=WEIGHT_DEVIATION,
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[cell.dtype])
    backbone = DecoderOnlyBackbone(model, tokenizer)
    backbone.choose_path()
    return backbone


def make_workload(cell: Cell, device: torch.device) -> Workload:
    """Returns a cell made ready."""
    backbone = make_backbone(cell, device)
    model = backbone.model
    target = TARGETS[cell.target]
    codec = Codec(target, backbone)
    draws = random.Random(0)
    known = len(backbone.tokenizer)

    def prompts(lengths: Sequence[int]) -> list[list[int]]:
        return [[draws.randrange(known) for _ in range(length)] for length in lengths]

    prompt, mask = (part.to(device) for part in backbone.collate(prompts([cell.prompt_tokens] * cell.batch_size)))
    values = [target.clip(draws.uniform(target.low, target.high)) for _ in range(cell.batch_size)]
    truth = torch.randn(cell.batch_size, generator=torch.Generator().manual_seed(0)).to(device)
    lengths = [
        min(
            max(2, round(RAGGED_MEDIAN * cell.prompt_tokens * draws.lognormvariate(0, RAGGED_DEVIATION))),
            round(RAGGED_MOST * cell.prompt_tokens),
        )
        for _ in range(RAGGED_ROWS)
    ]
    ragged = prompts(lengths)
    scale = [Scale()]

    def ready(method: Any) -> Any:
        return method.to(device).eval()

    def writer_of(target: Target) -> Writer:
        codec = Codec(target, backbone)
        return Writer(SymbolModel(backbone, codec), TokenLoss(), field_heads(target, scale))

    def predgen(passes: int) -> Any:
        writer = writer_of(target)
        director = PooledHead.of("attention", backbone.hidden_size, num_outputs_of(writer.fields))
        return ready(PredGen(writer, director, wdal_stable, Sampling(passes)))

    fields = field_heads(target, scale)
    head = PooledHead.of(backbone.pooling, backbone.prompt_size, num_outputs_of(fields))
    predictor = ready(Predictor(backbone, codec, fields, head))
    one_pass = predgen(1)
    # The fixed point comes within as many passes as there are tokens.
    fixed_point = predgen(codec.max_length)
    published = ready(Published(model, VOCABULARY))
    gold = one_pass.codec.encode(values)
    gold_tokens = one_pass.codec.symbols[gold.symbols]
    own = draw(gold.mask, probability=1.0, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([prompt, gold_tokens], dim=1)
    labels = torch.cat([torch.full_like(prompt, -100), gold_tokens], dim=1)

    def trained(loss: Callable[[], Tensor], *modules: Any) -> Callable[[], object]:
        def step() -> None:
            for module in modules:
                module.zero_grad(set_to_none=True)
            loss().backward()  # type: ignore[no-untyped-call]

        return step

    def method_step(method: Method, fed: Draws) -> Callable[[], object]:
        batch = Batch(prompt, mask, gold, truth)
        return trained(lambda: method(batch, fed)["loss"], method)

    packed = PrepackedWeights(backbone)

    def over_packed(run: Callable[[], object]) -> Callable[[], object]:
        def predict() -> object:
            with packed:
                return run()

        return predict

    def scored(target: Target, mass: float = 1.0) -> Callable[[], object]:
        estimates = ["mean" if isinstance(target, Number) else "text"]
        method = ready(Generator(writer_of(target)))
        answering = Answering.of(Decoding("trie", trie_mass=mass), 1, estimates=estimates)
        return over_packed(lambda: method.answer(prompt, mask, answering, probabilities=not isinstance(target, Number)))

    def generated() -> list[float | None]:
        with torch.no_grad():
            found = model.generate(
                input_ids=prompt,
                attention_mask=mask.long(),
                do_sample=False,
                max_new_tokens=gold_tokens.shape[1],
                pad_token_id=backbone.pad_id,
            )
        return [number_of(backbone.text_of(row)) for row in found[:, prompt.shape[1] :].tolist()]

    def unsorted() -> None:
        with torch.no_grad():
            for rows in in_order(len(ragged), cell.batch_size):
                tokens, seen = backbone.collate([ragged[row] for row in rows])
                one_pass.answer(tokens.to(device), seen.to(device))

    cases: dict[str, Callable[[], object]] = {
        TRAIN_PREDICTOR: method_step(predictor, Draws()),
        TRAIN_ONE_PASS: method_step(one_pass, own),
        TRAIN_FIXED_POINT: method_step(fixed_point, own),
        TRAIN_PUBLISHED: trained(lambda: published(prompt, gold_tokens, truth, own=True).loss, published),
        TRAIN_SFT: trained(lambda: model(input_ids=whole, labels=labels, use_cache=False).loss, model),
        PREDICT_PREDICTOR: over_packed(lambda: predictor.answer(prompt, mask)),
        PREDICT_PREDGEN: over_packed(lambda: one_pass.answer(prompt, mask)),
        PREDICT_PLAIN: lambda: one_pass.answer(prompt, mask),
        PREDICT_PUBLISHED: lambda: published.predict(prompt, gold_tokens, truth),
        PREDICT_KINDER: lambda: published.predict(prompt, gold_tokens, truth, all_logits=False),
        PREDICT_PUBLISHED_PACKED: over_packed(lambda: published.predict(prompt, gold_tokens, truth)),
        PREDICT_GENERATE: generated,
        PREDICT_GENERATE_PACKED: over_packed(generated),
        PREDICT_TWO: scored(Label(TWO_LABELS, TWO_LABELS)),
        PREDICT_64: scored(Label(TOPICS, TOPICS)),
        PREDICT_BUCKETED: over_packed(lambda: answer_all(one_pass, ragged, batch_size=cell.batch_size)),
        PREDICT_UNSORTED: over_packed(unsorted),
    }
    if is_enumerable(target):
        likely = scored(target, TRIE_MASS)

        def sure() -> None:
            norm = model.model.norm.weight.data
            norm.mul_(SURE)
            likely()
            norm.div_(SURE)

        cases |= {PREDICT_ALL: scored(target), PREDICT_PRUNED: sure}
    return Workload(backbone, prompt, mask, gold, truth, ragged, cases)


def number_of(text: str) -> float | None:
    """Returns the number that a freely written text is; None for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return None
