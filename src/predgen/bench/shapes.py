"""What is measured: shapes of models, lengths of prompts, targets, number types."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from predgen.errors import ConfigError, unknown_name
from predgen.targets.number import Number

VOCABULARY = 32_000


@dataclass(frozen=True)
class Shape:
    """A Llama's shape over 32,000 tokens.

    Attributes:
        hidden_size: size of the states.
        layers: how many.
        heads: of attention.
        key_value_heads: of keys and values; fewer of them share.
        feed_forward: width inside a layer.
        tied: whether input and output share their embeddings.
        on_gpu: whether it is too large for a CPU.
    """

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    feed_forward: int
    tied: bool = True
    on_gpu: bool = False


SHAPES = {
    "6M": Shape(128, 10, 4, 4, 352),
    "26M": Shape(384, 8, 6, 6, 1024),
    "135M": Shape(768, 16, 12, 12, 1984),
    "1B": Shape(2048, 22, 32, 4, 5632, tied=False, on_gpu=True),  # as TinyLlama
    "7B": Shape(4096, 32, 32, 32, 11008, tied=False, on_gpu=True),  # as Llama-2-7b
}
# A number of five tokens with its forced point and end, and one of 15 digits and its end, of which each digit is free.
TARGETS = {
    "d.dd": Number(0.0, 5.0, decimals=2),
    "16-tokens": Number(1e14, 999_999_999_999_999.0, decimals=0),
}
PROMPT_TOKENS = (32, 128, 512)
DTYPES = ("float32", "bf16")


@dataclass(frozen=True)
class Cell:
    """One cell of the benchmark; the default is the one that the goals are for.

    Attributes:
        shape: a name of `SHAPES`.
        prompt_tokens: of each prompt.
        target: a name of `TARGETS`.
        dtype: of the weights.
        batch_size: rows of a batch.
    """

    shape: str = "26M"
    prompt_tokens: int = 128
    target: str = "d.dd"
    dtype: str = "float32"
    batch_size: int = 16

    def __post_init__(self) -> None:
        for what, name, known in (
            ("shape", self.shape, SHAPES),
            ("target", self.target, TARGETS),
            ("number type", self.dtype, DTYPES),
        ):
            if name not in known:
                raise unknown_name(what, name, list(known))
        if self.prompt_tokens < 2 or self.batch_size < 2:
            raise ConfigError(
                f"Expected prompts and batches of at least 2, found {self.prompt_tokens} tokens and "
                f"{self.batch_size} rows. Use larger ones."
            )

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.shape}-{self.prompt_tokens}-{self.target}-{self.dtype}-{self.batch_size}"

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def grid_of(cell: Cell, *, gpu: bool) -> Sequence[Cell]:
    """Returns all cells, the given one first.

    Args:
        cell: the first cell, whose batch size all others have.
        gpu: also the shapes that are too large for a CPU.
    """
    shapes = [name for name, shape in SHAPES.items() if gpu or not shape.on_gpu]
    every = [
        Cell(shape, prompt, target, dtype, cell.batch_size)
        for dtype, shape, target, prompt in itertools.product(DTYPES, shapes, TARGETS, PROMPT_TOKENS)
    ]
    return [cell, *(other for other in every if other != cell)]
