"""The hidden states of a fitted model for each row: of the prompt, and of the answer that the model writes.

No gold answer comes in here: rows are read as `predict` reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones.base import dropout_off
from predgen.methods import Generator, PredGen, Predictor
from predgen.methods.buckets import run_in_buckets
from predgen.methods.poolings import Mean
from predgen.models.model import Model
from predgen.names import POOLINGS
from predgen.writing.decoding import greedy_free

# The pooled prompt, as a head would read it; the tokens that the model wrote; their mean; all tokens of the prompt.
SOURCES = ("pooled", "written", "written_mean", "prompt")
OF_PREDICTOR = ("pooled", "prompt")
# The sources that are also read layer by layer.
LAYERED = ("pooled", "written")
Rows = list[Float[Tensor, "_ size"]]


@dataclass(frozen=True)
class ModelStates:
    """The states of many rows, in their order.

    Attributes:
        last: of the last layer, by source; each row has as many positions as it has tokens.
        layers: of each layer from the embeddings on, by source; empty if they were not asked for.
    """

    last: dict[str, Rows]
    layers: dict[str, list[Rows]]


def sources_of(method: str) -> tuple[str, ...]:
    """Returns the sources that models of a method have: one that writes nothing has no written tokens."""
    return OF_PREDICTOR if method == "predictor" else SOURCES


def padded(rows: Rows) -> tuple[Float[Tensor, "row position size"], Bool[Tensor, "row position"]]:
    """Returns rows as one tensor, padded on the right, and which positions are not padding."""
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def prompts_of(model: Model, table: pd.DataFrame) -> list[list[int]]:
    """Returns the prompts of a table's rows as token ids; no other column than the model's inputs is looked at.

    Raises:
        DataError: an input is missing.
    """
    return model.encode(table.loc[:, list(model.inputs)]).prompts


@torch.no_grad()
def states_of(
    model: Model,
    prompts: Sequence[list[int]],
    sources: Sequence[str],
    *,
    layers: bool = False,
    most_prompt: int | None = None,
) -> ModelStates:
    """Returns the states of a model for prompts, whose answers it does not see.

    Args:
        model: the model.
        prompts: as `prompts_of` returns them.
        sources: some of `SOURCES` that the model has.
        layers: also return the states of each layer, for the sources in `LAYERED`.
        most_prompt: the most tokens of a row that are kept of the source `prompt`, drawn at random; all if not given.
    """
    method = model.method
    generator = torch.Generator().manual_seed(0)

    def of_batch(rows: list[int]) -> ModelStates:
        tokens, mask = method.backbone.collate([prompts[row] for row in rows])
        batch_states = _of_batch(model, tokens.to(method.device), mask.to(method.device), sources, layers)
        if most_prompt is not None and "prompt" in batch_states.last:
            batch_states.last["prompt"] = [_some(row, most_prompt, generator) for row in batch_states.last["prompt"]]
        return batch_states

    with dropout_off(method):
        batches, order = run_in_buckets([len(prompt) for prompt in prompts], model.limits, of_batch)
    back = torch.argsort(torch.tensor(order)).tolist()

    def joined(each: list[Rows]) -> Rows:
        every = [row for rows in each for row in rows]
        return [every[index] for index in back]

    return ModelStates(
        {source: joined([batch.last[source] for batch in batches]) for source in batches[0].last},
        {
            source: [
                joined(list(of_layer)) for of_layer in zip(*(batch.layers[source] for batch in batches), strict=True)
            ]
            for source in batches[0].layers
        },
    )


def _some(row: Float[Tensor, "position size"], most: int, generator: torch.Generator) -> Float[Tensor, "kept size"]:
    return row[torch.randperm(len(row), generator=generator)[:most].sort().values]


def written_freely(
    model: Model, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
) -> tuple[Int[Tensor, "batch written"], Bool[Tensor, "batch written"], Float[Tensor, "batch written hidden"]]:
    """Returns the tokens that a model writes by itself for prompts, as in prediction, their mask, and their states.

    Args:
        model: a model that writes.
        tokens: prompt tokens.
        mask: which of them are not padding.
    """
    method, decoding = model.method, model.contents.answering.decoding
    assert isinstance(method, Generator | PredGen)
    backbone = method.backbone
    if isinstance(method, Generator) and decoding.name == "free":
        memory = backbone.read(tokens, mask)
        paths, _ = greedy_free(backbone, memory, backbone.end_id, method.max_written(decoding))
        rows = [torch.tensor(path) for path in paths]
        written = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(tokens.device)
        lengths = torch.tensor([len(row) for row in rows], device=tokens.device)
        kept = torch.arange(written.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        return written, kept, backbone.write(memory, written, kept).states[:, 1:]
    memory = method.writer.symbols.read(tokens, mask)
    decoded = method.writer.write(memory, decoding, with_states=True).decoded
    assert decoded.states is not None  # asked for above
    return method.codec.symbols[decoded.symbols], decoded.mask, decoded.states


def _of_batch(
    model: Model,
    tokens: Int[Tensor, "batch prompt"],
    mask: Bool[Tensor, "batch prompt"],
    sources: Sequence[str],
    layers: bool,
) -> ModelStates:
    method, backbone = model.method, model.method.backbone
    pool = (
        method.head.pooling if isinstance(method, Predictor) else POOLINGS.load(backbone.pooling)(backbone.prompt_size)
    )
    writes = any(source.startswith("written") for source in sources)
    nothing = tokens[:, :0]
    target, target_mask, written = nothing, nothing.bool(), None
    if writes:
        target, target_mask, written = written_freely(model, tokens, mask)

    def rows_of(source: str, prompt: Tensor, states: Tensor | None) -> Rows:
        if source == "prompt":
            return _valid(prompt, mask)
        if source == "pooled":
            return _alone(pool(prompt, mask))
        assert states is not None  # `writes`
        return _valid(states, target_mask) if source == "written" else _alone(Mean()(states, target_mask))

    prompt = backbone.prompt_states(tokens, mask)
    last = {source: rows_of(source, prompt, written) for source in sources}
    if not layers:
        return ModelStates(last, {})
    every = backbone.layer_states(tokens, mask, target, target_mask)
    by_layer: dict[str, list[Rows]] = {}
    for source in sources:
        if source in LAYERED:
            each = every.prompt if source == "pooled" else every.written
            by_layer[source] = [rows_of(source, layer_states, layer_states) for layer_states in each]
    return ModelStates(last, by_layer)


def _valid(states: Float[Tensor, "batch position size"], mask: Bool[Tensor, "batch position"]) -> Rows:
    return [row[kept].float().cpu() for row, kept in zip(states, mask, strict=True)]


def _alone(vectors: Float[Tensor, "batch size"]) -> Rows:
    return list(vectors.float().cpu().unsqueeze(1))
