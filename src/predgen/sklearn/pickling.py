"""A model in a pickle: its artifact as the bytes of an archive, the weights once."""

import io
import tarfile
import tempfile
from pathlib import Path

from predgen.models.loading import load
from predgen.models.model import Model

FOLDER = "artifact"


def packed(model: Model) -> bytes:
    """Returns a model's artifact as an archive."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="predgen-") as folder:
        model.save(Path(folder) / FOLDER)
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(Path(folder) / FOLDER, arcname=FOLDER)
    return buffer.getvalue()


def unpacked(archive: bytes) -> Model:
    """Returns the model of an archive that `packed` made.

    Raises:
        PredGenError: as `predgen.load`.
    """
    with tempfile.TemporaryDirectory(prefix="predgen-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(folder, filter="data")
        return load(Path(folder) / FOLDER)
