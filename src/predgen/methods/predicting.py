"""Answers for many prompts, in the order of the rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from predgen.backbones.base import dropout_off
from predgen.batches import buckets
from predgen.methods.base import Answers, Method


def answer_all(
    method: Method, prompts: Sequence[list[int]], *, batch_size: int, probabilities: bool = False
) -> Answers:
    """Returns the answers for all prompts, computed in batches of like length, in the order given.

    Args:
        method: the method, on its device.
        prompts: token ids.
        batch_size: rows of a batch. Float results can differ in their last bits between batch sizes.
        probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
    """
    answers = Answers([None] * len(prompts), [None] * len(prompts))
    found: dict[str, list[Tensor]] = {}
    order = []
    with dropout_off(method):
        for rows in buckets([len(prompt) for prompt in prompts], batch_size):
            tokens, mask = method.backbone.collate([prompts[row] for row in rows])
            part = method.answer(tokens.to(method.device), mask.to(method.device), probabilities=probabilities)
            for row, value, text in zip(rows, part.values, part.written, strict=True):
                answers.values[row], answers.written[row] = value, text
            order += rows
            for name in ("probabilities", "valid_mass", "deviations", "quantiles", "covered"):
                if getattr(part, name) is not None:
                    found.setdefault(name, []).append(getattr(part, name))
    back = torch.argsort(torch.tensor(order, dtype=torch.long))
    joined = {name: torch.cat(parts)[back] for name, parts in found.items()}
    return Answers(answers.values, answers.written, **joined)
