"""A table through a model into a file, chunk by chunk: the next one is read and tokenized while the model works."""

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from predgen.catalogue import flat_table, held_out_flat, load_task
from predgen.models.answer_columns import INVALID
from predgen.models.answer_warnings import AnswerWarnings
from predgen.models.asked import Asked
from predgen.models.encoding import Encoded
from predgen.models.model import Model
from predgen.tables.saving import TableWriter
from predgen.tables.splits import stream_rows

# Rows are sorted by length inside a chunk: the larger it is, the less padding, and the later the first answers
# (docs/developers/log.md).
ROWS_PER_CHUNK = 4096


@dataclass(frozen=True)
class Streamed:
    """What was predicted so far.

    Attributes:
        rows: how many rows.
        invalid: how many of their answers are no value of the target.
        seconds: since the first row was asked for.
    """

    rows: int
    invalid: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows answered per second."""
        return self.rows / self.seconds


def predict_file(
    model: Model,
    source: str,
    writer: TableWriter,
    *,
    asked: Asked,
    task: str | None = None,
    ahead: bool = True,
    on_chunk: Callable[[Streamed], None] | None = None,
) -> Streamed:
    """Writes a table's rows with their answers, in the rows' order; memory does not grow with the rows.

    Args:
        model: what answers.
        source: a file, or a source with parts.
        writer: where the rows go; the file appears when all are written.
        asked: what is asked for.
        task: the task whose source has such rows, where they are not flat; of a folder, its test part is answered.
        ahead: as in `predict_chunks`.
        on_chunk: called after each chunk.

    Raises:
        PredGenError: as `stream_rows`, `Model.predict` and the writer raise it; nothing is written then.
    """
    start = time.perf_counter()
    done = Streamed(0, 0, 0.0)
    chunks = predict_chunks(model, _chunks(source, task), asked=asked, ahead=ahead)
    with writer, closing(chunks):
        for answers in chunks:
            writer.write(answers)
            invalid = done.invalid + int(answers[INVALID].sum())
            done = Streamed(done.rows + len(answers), invalid, time.perf_counter() - start)
            if on_chunk is not None:
                on_chunk(done)
    return Streamed(done.rows, done.invalid, time.perf_counter() - start)


def _chunks(source: str, task: str | None) -> Iterator[pd.DataFrame]:
    """Yields a source's rows, those of a task made flat."""
    if task is None:
        yield from stream_rows(source, ROWS_PER_CHUNK)
        return
    known = load_task(task)
    if Path(source).expanduser().is_file():
        for chunk in stream_rows(source, ROWS_PER_CHUNK):
            yield flat_table(known, chunk, with_target=False)
        return
    yield held_out_flat(known, source)


def predict_chunks(
    model: Model, chunks: Iterator[pd.DataFrame], *, asked: Asked, ahead: bool = True
) -> Generator[pd.DataFrame, None, None]:
    """Yields each chunk of rows with its answers.

    Args:
        model: what answers.
        chunks: the rows.
        asked: what is asked for.
        ahead: read, check and tokenize the next chunk in a thread while the model works on this one. At most one chunk
            is ahead, and a fault in it is raised when its turn has come, as without a thread.
    """
    asked.check(model)
    encoded = (model.encode(chunk, asked) for chunk in chunks)
    warnings = AnswerWarnings(model, asked)
    for rows in _one_ahead(encoded) if ahead else encoded:
        yield model.predict_encoded(rows, asked, warnings)
    warnings.give()


def _one_ahead(items: Iterator[Encoded]) -> Iterator[Encoded]:
    """Yields the items, the next one made in a thread meanwhile; leaving the loop waits for the one in the making."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="predgen-rows") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
