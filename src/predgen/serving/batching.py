"""Requests of many clients gathered into batches: a queue and one thread for each model."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from predgen.models.answer_warnings import AnswerWarnings
from predgen.models.asked import Asked
from predgen.models.model import Model
from predgen.serving.limits import Limits, Refused
from predgen.serving.rows import answers_of

log = logging.getLogger("predgen")

Answered = list[dict[str, Any]]
# Seconds after which to ask a full queue again, at most.
LONGEST_RETRY = 60


@dataclass(eq=False)
class Job:
    """Rows that wait for their answers.

    Attributes:
        table: the rows, checked.
        asked: what is asked for.
        arrived: when they came.
        answers: where the answers go.
    """

    table: pd.DataFrame
    asked: Asked
    arrived: float = field(default_factory=time.monotonic)
    answers: "Future[Answered]" = field(default_factory=Future)


class Batcher:
    """One model, its queue, and the thread that answers.

    A batch is what waits when the first of it has waited for the delay, up to `Model.limits.rows` rows; a request of
    more rows is a batch by itself. Rows that are asked for the same are one prediction, sorted by length. Each has the
    answer that it would have alone, up to the rounding that `Model.predict` has between batches.

    Args:
        model: what answers.
        limits: how many rows may wait, and how long the first one waits for others.
        on_batch: called after each prediction with its rows and how many of their prompts were cut.
    """

    def __init__(self, model: Model, limits: Limits, on_batch: Callable[[int, int], None]) -> None:
        self.model = model
        self.waiting = 0
        self._limits, self._on_batch = limits, on_batch
        self._most = model.limits.rows
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._rows_per_second = 0.0
        self._thread = threading.Thread(target=self._work, name="predgen-answers", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive() and not self._closed

    def submit(self, table: pd.DataFrame, asked: Asked, *, goes_on: bool = False) -> "Future[Answered]":
        """Returns where the answers for some rows will be; a future that is canceled in time costs nothing.

        Args:
            table: the rows, as `predgen.serving.rows.checked_table` returns them.
            asked: what is asked for, which the model has.
            goes_on: they are of a request that was taken: the queue has a place for them.

        Raises:
            Refused: the queue is full, or the server stops.
        """
        with self._changed:
            if not self.is_ready:
                raise Refused(503, "Stopping", "Expected a server that answers, found one that stops. Ask another.")
            # A request of more rows than may ever wait is taken where nothing else waits.
            if not goes_on and self.waiting and self.waiting + len(table) > self._limits.waiting_rows:
                raise Refused(
                    429,
                    "QueueFull",
                    f"Expected at most {self._limits.waiting_rows:,} rows that wait, found {self.waiting:,} and "
                    f"{len(table):,} more. Ask again later.",
                    retry_after=self._seconds_to_wait(),
                )
            job = Job(table, asked)
            self._jobs.append(job)
            self.waiting += len(table)
            self._changed.notify()
        return job.answers

    def close(self) -> None:
        """Answers what waits, takes nothing more, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _seconds_to_wait(self) -> int:
        rate = self._rows_per_second
        return max(1, min(LONGEST_RETRY, math.ceil(self.waiting / rate))) if rate else 1

    # ---- the thread

    def _work(self) -> None:
        while jobs := self._next_batch():
            wanted = [job for job in jobs if job.answers.set_running_or_notify_cancel()]
            for asked in dict.fromkeys(job.asked for job in wanted):
                self._answer([job for job in wanted if job.asked == asked], asked)

    def _next_batch(self) -> list[Job]:
        """Returns the jobs of the next batch, as soon as it is due; none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            due = self._jobs[0].arrived + self._limits.delay_ms / 1000
            while (left := due - time.monotonic()) > 0 and self.waiting < self._most and not self._closed:
                self._changed.wait(left)
            jobs = [self._jobs.popleft()]
            rows = len(jobs[0].table)
            while self._jobs and rows + len(self._jobs[0].table) <= self._most:
                jobs.append(self._jobs.popleft())
                rows += len(jobs[-1].table)
            self.waiting -= rows
            return jobs

    def _answer(self, jobs: list[Job], asked: Asked) -> None:
        """Answers jobs in one prediction; where that fails, each by itself, so that a fault hits its own job alone."""
        start = time.monotonic()
        try:
            tables = [job.table for job in jobs]
            answers = self._predict(pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0], asked)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].answers.set_exception(error)
                return
            log.warning("A batch of %d requests failed (%s); each is answered by itself.", len(jobs), error)
            for job in jobs:
                self._answer([job], asked)
            return
        rate = len(answers) / max(time.monotonic() - start, 1e-6)
        self._rows_per_second = rate if not self._rows_per_second else 0.8 * self._rows_per_second + 0.2 * rate
        first = 0
        for job in jobs:
            job.answers.set_result(answers[first : first + len(job.table)])
            first += len(job.table)

    def _predict(self, table: pd.DataFrame, asked: Asked) -> Answered:
        encoded = self.model.encode(table, asked)
        # What `predict` warns of is counted and not given: a server's log would say it again for each batch.
        answers = self.model.predict_encoded(encoded, asked, AnswerWarnings(self.model, asked))
        self._on_batch(len(table), encoded.num_cut)
        return answers_of(answers, asked.columns(self.model))
