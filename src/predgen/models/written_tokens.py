"""What was written, token by token, with the probability of each."""

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from predgen.backbones.base import dropout_off
from predgen.errors import DataError
from predgen.methods import Generator, PredGen
from predgen.methods.buckets import run_in_buckets
from predgen.methods.writer import Writer
from predgen.models.answer_columns import WRITTEN, WRITTEN_TOKENS
from predgen.models.encoding import Encoded
from predgen.models.one_at_a_time import one_at_a_time
from predgen.writing.sampling import scores_after

if TYPE_CHECKING:
    from predgen.models.model import Model

# Digits of a probability: more than float32 has would be noise.
DIGITS = 7


def with_written_tokens(table: pd.DataFrame, model: "Model", encoded: Encoded) -> pd.DataFrame:
    """Returns answers with the column `written_tokens`, whose cells are JSON.

    Args:
        table: the answers.
        model: what gave them; it writes.
        encoded: the rows that they answer.

    Raises:
        DataError: the rows have a column of that name.
        TrainingError: a single row does not fit into memory.
    """
    if WRITTEN_TOKENS in table.columns:
        raise DataError(f"Expected a free name for the output, found a column '{WRITTEN_TOKENS}'. Rename that column.")
    tokens = written_tokens(model, encoded, table[WRITTEN].tolist())
    cells = [None if of_row is None else json.dumps(of_row, ensure_ascii=False) for of_row in tokens]
    return table.assign(**{WRITTEN_TOKENS: pd.Series(cells, index=table.index, dtype=object)})


@torch.no_grad()
def written_tokens(model: "Model", encoded: Encoded, written: list[str | None]) -> list[list[dict[str, Any]] | None]:
    """Returns the tokens of some texts, each with its probability after the prompt and the tokens before it.

    It is the Writer's: among the tokens that the automaton allows, or among all where the Writer's softmax is full. The
    last token ends the target, so that the product over a row is the probability of its text.

    Args:
        model: a model that writes.
        encoded: the rows.
        written: of each row a target's text; of another text, or None, there are no tokens.

    Raises:
        TrainingError: a single row does not fit into memory.
    """
    method = model.method
    assert isinstance(method, Generator | PredGen)  # `Asked.check` refuses others
    values = [None if text is None else model.target.from_text(text) for text in written]
    known = [row for row, value in enumerate(values) if value is not None]

    def run(rows: list[int]) -> list[list[dict[str, Any]]]:
        of_batch = [known[row] for row in rows]
        prompts = method.backbone.collate([encoded.prompts[row] for row in of_batch])
        return _scored(method.writer, prompts, [values[row] for row in of_batch])

    with one_at_a_time(method.device), dropout_off(method):
        lengths = [len(encoded.prompts[row]) for row in known]
        batches, order = run_in_buckets(lengths, model.limits, run)
    found: list[list[dict[str, Any]] | None] = [None] * len(written)
    for row, tokens in zip(order, [tokens for batch in batches for tokens in batch], strict=True):
        found[known[row]] = tokens
    return found


def _scored(
    writer: Writer, prompts: tuple[torch.Tensor, torch.Tensor], values: list[Any]
) -> list[list[dict[str, Any]]]:
    """Returns the tokens of a value after each prompt of a batch."""
    symbols, codec = writer.symbols, writer.symbols.codec
    paths = codec.encode(values)
    prompt, mask = (tensor.to(symbols.device) for tensor in prompts)
    scores = scores_after(symbols, symbols.read(prompt, mask), paths, paths.symbols)
    chosen = scores.gather(2, paths.symbols.unsqueeze(-1)).squeeze(-1).double().exp()
    ids, end = codec.symbols[paths.symbols], int(codec.symbols[codec.end_symbol])
    return [
        [
            {"token": _text(symbols.backbone.tokenizer, token, token == end), "probability": probability}
            for token, probability, is_part in zip(*of_row, strict=True)
            if is_part
        ]
        for of_row in zip(ids.tolist(), _rounded(chosen), paths.mask.tolist(), strict=True)
    ]


def _rounded(probabilities: torch.Tensor) -> list[list[float]]:
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in probabilities.tolist()]


def _text(tokenizer: Any, token: int, ends: bool) -> str:
    """Returns a token as it stands in the text; the one that ends a target by its name."""
    if ends:
        return str(tokenizer.convert_ids_to_tokens(token))
    return str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
