"""Answers for many prompts, in the order of the rows."""

from collections.abc import Sequence

from predgen.backbones.base import dropout_off
from predgen.batches import buckets
from predgen.methods.base import Answers, Method


def answer_all(
    method: Method,
    prompts: Sequence[list[int]],
    *,
    batch_size: int,
    probabilities: bool = False,
    marginal: bool = False,
) -> Answers:
    """Returns the answers for all prompts, computed in batches of like length, in the order given.

    Args:
        method: the method, on its device.
        prompts: token ids.
        batch_size: rows of a batch. Float results can differ in their last bits between batch sizes.
        probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
        marginal: as in `Method.answer`.
    """
    parts, order = [], list[int]()
    with dropout_off(method):
        for rows in buckets([len(prompt) for prompt in prompts], batch_size):
            tokens, mask = method.backbone.collate([prompts[row] for row in rows])
            tokens, mask = tokens.to(method.device), mask.to(method.device)
            parts.append(method.answer(tokens, mask, probabilities=probabilities, marginal=marginal))
            order += rows
    return Answers.joined(parts, order)
