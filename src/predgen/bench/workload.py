"""What all rivals work on: a model of random weights, batches, and the methods over them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from predgen.backbones import find_source
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.prepacking import PrepackedWeights
from predgen.bench.published import Published
from predgen.bench.shapes import SHAPES, TARGETS, VOCABULARY, Cell
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable
from predgen.methods import Batch, PooledHead, PredGen, Predictor, Sampling, Scale, Writer
from predgen.methods.base import num_outputs_of
from predgen.methods.exact import ExactPredGen, PrefixDirector
from predgen.methods.heads import field_heads
from predgen.methods.losses import TokenLoss, join_of, wdal_stable
from predgen.targets.number import Number
from predgen.targets.record import Target
from predgen.writing.symbols import SymbolModel

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# Large enough for the context to move the probabilities, so that the likeliest symbols differ between rows.
WEIGHT_DEVIATION = 0.05
# Prompts of many lengths: their median is half of the cell's, and some are four times as long as the median.
RAGGED_ROWS = 128
RAGGED_MEDIAN, RAGGED_DEVIATION, RAGGED_MOST = 0.5, 0.5, 2.0

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Workload:
    """A model, batches for it, and the methods that several rivals share.

    Attributes:
        backbone: the model and its tokenizer.
        target: what is predicted.
        batch: prompts of one length, gold targets, and the numbers of `truth` as the methods' heads take them.
        truth: standardized numbers.
        gold_tokens: the gold targets as tokens of the model.
        ragged: prompts of many lengths.
        predictor: the pooled head.
        exact: PredGen's default form, over all values; None where these are too many.
        one_pass: PredGen with one pass of sampling.
        fixed_point: PredGen with passes until nothing changes.
        published: the paper's program.
        packed: the model's pre-packed weights.
    """

    backbone: DecoderOnlyBackbone
    target: Number
    batch: Batch
    truth: Float[Tensor, " batch"]
    gold_tokens: Int[Tensor, "batch target"]
    ragged: list[list[int]]
    predictor: Predictor
    exact: ExactPredGen | None
    one_pass: PredGen
    fixed_point: PredGen
    published: Published
    packed: PrepackedWeights

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.backbone.device

    def ready(self, method: AnyModule) -> AnyModule:
        """Returns a method on the workload's device, in evaluation mode."""
        return method.to(self.device).eval()


def make_backbone(cell: Cell, device: torch.device) -> DecoderOnlyBackbone:
    """Returns a Llama of random weights; equal cells give equal weights."""
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
    """Returns the prepared workload of a cell; equal cells give equal workloads."""
    backbone = make_backbone(cell, device)
    target = TARGETS[cell.target]
    codec = Codec(target, backbone)
    draws = random.Random(0)
    prompts = _random_prompts(backbone, [cell.prompt_tokens] * cell.batch_size, draws)
    prompt, mask = (tensor.to(device) for tensor in backbone.collate(prompts))
    values = [target.clip(draws.uniform(target.low, target.high)) for _ in range(cell.batch_size)]
    truth = torch.randn(cell.batch_size, generator=torch.Generator().manual_seed(0)).to(device)
    ragged = _random_prompts(backbone, _ragged_lengths(cell, draws), draws)
    fields = field_heads(target, [Scale()])
    head = PooledHead.of(backbone.pooling, backbone.prompt_size, num_outputs_of(fields))
    predictor = Predictor(backbone, codec, fields, head).to(device).eval()
    one_pass = _predgen(backbone, target, passes=1).to(device).eval()
    # The fixed point comes within as many passes as there are tokens.
    fixed_point = _predgen(backbone, target, passes=codec.max_length).to(device).eval()
    gold = one_pass.codec.encode(values)
    return Workload(
        backbone=backbone,
        target=target,
        batch=Batch(prompt, mask, gold, truth.unsqueeze(1)),
        truth=truth,
        gold_tokens=one_pass.codec.symbols[gold.symbols],
        ragged=ragged,
        predictor=predictor,
        exact=_exact(backbone, target).to(device).eval() if is_enumerable(target) else None,
        one_pass=one_pass,
        fixed_point=fixed_point,
        published=Published(backbone.model, VOCABULARY).to(device).eval(),
        packed=PrepackedWeights(backbone),
    )


def writer_of(backbone: DecoderOnlyBackbone, target: Target) -> Writer:
    """Returns a Writer of a target."""
    symbols = SymbolModel(backbone, Codec(target, backbone))
    return Writer(symbols, TokenLoss(), field_heads(target, [Scale()]))


def _exact(backbone: DecoderOnlyBackbone, target: Target) -> ExactPredGen:
    writer = writer_of(backbone, target)
    director = PrefixDirector(
        backbone.hidden_size, num_outputs_of(writer.fields), has_prefixes=True, starts_at_zero=False
    )
    return ExactPredGen(writer, director, join_of("sum", squared_error=True), adds_writer=False, joins_linearly=True)


def _predgen(backbone: DecoderOnlyBackbone, target: Target, *, passes: int) -> PredGen:
    writer = writer_of(backbone, target)
    director = PooledHead.of("attention", backbone.hidden_size, num_outputs_of(writer.fields))
    return PredGen(writer, director, wdal_stable, Sampling(passes))


def _random_prompts(backbone: DecoderOnlyBackbone, lengths: Sequence[int], draws: random.Random) -> list[list[int]]:
    known = len(backbone.tokenizer)
    return [[draws.randrange(known) for _ in range(length)] for length in lengths]


def _ragged_lengths(cell: Cell, draws: random.Random) -> list[int]:
    median, most = RAGGED_MEDIAN * cell.prompt_tokens, round(RAGGED_MOST * cell.prompt_tokens)
    return [min(max(2, round(median * draws.lognormvariate(0, RAGGED_DEVIATION))), most) for _ in range(RAGGED_ROWS)]
