"""How a command loads a fitted model: as soon as it can."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Lets Python collect no garbage while libraries are imported and a model is loaded.

    They make half a million objects, nearly all of which stay, and Python would look at them again and again: a fifth
    of the time of the imports, and once more when it exits. What was made so far is not looked at afterwards either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
