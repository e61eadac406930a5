"""What a GGUF file says about itself: its metadata, and the names and types of its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from predgen.backbones.remembered import hash_of
from predgen.errors import BackboneError, require

MAGIC = b"GGUF"
SUFFIX = ".gguf"
ARCHITECTURE = "general.architecture"
TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"


def is_gguf(name: str) -> bool:
    """Returns whether a backbone's name is that of a GGUF file; a folder may have such a name too."""
    return name.lower().endswith(SUFFIX) and not Path(name).expanduser().is_dir()


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file, which is read when something of it is asked for.

    Attributes:
        path: where it is.
    """

    path: Path

    @classmethod
    def at(cls, path: Path) -> "GgufFile":
        """Returns the file at a path, of which no more than its first bytes were looked at.

        Raises:
            BackboneError: it is not there, or it is no GGUF file.
            MissingPackageError: gguf is not installed.
        """
        if not path.is_file():
            raise BackboneError(f"Expected a GGUF file at '{path}', found none. Check the path.")
        require("gguf", extra="gguf", what="a GGUF file as a backbone")
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
        if start != MAGIC:
            raise BackboneError(
                f"Expected a GGUF file in '{path}', found {len(start)} first bytes that are not '{MAGIC.decode()}'. "
                "Download or copy it again."
            )
        return cls(path)

    @cached_property
    def _said(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What the file says about itself: its metadata and its tensors.

        Raises:
            BackboneError: it is damaged, or it holds no language model.
        """
        from transformers.integrations.gguf import read_gguf_metadata

        try:
            metadata, tensors = read_gguf_metadata(str(self.path), (TOKENS, MERGES))
        except Exception as error:  # nearly anything, where bytes are not what they must be
            raise BackboneError(
                f"Expected a whole GGUF file in '{self.path}', found damage ({type(error).__name__}: {error}). "
                "Download or copy it again."
            ) from error
        if TOKENS not in metadata or not tensors:
            what = "no tokenizer" if tensors else "no tensors"
            raise BackboneError(
                f"Expected a language model in '{self.path}', found the architecture '{metadata[ARCHITECTURE]}' and "
                f"{what}. A vision projector, a vocabulary alone or an adapter cannot be a backbone: name the model's "
                "own file."
            )
        return metadata, tensors

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Its keys and values; the texts of `TOKENS` and `MERGES` whole."""
        return self._said[0]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its tensors' names, as llama.cpp calls them."""
        return self._said[1]

    @property
    def architecture(self) -> str:
        """The family, as llama.cpp calls it."""
        return str(self.metadata[ARCHITECTURE])

    def of_architecture(self, key: str) -> Any:
        """Returns what the file says under a key of its architecture, such as `rope.freq_base`; None if nothing."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def of_tokenizer(self, key: str) -> Any:
        """Returns what the file says of its tokenizer, such as `pre`; None if nothing."""
        return self.metadata.get(f"tokenizer.ggml.{key}")

    @property
    def stored_type(self) -> str:
        """The type of the weights as they are stored; float32 for blocks, which hold products of float16."""
        types = {tensor.tensor_type.name for tensor in self.reader.tensors} - {"F32"}  # norms are float32 in every file
        return {frozenset({"BF16"}): "bfloat16", frozenset({"F16"}): "float16"}.get(frozenset(types), "float32")

    def check_whole(self) -> None:
        """Refuses a file whose tensors are not all there.

        Raises:
            BackboneError: it ends too early, or its table of tensors is damaged.
        """
        assert self.reader.tensors is not None

    @cached_property
    def reader(self) -> Any:
        """The gguf library's view of the file, whose making takes seconds for a large vocabulary.

        Raises:
            BackboneError: the table of its tensors is damaged.
        """
        from gguf import GGUFReader

        try:
            return GGUFReader(self.path)
        except Exception as error:  # nearly anything, where bytes are not what they must be
            raise BackboneError(
                f"Expected a whole GGUF file in '{self.path}', found damage ({type(error).__name__}: {error}). "
                "Download or copy it again."
            ) from error

    @cached_property
    def content_hash(self) -> str:
        """The SHA-256 of the file."""
        return hash_of(self.path)
