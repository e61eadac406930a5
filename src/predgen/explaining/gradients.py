"""Integrated gradients over the embeddings of the words' tokens (Sundararajan et al., 2017, arXiv 1703.01365).

A score f of a prompt with embeddings x, and a baseline x′: the attribution of the number i is

    (x_i − x′_i) ∫₀¹ ∂f/∂x_i (x′ + α (x − x′)) dα,

and the attributions add up to f(x) − f(x′). A token's is the sum over its embedding. The integral is a Gauss-Legendre
sum. Captum is not used: it puts one tensor in the place of each call of a layer, but a prompt is embedded in several
calls here (a beginning that rows share, written tokens, a second reading), padded and cut in other ways in each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones.base import dropout_off
from predgen.backbones.stand_ins import FIRST, embeddings_of, stand_ins
from predgen.backbones.template import TracedPrompt
from predgen.explaining.scores import Held, Question, scores_of, written_for
from predgen.methods.buckets import BatchLimits, run_in_buckets
from predgen.models.model import Model
from predgen.models.one_at_a_time import one_at_a_time

# What one row writes, and which of the symbols are not padding.
Path = tuple[Int[Tensor, " target"], Bool[Tensor, " target"]]
# A batch with gradients keeps what all layers computed: it has this fraction of a prediction batch's tokens.
GRADIENT_FRACTION = 0.25


@dataclass(frozen=True)
class Integrated:
    """The attributions of one row.

    Attributes:
        tokens: of each token of the prompt, 0 of those that are kept; in each score's unit.
        score: of the prompt.
        baseline_score: of the prompt with the baseline's embeddings.
        probabilities: of the prompt's labels, NaN of numbers.
        passes: how many forwards of one prompt it took.
    """

    tokens: Float[Tensor, "question token"]
    score: Float[Tensor, " question"]
    baseline_score: Float[Tensor, " question"]
    probabilities: Float[Tensor, " question"]
    passes: int


def baseline_of(model: Model) -> Float[Tensor, " size"]:
    """Returns the embedding that says nothing: the mean over the vocabulary.

    An embedding of zeros is no good point in most decoders: their first layer divides by its length, so that all of the
    integrand lies at α = 0, where no sum of a few steps finds it.
    """
    backbone = model.method.backbone
    tokens = torch.arange(backbone.num_prompt_tokens, device=backbone.device)
    total = sum(embeddings_of(backbone, some).double().sum(dim=0) for some in torch.split(tokens, 8192))
    assert isinstance(total, Tensor)
    return total / len(tokens)


def integrate(
    model: Model, prompts: Sequence[TracedPrompt], questions: Sequence[Sequence[Question]], steps: int
) -> list[Integrated]:
    """Returns the attributions of some rows' tokens.

    What is written for a row is held along the path: a Director that read other tokens at another α would jump.

    Args:
        model: the model.
        prompts: the rows' prompts.
        questions: the scores of each row, as many for each.
        steps: the points of the Gauss-Legendre sum.

    Raises:
        TrainingError: a single row does not fit into memory.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    # Two more points, of weight 0: the baseline and the prompt itself.
    alphas, shares = [0.0, 1.0, *((nodes + 1) / 2)], [0.0, 0.0, *(weights / 2)]
    limits = _limits(model)
    with one_at_a_time(model.method.device), dropout_off(model.method):
        held = _written(model, prompts, limits)
        with torch.no_grad():
            baseline = baseline_of(model)
        items = [(row, alpha) for row in range(len(prompts)) for alpha in alphas]

        def run(indexes: list[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
            rows = [items[index][0] for index in indexes]
            some = [prompts[row] for row in rows]
            paths = None if held is None else _padded([held[row] for row in rows])
            return _gradients(
                model, some, [items[index][1] for index in indexes], baseline, [questions[row] for row in rows], paths
            )

        results, order = run_in_buckets([len(prompts[row].tokens) for row, _ in items], limits, run)
    done = dict(zip(order, [one for batch in results for one in batch], strict=True))
    found, size = [], len(alphas)
    for row in range(len(prompts)):
        of_row = [done[row * size + step] for step in range(size)]
        tokens = torch.stack([weight * one[0] for weight, one in zip(shares, of_row, strict=True)]).sum(dim=0)
        found.append(Integrated(tokens, of_row[1][1], of_row[0][1], of_row[1][2], size))
    return found


def _gradients(
    model: Model,
    prompts: Sequence[TracedPrompt],
    alphas: Sequence[float],
    baseline: Float[Tensor, " size"],
    questions: Sequence[Sequence[Question]],
    held: Held | None,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Returns for each prompt and its α: what each token adds, by question, the scores, and the probabilities."""
    backbone, device = model.method.backbone, model.method.device
    ids, places = list[list[int]](), list[tuple[int, int]]()
    for item, prompt in enumerate(prompts):
        row = list(prompt.tokens)
        for position, place in enumerate(prompt.places):
            if place is not None:
                row[position] = FIRST + len(places)
                places.append((item, position))
        ids.append(row)
    real = torch.tensor([prompts[item].tokens[position] for item, position in places], dtype=torch.long, device=device)
    with torch.no_grad():
        embedded = embeddings_of(backbone, real)
        steps = embedded.double() - baseline
        along = torch.tensor([alphas[item] for item, _ in places], dtype=torch.float64, device=device)
        exact = embedded.dtype == torch.float64
        vectors = (baseline + along.unsqueeze(1) * steps).to(torch.float64 if exact else torch.float32)
    vectors.requires_grad_(True)
    with stand_ins(backbone, real, vectors), torch.enable_grad():
        tokens, mask = (tensor.to(device) for tensor in backbone.collate(ids))
        scores = scores_of(model, tokens, mask, questions, held)
        num_questions = scores.values.shape[1]
        added = []
        for index in range(num_questions):
            if not places:  # the prompts were cut before their first words
                added.append(torch.zeros(0, dtype=torch.float64))
                continue
            last = index + 1 == num_questions
            (gradient,) = torch.autograd.grad(
                scores.values[:, index].sum(), vectors, retain_graph=not last, materialize_grads=True
            )
            added.append((gradient.double() * steps).sum(dim=1).cpu())
    table = torch.zeros(num_questions, len(prompts), max(map(len, ids)), dtype=torch.float64)
    items, positions = torch.tensor(places, dtype=torch.long).reshape(-1, 2).T
    table[:, items, positions] = torch.stack(added)
    return [
        (table[:, item, : len(ids[item])], scores.values[item].detach().cpu(), scores.probabilities[item])
        for item in range(len(prompts))
    ]


def _written(model: Model, prompts: Sequence[TracedPrompt], limits: BatchLimits) -> list[Path] | None:
    """Returns what is written for each prompt where that is to be held, each without padding."""

    def run(rows: list[int]) -> list[Path] | None:
        tokens, mask = model.method.backbone.collate([prompts[row].tokens for row in rows])
        held = written_for(model, tokens.to(model.method.device), mask.to(model.method.device))
        return None if held is None else list(zip(*held, strict=True))

    results, order = run_in_buckets([len(prompt.tokens) for prompt in prompts], limits, run)
    paths = [path for batch in results for path in batch or ()]
    if not paths:
        return None
    by_row = dict(zip(order, paths, strict=True))
    return [by_row[row] for row in range(len(prompts))]


def _padded(paths: Sequence[Path]) -> Held:
    """Returns paths of rows as one batch."""
    symbols, masks = (
        torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True) for part in zip(*paths, strict=True)
    )
    length = max(int(masks.sum(dim=1).max()), 1)
    return symbols[:, :length], masks[:, :length]


def _limits(model: Model) -> BatchLimits:
    tokens = model.limits.tokens
    return replace(model.limits, tokens=None if tokens is None else max(int(tokens * GRADIENT_FRACTION), 1))
