"""From rows to prompts in tokens: the work of a prediction before the model runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from predgen.backbones.template import TracedPrompt
from predgen.errors import DataError, explain
from predgen.methods import Method
from predgen.models.contents import Contents
from predgen.tables.inputs import check_inputs
from predgen.tables.reading import require_columns
from predgen.warning_kinds import CutPromptsWarning


@dataclass(frozen=True)
class Encoded:
    """Rows that are checked, and their prompts.

    Attributes:
        table: the rows.
        prompts: the token ids of each.
        num_cut: how many prompts were cut.
    """

    table: pd.DataFrame
    prompts: list[list[int]]
    num_cut: int

    def some(self, most: int) -> "Encoded":
        """Returns at most that many rows, spread evenly."""
        rows = range(0, len(self.prompts), -(-len(self.prompts) // most))
        return Encoded(self.table.iloc[list(rows)], [self.prompts[row] for row in rows], self.num_cut)


def encode_rows(method: Method, contents: Contents, table: pd.DataFrame, added: Sequence[str] = ()) -> Encoded:
    """Returns a table's rows, checked and encoded.

    Args:
        method: the method that will answer.
        contents: its template and settings.
        table: the rows.
        added: columns that the answers will add.

    Raises:
        DataError: an input is missing, or a column has the name of an answer's.
        UnknownNameError: an input column is missing.
    """
    taken = [name for name in added if name in table.columns]
    if taken:
        raise DataError(
            explain(
                expected="input columns whose names are free for the output",
                found=f"a column '{taken[0]}'",
                fix="Rename that column.",
            )
        )
    require_columns(table, contents.template.fields)
    check_inputs(table, contents.template.fields)
    return Encoded(table, *encode_prompts(method, contents, table))


def encode_prompts(method: Method, contents: Contents, table: pd.DataFrame) -> tuple[list[list[int]], int]:
    """Returns the prompts of a table's rows as token ids, and how many were cut."""
    rows = _rows_of(contents, table)
    return contents.template.prompts(rows, method.backbone.tokenize_prompts, _longest(method, contents))


def trace_prompts(method: Method, contents: Contents, table: pd.DataFrame) -> list[TracedPrompt]:
    """Returns the prompts that `encode_prompts` makes, whose tokens know the characters that they are read from."""
    tokenize, longest = method.backbone.tokenize_placed, _longest(method, contents)
    return [contents.template.traced(row, tokenize, longest) for row in _rows_of(contents, table)]


def _rows_of(contents: Contents, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the input cells of each row."""
    fields = list(contents.template.fields)
    return [dict(zip(fields, cells, strict=True)) for cells in table.loc[:, fields].itertuples(index=False, name=None)]


def _longest(method: Method, contents: Contents) -> int:
    """Returns the most tokens of a prompt that settings and backbone allow."""
    return min(contents.config.model.max_prompt_tokens, _room(method, contents))


def cut_warning(method: Method, contents: Contents, num_cut: int, num_rows: int, part: str = "") -> CutPromptsWarning:
    """Returns what is said of prompts that were cut.

    Args:
        method: the method that reads them.
        contents: its settings.
        num_cut: how many were cut.
        num_rows: of how many.
        part: of which part they are, such as `training`.
    """
    most, room = contents.config.model.max_prompt_tokens, _room(method, contents)
    raised = f"Raise max_prompt_tokens, at most to {room}, or shorten" if most < room else "Shorten"
    prompts = f"{part} prompts".strip()
    return CutPromptsWarning(
        f"{num_cut} of {num_rows} {prompts} were cut inside their longest field ({100 * num_cut / num_rows:.0f} %): "
        f"they may have {min(most, room)} tokens. {raised} the longest column, or leave it out."
    )


def _room(method: Method, contents: Contents) -> int:
    """Returns the most tokens of a prompt that the backbone can read before an answer."""
    return method.backbone.longest_prompt(method.max_written(contents.answering.decoding))
