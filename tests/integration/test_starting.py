"""A command starts soon: no garbage is looked for while libraries are imported, and few of them are."""

import gc
import subprocess
import sys

import pytest

from predgen.cli.starting import without_collection


@pytest.fixture(autouse=True)
def collection_as_it_was() -> object:
    enabled = gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_again_afterwards_if_it_was(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    frozen = gc.get_freeze_count()
    made = []
    with pytest.raises(ValueError, match="no model"), without_collection():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
        raise ValueError("no model")
    assert gc.isenabled() == enabled
    assert gc.get_freeze_count() >= frozen + len(made)


def test_a_prediction_imports_no_library_of_metrics() -> None:
    code = (
        "import sys, predgen.models.answer_columns, predgen.models.loading, predgen.tables.saving\n"
        "print([m for m in ('scipy.stats', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]", found.stderr
