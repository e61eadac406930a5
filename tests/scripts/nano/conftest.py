"""What the tests of the scripts of builtin:nano share: one prepared text."""

from pathlib import Path

import pytest

from scripts.nano import prepare_nano_text as prepare
from tests.scripts.nano.corpus import HELD_OUT, corpus_of, write_corpus


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the prepared text, which no test changes; its corpus lies beside it."""
    folder = tmp_path_factory.mktemp("prepared")
    corpus = write_corpus(folder / "corpus", corpus_of())
    prepare.main([str(corpus), "--out", str(folder / "text"), "--vocabulary", "300", "--held-out", str(HELD_OUT)])
    return folder / "text"
