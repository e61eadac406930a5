"""Prediction batches: rows of similar length together, as many as fit into memory."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate.utils.memory import release_memory, should_reduce_batch_size

from predgen.backbones.base import dropout_off
from predgen.errors import TrainingError
from predgen.methods.answering import Answering
from predgen.methods.answers import Answers
from predgen.methods.base import Method
from predgen.threads import follow_load

log = logging.getLogger("predgen")
Result = TypeVar("Result")

# Prompt tokens of a prediction batch, padding included, where no setting says otherwise. On a CPU larger batches were
# slower: their tensors no longer fit into its caches (docs/developers/log.md).
CPU_BATCH_TOKENS = 4_096
DEVICE_BATCH_TOKENS = 16_384


@dataclass
class BatchLimits:
    """How large a prediction batch may be. A batch that does not fit into memory lowers the limits of later ones.

    Attributes:
        rows: the most rows of a batch.
        tokens: the most prompt tokens of a batch of several rows, padding included; None for no limit.
        warned: whether a lack of memory was warned of.
    """

    rows: int
    tokens: int | None = None
    warned: bool = False

    @classmethod
    def on(cls, device: torch.device, rows: int, tokens: int | None) -> "BatchLimits":
        """Returns the limits on a device, its own number of tokens if none is given."""
        device_tokens = CPU_BATCH_TOKENS if device.type == "cpu" else DEVICE_BATCH_TOKENS
        return cls(rows, device_tokens if tokens is None else tokens)

    @classmethod
    def of(cls, batch_size: "int | BatchLimits") -> "BatchLimits":
        """Returns limits as they are, or those of a number of rows."""
        return cls(batch_size) if isinstance(batch_size, int) else batch_size

    def rows_of(self, length: int) -> int:
        """Returns how many prompts fit into a batch whose longest prompt has `length` tokens; at least one."""
        return min(self.rows, self.rows if self.tokens is None else max(self.tokens // max(length, 1), 1))

    def halve(self, rows: int, length: int) -> None:
        """Halves what bounded a batch that did not fit into memory.

        Args:
            rows: of that batch.
            length: tokens of its longest prompt.
        """
        if self.tokens is None or rows < min(self.rows, self.tokens // max(length, 1)):
            self.rows = max(rows // 2, 1)  # there were no more
        elif rows == self.rows:
            self.rows //= 2
        else:
            self.tokens = rows * length // 2


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Returns the rows in the order of their lengths, so that too large a batch fails at once."""
    return sorted(range(len(lengths)), key=lambda row: -lengths[row])


def in_order(num_rows: int, batch_size: int) -> list[list[int]]:
    """Returns the batches of rows that are taken as they come: what buckets are to be compared with."""
    return [list(range(start, min(start + batch_size, num_rows))) for start in range(0, num_rows, batch_size)]


def run_in_buckets(
    lengths: Sequence[int], limits: BatchLimits, run: Callable[[list[int]], Result]
) -> tuple[list[Result], list[int]]:
    """Returns the result of each bucket, and the rows in the order in which they were taken.

    A bucket that does not fit into memory is halved, and so are the limits of all that follow.

    Args:
        lengths: tokens of each row.
        limits: what a batch keeps to.
        run: computes a batch from its rows.

    Raises:
        TrainingError: a single row does not fit.
    """
    order, results, start = longest_first(lengths), list[Result](), 0
    while start < len(order):
        follow_load()
        length = lengths[order[start]]
        rows = order[start : start + limits.rows_of(length)]
        size = len(rows)
        while not (computed := _attempt(run, rows)):
            limits.halve(len(rows), length)
            release_memory()
            rows = order[start : start + limits.rows_of(length)]
        if len(rows) < size:
            _say_what_fits(limits, rows=size, length=length)
        results += computed
        start += len(rows)
    return results, order


def _attempt(run: Callable[[list[int]], Result], rows: list[int]) -> list[Result]:
    """Returns a list of the batch's result; an empty list if the batch does not fit into memory.

    The error ends here: it would keep alive what the failed batch held.
    """
    try:
        return [run(rows)]
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        if len(rows) == 1:
            raise one_row_does_not_fit() from error
    return []


def _say_what_fits(limits: BatchLimits, *, rows: int, length: int) -> None:
    """Warns, the first time, of batches that had to be made smaller."""
    log.log(
        logging.INFO if limits.warned else logging.WARNING,
        "Out of memory with a prediction batch of %d rows of up to %d tokens: going on with at most %d rows%s. Set "
        "eval_batch_size or eval_batch_tokens to begin there.",
        rows,
        length,
        limits.rows,
        "" if limits.tokens is None else f" and {limits.tokens} tokens",
    )
    limits.warned = True


def lacks_memory(error: Exception) -> bool:
    """Returns whether an error says that a device, or the machine, has too little memory."""
    known = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
    return bool(known) or "MPS backend out of memory" in str(error)


def one_row_does_not_fit() -> TrainingError:
    """Returns the error for a row that is too large by itself."""
    return TrainingError(
        "Expected one row at a time to fit into memory, found that it does not. Use a smaller backbone, shorter "
        "prompts (--set max_prompt_tokens=…), or a larger device."
    )


def answer_all(
    method: Method,
    prompts: Sequence[list[int]],
    answering: Answering | None = None,
    *,
    batch_size: int | BatchLimits,
    probabilities: bool = False,
    marginal: bool = False,
) -> Answers:
    """Returns the answers for all prompts, computed in batches of like length, in the order given.

    Args:
        method: the method, on its device.
        prompts: token ids.
        answering: how answers are chosen; as `Method.usual_answering` says if not given.
        batch_size: the most rows of a batch, or the limits of its rows and tokens, which are lowered where memory
            lacks. Float results can differ in their last bits between batch sizes.
        probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
        marginal: as in `Method.answer`.

    Raises:
        TrainingError: a single row does not fit into memory.
    """
    answerings = [method.usual_answering() if answering is None else answering]
    return answer_all_each(
        method, prompts, answerings, batch_size=batch_size, probabilities=probabilities, marginal=marginal
    )[0]


def answer_all_each(
    method: Method,
    prompts: Sequence[list[int]],
    answerings: Sequence[Answering],
    *,
    batch_size: int | BatchLimits,
    probabilities: bool = False,
    marginal: bool = False,
    quantiles: Sequence[float] = (),
) -> list[Answers]:
    """Returns what `answer_all` does for several choices of answers, for which each prompt is read and written once.

    Args:
        method: the method, on its device.
        prompts: token ids.
        answerings: how answers are chosen; with one decoding.
        batch_size: as in `answer_all`.
        probabilities: as in `answer_all`.
        marginal: as in `Method.answer`.
        quantiles: as in `Method.answer_each`.

    Raises:
        TrainingError: a single row does not fit into memory.
    """

    def answer(rows: list[int]) -> list[Answers]:
        tokens, mask = (tensor.to(method.device) for tensor in method.backbone.collate([prompts[row] for row in rows]))
        return method.answer_each(
            tokens, mask, answerings, probabilities=probabilities, marginal=marginal, quantiles=quantiles
        )

    with dropout_off(method):
        batches, order = run_in_buckets([len(prompt) for prompt in prompts], BatchLimits.of(batch_size), answer)
    return [Answers.joined([batch[index] for batch in batches], order) for index in range(len(answerings))]
