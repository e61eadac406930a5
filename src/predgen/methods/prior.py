"""The Writer's prior: how often each symbol comes, taken from the training rows before the first step."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from predgen.backbones.base import dropout_off
from predgen.codec.codec import EncodedTargets
from predgen.methods.base import Method
from predgen.methods.batch import Batch
from predgen.writing.sampling import scores_after
from predgen.writing.symbols import SymbolModel

# So many rows stand for what the language model believes without training, in each state of the automaton.
PSEUDO_ROWS = 1.0
# Of iterative scaling; the means come within a hundredth of the shares in fewer.
ROUNDS = 50


@torch.no_grad()
def fill_prior(method: Method, targets: EncodedTargets, batches: Iterable[Batch]) -> None:
    """Sets the prior so that the Writer's mean probabilities are the training rows' shares.

    In each state of the automaton, log share − log mean probability is added to the symbols' logits until both agree:
    contextual calibration (arXiv 2102.09690) against the rows themselves, by iterative scaling. Without it the first
    steps teach the language model how often each digit comes, and take its weights along.

    Args:
        method: a method that writes, whose codec has a prior.
        targets: the gold targets of all training rows.
        batches: some of those rows, for the language model's own probabilities after gold.
    """
    codec = method.codec
    assert codec.prior is not None  # `build_method` has added it
    symbols = SymbolModel(method.backbone, codec)
    states, scores = [], []
    with dropout_off(method.backbone):
        for batch in batches:
            memory = symbols.read(batch.prompt, batch.prompt_mask)
            after_gold = scores_after(symbols, memory, batch.gold, batch.gold.symbols)
            states.append(batch.gold.states[batch.gold.mask])
            scores.append(after_gold[batch.gold.mask])
    all_states, all_scores = torch.cat(states), torch.cat(scores)
    believed = _means(all_scores, all_states, codec.prior)
    counts = _counts(targets, codec.prior)
    shares = (counts + PSEUDO_ROWS * believed) / (counts.sum(dim=1, keepdim=True) + PSEUDO_ROWS)
    for _ in range(ROUNDS):
        ratios = shares.log() - _means(all_scores + codec.prior[all_states], all_states, codec.prior).log()
        codec.prior.add_(torch.where(believed > 0, ratios, torch.zeros_like(ratios)))


def _means(
    scores: Float[Tensor, "position symbol"], states: Int[Tensor, " position"], table: Float[Tensor, "state symbol"]
) -> Float[Tensor, "state symbol"]:
    """Returns the mean probability of each symbol in each state; 0 in states where there are no scores."""
    sums = torch.zeros_like(table).index_add_(0, states, scores.softmax(dim=1))
    numbers = torch.zeros_like(table[:, 0]).index_add_(0, states, torch.ones_like(scores[:, 0]))
    return sums / numbers.clamp(min=1).unsqueeze(1)


def _counts(targets: EncodedTargets, table: Tensor) -> Tensor:
    """Returns how often each symbol comes in each state."""
    places = targets.states[targets.mask] * table.shape[1] + targets.symbols[targets.mask]
    return torch.bincount(places, minlength=table.numel()).reshape(table.shape).to(table)
