"""Answers for many prompts, in the order of the rows."""

from collections.abc import Sequence

from predgen.backbones.base import dropout_off
from predgen.methods.base import Answers, Method
from predgen.methods.buckets import BatchLimits, run_in_buckets


def answer_all(
    method: Method,
    prompts: Sequence[list[int]],
    *,
    batch_size: int | BatchLimits,
    probabilities: bool = False,
    marginal: bool = False,
) -> Answers:
    """Returns the answers for all prompts, computed in batches of like length, in the order given.

    Args:
        method: the method, on its device.
        prompts: token ids.
        batch_size: the most rows of a batch, or the limits of its rows and tokens, which are lowered where memory
            lacks. Float results can differ in their last bits between batch sizes.
        probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
        marginal: as in `Method.answer`.

    Raises:
        TrainingError: a single row does not fit into memory.
    """

    def answer(rows: list[int]) -> Answers:
        tokens, mask = method.backbone.collate([prompts[row] for row in rows])
        return method.answer(
            tokens.to(method.device), mask.to(method.device), probabilities=probabilities, marginal=marginal
        )

    with dropout_off(method):
        parts, order = run_in_buckets([len(prompt) for prompt in prompts], BatchLimits.of(batch_size), answer)
    return Answers.joined(parts, order)
