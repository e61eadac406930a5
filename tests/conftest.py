"""What holds for every test: shapes in signatures are checked, and no test fails because the machine is slow.

Jaxtyping's hook, with beartype behind it, must be in place before the package is imported.
"""

import gc
import os

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ.setdefault("PREDGEN_BACKBONE", "builtin:nano")  # whatever the machine's default is
os.environ.setdefault("OMP_NUM_THREADS", "1")  # or the last bits would depend on what else runs
install_import_hook("predgen", "beartype.beartype")
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Tables of tests are small, and most are warned of; the tests of warnings ask for them (`pytest.warns`)."""
    config.addinivalue_line("filterwarnings", "ignore::predgen.PredGenWarning")


@pytest.fixture(autouse=True, scope="module")
def _collection_looks_at_new_objects_alone() -> None:
    """Every training run ends with a garbage collection, which takes a second over all that the libraries made."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from 50 draws instead of a thousand, where they are not what is tested."""
    from predgen.measures import statistics  # not before the hook above is installed

    monkeypatch.setattr(statistics, "RESAMPLES", 50)
