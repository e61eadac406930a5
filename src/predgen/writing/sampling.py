"""Scheduled sampling: which tokens the model is fed in training, gold or its own.

The automaton follows the gold prefix, and own choices are taken among what it allows there. Gold labels stay
aligned with their positions, so the fed tokens need not be a path.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Memory
from predgen.backbones.base import dropout_off
from predgen.codec.codec import EncodedTargets
from predgen.parallel.processes import num_processes
from predgen.writing.symbols import SymbolModel


@dataclass(frozen=True)
class Draws:
    """The random draws of one batch, made before the model sees it.

    Attributes:
        sampled: where the model is fed its own token.
        noise: Gumbel noise; the choice is the largest of log-probability plus noise, which draws it from the softmax.
            None chooses the likeliest.
        director_own: the rows whose Director pools the free-running output; of other rows it pools the gold target.
            None lets it pool what the Writer is fed.
    """

    sampled: Bool[Tensor, "batch target"] | None = None
    noise: Float[Tensor, "batch target symbol"] | None = None
    director_own: Bool[Tensor, " batch"] | None = None


def draw(
    mask: Bool[Tensor, "batch target"],
    *,
    probability: float,
    generator: torch.Generator,
    unit: str = "token",
    num_symbols: int | None = None,
    director_share: float | None = None,
) -> Draws:
    """Returns the draws of one batch; they do not depend on the model or on the device.

    Args:
        mask: which positions belong to the targets.
        probability: p of feeding an own token.
        generator: on the CPU.
        unit: what is drawn together: each token, all tokens of a row, or (the paper's program) all of a batch.
        num_symbols: the size of the target's alphabet if own tokens are drawn from the softmax; None for the likeliest.
        director_share: probability that a row's Director reads its own writing; None for what the Writer is fed.
    """
    rows, length = mask.shape
    shape = {"token": (rows, length), "row": (rows, 1), "batch": (1, 1)}[unit]
    sampled = noise = director_own = None
    if probability > 0:
        sampled = (torch.rand(shape, generator=generator) < probability).expand(rows, length).to(mask.device)
        if num_symbols is not None:
            uniform = torch.rand((rows, length, num_symbols), generator=generator).clamp(min=torch.finfo().tiny)
            noise = -(-uniform.log()).log().to(mask.device)
    if director_share is not None:
        director_own = (torch.rand(rows, generator=generator) < director_share).to(mask.device)
    return Draws(sampled, noise, director_own)


@torch.no_grad()
def sample_parallel(
    symbols: SymbolModel,
    memory: Memory,
    gold: EncodedTargets,
    sampled: Bool[Tensor, "batch target"],
    *,
    passes: int,
    noise: Float[Tensor, "batch target symbol"] | None = None,
    gold_scores: Float[Tensor, "batch target symbol"] | None = None,
) -> Int[Tensor, "batch target"]:
    """Returns the fed symbols after some passes (arXiv 1906.04331).

    Each pass writes all current symbols at once and puts the model's own choices where the mask says. k passes make
    the first k symbols equal to `sample_sequential`; within m passes nothing changes any more.

    Args:
        symbols: the model of symbols, which chooses among allowed ones alone; its dropout is off meanwhile, or there
            would be no fixed point.
        memory: what it has read, detached.
        gold: the gold targets.
        sampled: where the model is fed its own symbol.
        passes: how many passes; those after which nothing would change any more are left out.
        noise: as in `Draws`.
        gold_scores: what the first pass would find, where it is known.
    """
    sampled = sampled & gold.mask
    fed = gold.symbols
    with dropout_off(symbols.backbone):
        for step in range(passes):
            scores = gold_scores if step == 0 else None
            if scores is None:
                scores = scores_after(symbols, memory, gold, fed)
            before, fed = fed, torch.where(sampled, _choice(scores, noise), gold.symbols)
            # As many passes in every process, as its partners may wait for them.
            if num_processes() == 1 and torch.equal(fed, before):
                break
    return fed


@torch.no_grad()
def sample_sequential(
    symbols: SymbolModel,
    memory: Memory,
    gold: EncodedTargets,
    sampled: Bool[Tensor, "batch target"],
    *,
    noise: Float[Tensor, "batch target symbol"] | None = None,
) -> Int[Tensor, "batch target"]:
    """Returns the fed symbols when they are sampled one after the other (arXiv 1506.03099): the reference."""
    sampled = sampled & gold.mask
    columns = []
    with dropout_off(symbols.backbone):
        for step in range(gold.symbols.shape[1]):
            scores = symbols.scores(memory, memory.logits, gold.states[:, step])
            choice = _choice(scores, None if noise is None else noise[:, step])
            fed = torch.where(sampled[:, step], choice, gold.symbols[:, step])
            columns.append(fed)
            if step + 1 < gold.symbols.shape[1]:
                memory = symbols.write(memory, fed.unsqueeze(1), gold.mask[:, step : step + 1]).memory
    return torch.stack(columns, dim=1)


def scores_after(
    symbols: SymbolModel,
    memory: Memory,
    gold: EncodedTargets,
    fed: Int[Tensor, "batch target"],
) -> Float[Tensor, "batch target symbol"]:
    """Returns the Writer's log-probabilities at every gold position when the symbols before it are the fed ones."""
    logits = memory.logits.unsqueeze(1)
    if fed.shape[1] > 1:
        logits = symbols.write(memory, fed[:, :-1], gold.mask[:, :-1]).logits
    return symbols.scores(memory, logits, gold.states)


def _choice(
    scores: Float[Tensor, "*batch symbol"], noise: Float[Tensor, "*batch symbol"] | None
) -> Int[Tensor, "*batch"]:
    """Returns the likeliest symbol, or one drawn from the softmax by its noise."""
    return (scores if noise is None else scores + noise).argmax(dim=-1)
