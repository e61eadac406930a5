"""What was found of models that were tried: what a model does exactly is tried once, not at each load."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from predgen.backbones.backbone import Backbone, Capabilities
from predgen.backbones.remembered import recall, remember
from predgen.backbones.sources import Source, weight_files
from predgen.backbones.weight_types import processor_name
from predgen.version import __version__

CHECKED_FILE = "checked.json"
# The number of this check: with another one, every model is tried anew.
VERSION = 1
# Models with at least so many bytes of weights are kept in the cache: of smaller ones the check costs nothing.
LARGE = 2**26

# What this process found: a comparison loads the same files for each of its fits.
_found: dict[tuple[Any, ...], tuple[Capabilities, int, int]] = {}


def choose_path_once(backbone: Backbone, source: Source, dtype: str) -> None:
    """Tries what a model does exactly, unless it was tried with the same files, libraries and processor.

    Args:
        backbone: the model.
        source: where its files are; it runs no code of theirs.
        dtype: the type of its weights.

    Raises:
        BackboneError: it is no model that can be used.
    """
    state = _state_of(source, dtype)
    if state not in _found:
        _found[state] = _recalled(backbone, source, dtype)
    backbone.capabilities, backbone.hidden_size, backbone.prompt_size = _found[state]


def _recalled(backbone: Backbone, source: Source, dtype: str) -> tuple[Capabilities, int, int]:
    """Returns what the cache says of a large model; it is tried where that says nothing."""
    is_large = sum(weight.nbytes for weight in backbone.parameters()) >= LARGE
    key = _key_of(source, dtype) if is_large else ""
    if is_large:
        try:
            kept = recall(CHECKED_FILE, key)
            return Capabilities(**kept["capabilities"]), int(kept["hidden_size"]), int(kept["prompt_size"])
        except (KeyError, TypeError, ValueError):  # nothing is kept, or it is damaged
            pass
    backbone.choose_path()
    capabilities, sizes = backbone.capabilities, (backbone.hidden_size, backbone.prompt_size)
    if is_large:
        kept = {"capabilities": asdict(capabilities), "hidden_size": sizes[0], "prompt_size": sizes[1]}
        remember(CHECKED_FILE, key, kept)
    return capabilities, *sizes


def _state_of(source: Source, dtype: str) -> tuple[Any, ...]:
    """Returns what changes with a model's files, and the type of its weights."""
    files = [source.gguf.path] if source.gguf is not None else weight_files(source.folder)
    stats = [(path, path.stat()) for path in sorted([*files, *source.folder.glob("config.json")])]
    return source.name, dtype, *((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats)


def _key_of(source: Source, dtype: str) -> str:
    """Returns what the answer depends on: the files, the type, the libraries and the processor's kernels."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return f"{source.content_hash()}, {dtype}, predgen {__version__}, check {VERSION}, {libraries}, {processor_name()}"
