"""Which of the package's warnings some code gives."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import predgen


@contextmanager
def all_warnings() -> Iterator[list[predgen.PredGenWarning]]:
    """Yields a list; behind the block it holds the warnings that were given inside, as often as they were."""
    found: list[predgen.PredGenWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    found += [one.message for one in caught if isinstance(one.message, predgen.PredGenWarning)]
