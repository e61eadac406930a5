"""What the tests of loading share."""

from pathlib import Path

import pytest

from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Returns the folder of a tiny Llama."""
    tokenizer = byte_level_tokenizer()
    save_model(tmp_path / "llama", tiny_model("llama", len(tokenizer)), tokenizer)
    return tmp_path / "llama"
