"""Rows to prompts: a text with {column} fields, cut inside its longest field when it is too long.

The template itself is never cut, and every cut is counted.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from predgen.errors import TemplateError, explain, unknown_name

# What a rendered prompt has where the template has `<sep>`: the backbone puts its own separator there, or a line break.
SEPARATOR = "\x1e"
SEPARATOR_MARK = "<sep>"

# From a list of texts: for each, its token ids and the (start, end) of each token in the text's characters.
Tokenize = Callable[[list[str]], list[tuple[list[int], list[tuple[int, int]]]]]

# The same with a span for each token, None for a token that is no text.
TokenizePlaced = Callable[[list[str]], list[tuple[list[int], list[tuple[int, int] | None]]]]

# Escaped braces, a field, or text; a brace alone is a mistake. Not `string.Formatter`: it takes a column's ':' for a
# format and its '!' for a conversion.
_PIECE = re.compile(r"(?P<escaped>\{\{|\}\})|\{(?P<field>[^{}]*)\}|(?P<text>[^{}]+)|(?P<brace>[{}])")


@dataclass(frozen=True)
class TracedPrompt:
    """A prompt whose tokens know the cells that they are read from.

    Attributes:
        tokens: the token ids.
        places: for each token the column and the characters of its cell, `(column, start, end)`, as the table has it;
            None for a token of the template, and for a special one. A token that touches a cell is the cell's.
        kept: for each column how many of its cell's characters are read; fewer than it has where the prompt was cut.
        cut: whether it was cut.
    """

    tokens: list[int]
    places: list[tuple[str, int, int] | None]
    kept: dict[str, int]
    cut: bool


@dataclass(frozen=True)
class Template:
    """A prompt with `{column}` fields; `{{` and `}}` stand for braces, `<sep>` for the model's own separator of texts.

    Attributes:
        text: the template.
        fields: the columns that it names, each once, in order.
    """

    text: str
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, columns: Sequence[str]) -> "Template":
        """Returns the template of a text.

        Raises:
            TemplateError: the text has no field or is malformed.
            UnknownNameError: a field names no column.
        """
        try:
            pieces = _pieces(text)
        except ValueError as error:
            raise TemplateError(
                explain(
                    expected="a template with {column} fields",
                    found=f"{text!r} ({error})",
                    fix="Write {{ and }} for braces that are text.",
                )
            ) from error
        fields: list[str] = []
        for _, field in pieces:
            if field is None:
                continue
            if field not in columns and (not field or ":" in field or "!" in field):
                raise TemplateError(
                    explain(
                        expected="plain {column} fields",
                        found=f"{{{field}}}",
                        fix="Leave only the column's name between the braces.",
                    )
                )
            if field not in columns:
                raise unknown_name("column in the template", field, columns)
            if field not in fields:
                fields.append(field)
        if not fields:
            raise TemplateError(
                explain(
                    expected="at least one {column} field",
                    found=f"none in {text!r}",
                    fix=f"Columns: {', '.join(columns)}.",
                )
            )
        return cls(text, tuple(fields))

    @classmethod
    def default(cls, inputs: Sequence[str], target: str) -> "Template":
        """Returns one line for each input column, then the target's name with a colon."""

        def escape(text: str) -> str:
            return text.replace("{", "{{").replace("}", "}}")

        if not inputs:
            raise TemplateError("Expected at least one input column, found none. Name them with --inputs.")
        if any("{" in name or "}" in name for name in inputs):
            raise TemplateError("Expected column names without braces. Rename the column and use it again.")
        if any(SEPARATOR_MARK in name for name in (*inputs, target)):
            raise TemplateError(f"Expected column names without {SEPARATOR_MARK}. Rename the column and use it again.")
        lines = [f"{{{inputs[0]}}}"] if len(inputs) == 1 else [f"{name}: {{{name}}}" for name in inputs]
        return cls("\n".join([*lines, f"{escape(target)}:"]), tuple(inputs))

    @classmethod
    def texts_alone(cls, inputs: Sequence[str]) -> "Template":
        """Returns the input columns with separators between them, as models that read pairs of texts know them."""
        return cls(SEPARATOR_MARK.join(f"{{{name}}}" for name in inputs), cls.default(inputs, "").fields)

    def render(self, row: Mapping[str, Any]) -> str:
        """Returns the prompt of a row."""
        return self._fill(self._cells(row))

    def _cells(self, row: Mapping[str, Any]) -> dict[str, str]:
        return {field: _one_text(row[field]).strip() for field in self.fields}

    def _fill(self, cells: Mapping[str, str]) -> str:
        return "".join(text if field is None else cells[field] for text, field in self._parsed)

    @property
    def pieces(self) -> list[tuple[str, str | None]]:
        """Its pieces in order: each a text and None, or "" and a field's name."""
        return list(self._parsed)

    @cached_property
    def _parsed(self) -> list[tuple[str, str | None]]:
        return _pieces(self.text)

    def prompts(
        self, rows: Sequence[Mapping[str, Any]], tokenize: Tokenize, max_tokens: int
    ) -> tuple[list[list[int]], int]:
        """Returns the token ids of each row's prompt, and how many prompts were cut.

        Args:
            rows: the cells by column.
            tokenize: the backbone's tokenizer.
            max_tokens: the longest prompt.

        Raises:
            TemplateError: the template alone is longer than that.
        """
        encoded = [ids for ids, _ in tokenize([self.render(row) for row in rows])]
        num_cut = 0
        for index, ids in enumerate(encoded):
            if len(ids) > max_tokens:
                encoded[index] = self._cut(rows[index], tokenize, max_tokens)[0]
                num_cut += 1
        return encoded, num_cut

    def traced(self, row: Mapping[str, Any], tokenize: TokenizePlaced, max_tokens: int) -> TracedPrompt:
        """Returns the prompt of a row as `prompts` does, with the characters that each of its tokens is read from.

        Args:
            row: the cells by column.
            tokenize: the backbone's tokenizer.
            max_tokens: the longest prompt.

        Raises:
            TemplateError: the template alone is longer than that.
        """

        def plain(texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
            return [(ids, [span for span in spans if span is not None]) for ids, spans in tokenize(texts)]

        cells = self._cells(row)
        tokens, spans = tokenize([self._fill(cells)])[0]
        cut = len(tokens) > max_tokens
        if cut:
            cells = self._cut(row, plain, max_tokens)[1]
            tokens, spans = tokenize([self._fill(cells)])[0]
        # What stands before a cell's text in the table, and not in the prompt.
        before = {field: len(text) - len(text.lstrip()) for field in cells for text in [_one_text(row[field])]}
        ranges, start = list[tuple[str, int, int]](), 0
        for text, field in self._parsed:
            end = start + len(text if field is None else cells[field])
            if field is not None and end > start:
                ranges.append((field, start, end))
            start = end
        places = [None if span is None else _place(span, ranges, before) for span in spans]
        return TracedPrompt(tokens, places, {field: before[field] + len(cells[field]) for field in cells}, cut)

    def _cut(self, row: Mapping[str, Any], tokenize: Tokenize, max_tokens: int) -> tuple[list[int], dict[str, str]]:
        """Returns the prompt with its longest fields cut at their ends until it fits, and the fields as cut."""
        alone = len(tokenize([self._fill(dict.fromkeys(self.fields, ""))])[0][0])
        if alone > max_tokens:
            raise TemplateError(
                explain(
                    expected=f"a template of at most {max_tokens} tokens",
                    found=f"{alone} tokens without any field",
                    fix="Shorten the template, or raise --set max_prompt_tokens=… as far as the model goes.",
                )
            )
        cells = self._cells(row)
        uses = Counter(field for _, field in self._parsed)
        spans = dict(zip(cells, (offsets for _, offsets in tokenize(list(cells.values()))), strict=True))
        budget = max_tokens - alone
        while True:
            limit = _water_level([len(spans[field]) for field in cells for _ in range(uses[field])], budget)
            short = {
                field: text if len(spans[field]) <= limit else text[: spans[field][limit - 1][1] if limit else 0]
                for field, text in cells.items()
            }
            ids = tokenize([self._fill(short)])[0][0]
            if len(ids) <= max_tokens:
                return ids, short
            # Tokens at the seams between fields and template may be more than those of the parts.
            budget = max(budget - (len(ids) - max_tokens), 0)


def _one_text(cell: Any) -> str:
    """Returns a cell as text that holds no separator; each character stays where it is."""
    return str(cell).replace(SEPARATOR, " ")


def _place(
    span: tuple[int, int], ranges: Sequence[tuple[str, int, int]], before: Mapping[str, int]
) -> tuple[str, int, int] | None:
    """Returns the characters of a cell that a token is read from; of the cell that it has the most of.

    Args:
        span: the token's characters in the prompt.
        ranges: where each column's text stands in the prompt.
        before: how many characters of each cell stand before that text.
    """
    found, most = None, 0
    for field, start, end in ranges:
        first, last = max(span[0], start), min(span[1], end)
        if last - first > most:
            most, moved = last - first, before[field] - start
            found = field, first + moved, last + moved
    return found


def _pieces(text: str) -> list[tuple[str, str | None]]:
    """Returns a template's pieces in order: each a text and None, or "" and a field's name.

    Raises:
        ValueError: a brace that belongs to no field and is not doubled.
    """
    pieces: list[tuple[str, str | None]] = []
    for match in _PIECE.finditer(text):
        if match["brace"]:
            raise ValueError(f"a single '{match['brace']}' at character {match.start() + 1}")
        text = match["escaped"][0] if match["escaped"] else match["text"] or ""
        pieces.append((text.replace(SEPARATOR_MARK, SEPARATOR), match["field"]))
    return pieces


def _water_level(lengths: Sequence[int], budget: int) -> int:
    """Returns the largest limit for which the sum of min(length, limit) stays within the budget."""
    limit = 0
    while limit < max(lengths) and sum(min(length, limit + 1) for length in lengths) <= budget:
        limit += 1
    return limit
