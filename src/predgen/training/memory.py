"""Smaller batches where memory lacks."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accelerate.utils.memory import release_memory

from predgen.config import TrainSettings
from predgen.files import write_text
from predgen.methods.buckets import lacks_memory, one_row_does_not_fit
from predgen.parallel.processes import is_first, wait_for_all
from predgen.training.checkpoints import CHECKPOINTS

log = logging.getLogger("predgen")
Result = TypeVar("Result")

BATCHES_FILE = "batches.json"
BATCH_SETTINGS = ("batch_size", "accumulation", "eval_batch_size")


def with_smaller_batches(folder: Path, settings: TrainSettings, attempt: Callable[[TrainSettings], Result]) -> Result:
    """Returns what an attempt does, made again with smaller batches for as long as memory lacks.

    Args:
        folder: the run's.
        settings: the training settings to begin with.
        attempt: trains with some settings.

    Raises:
        TrainingError: a single row does not fit into memory.
    """
    while True:
        try:
            return attempt(settings)
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
        # Outside the handler, which keeps alive what the failed step held.
        settings = after_lack_of_memory(folder, settings)


def smaller_batches(settings: TrainSettings) -> TrainSettings:
    """Returns settings that need less memory and step over the same number of rows.

    The batch is at most half as large and is accumulated as many times more; prediction batches are halved.

    Raises:
        TrainingError: one row at a time is as small as a batch can be.
    """
    rows = settings.batch_size * settings.accumulation
    size = next((size for size in range(settings.batch_size // 2, 0, -1) if rows % size == 0), None)
    if size is None:
        raise one_row_does_not_fit()
    return settings.model_copy(
        update={
            "batch_size": size,
            "accumulation": rows // size,
            "eval_batch_size": max(settings.eval_batch_size // 2, 1),
        }
    )


def after_lack_of_memory(folder: Path, settings: TrainSettings) -> TrainSettings:
    """Returns smaller batches to begin again with; a resumed run keeps to them.

    Raises:
        TrainingError: there are none.
    """
    smaller = smaller_batches(settings)
    log.warning(
        "Out of memory with batches of %d rows: beginning again with %d, accumulated %d times.",
        settings.batch_size,
        smaller.batch_size,
        smaller.accumulation,
    )
    release_memory()
    wait_for_all()
    if is_first():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # of other batches
        sizes = {name: getattr(smaller, name) for name in BATCH_SETTINGS}
        write_text(folder / BATCHES_FILE, json.dumps(sizes) + "\n")
    wait_for_all()
    return smaller


def batches_in(folder: Path, settings: TrainSettings) -> TrainSettings:
    """Returns the settings with the batches that the run had come down to."""
    file = folder / BATCHES_FILE
    return settings.model_copy(update=json.loads(file.read_text(encoding="utf-8"))) if file.exists() else settings
