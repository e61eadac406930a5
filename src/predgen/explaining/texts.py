"""The words of cells: where they stand, which tokens are theirs, and cells without some of them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

# Scripts that put no blanks between words: each sign is a word here (kana, and Han with its extensions).
_SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SIGN}]|[^\s{_SIGN}]+")

# The column of a word, and its first character and the one behind its last in the cell.
Span = tuple[str, int, int]


def word_spans(cells: Mapping[str, Any]) -> list[Span]:
    """Returns where the words of a row stand: what stands between blanks; of kana and Han characters each one.

    Args:
        cells: the input cells by column, in order.

    Example:
        >>> word_spans({"a": " A dog.", "b": "犬だ"})
        [('a', 1, 2), ('a', 3, 7), ('b', 0, 1), ('b', 1, 2)]
    """
    return [(column, *match.span()) for column, cell in cells.items() for match in _WORD.finditer(str(cell))]


def runs_of(spans: Sequence[Span], most: int) -> list[Span]:
    """Returns at most so many runs of neighboring words, of one length as far as columns allow; each word if they fit.

    Args:
        spans: of the words, column by column.
        most: the most runs; a column with words has one at least.
    """
    columns = list(dict.fromkeys(column for column, _, _ in spans))
    length = 1
    while True:
        runs = []
        for column in columns:
            words = [span for span in spans if span[0] == column]
            groups = [words[first : first + length] for first in range(0, len(words), length)]
            runs += [(column, group[0][1], group[-1][2]) for group in groups]
        if len(runs) <= max(most, len(columns)):
            return runs
        length += 1


def word_of_token(place: Span, spans: Sequence[Span]) -> int:
    """Returns the index of the word that a token belongs to: the one that it has the most characters of.

    A token of blanks alone belongs to the word behind it, or to the cell's last word.

    Args:
        place: what the token is read from.
        spans: of the words; one of them is in the token's column.
    """
    column, start, end = place
    of_column = [index for index, span in enumerate(spans) if span[0] == column]
    best = max(of_column, key=lambda index: min(end, spans[index][2]) - max(start, spans[index][1]))
    if min(end, spans[best][2]) > max(start, spans[best][1]):
        return best
    return next((index for index in of_column if spans[index][1] >= end), of_column[-1])


def without(cells: Mapping[str, Any], removed: Collection[Span]) -> dict[str, Any]:
    """Returns a row's cells without some of their words, each with the blanks behind it, or before a cell's last word.

    Args:
        cells: the input cells by column.
        removed: the spans to leave out, which do not overlap.

    Example:
        >>> without({"a": "not a good film"}, [("a", 0, 3), ("a", 11, 15)])
        {'a': 'a good'}
    """
    edited = dict(cells)
    for column, start, end in sorted(removed, key=lambda span: -span[1]):
        text = str(edited[column])
        rest = text[end:].lstrip()
        edited[column] = text[:start] + rest if rest else text[:start].rstrip()
    return edited
