"""The stated rule by which the kind of a column is inferred."""

import re
from collections.abc import Sequence

from predgen.targets.cells import Cell, describe, parse_number
from predgen.targets.date_cells import date_hint
from predgen.targets.distribution import looks_like_shares
from predgen.targets.label_set import delimiter_of, is_broken_list, is_empty, items_of
from predgen.targets.number_formats import formats_hint

# Whole numbers with at most this many different values are taken as labels unless a kind is declared.
MAX_INTEGER_LABELS = 10
# A column is called a number column if at least this share of its cells are numbers.
NUMBER_SHARE = 0.9
# Codes such as 00501, 07 or 008.45, whose zeros a number would lose.
_PADDED = re.compile(r"0\d+(\.\d+)?")
# A word in brackets, such as [deleted], which is a label of its own.
_BRACKETED_WORD = re.compile(r"\[[^\[\]\"',]*\]")


def infer_kind(cells: Sequence[Cell]) -> tuple[str, str]:
    """Returns whether a column holds numbers or labels, and the reason in words.

    Whole numbers with at most 10 different values are labels; other columns of numbers are numbers; a column
    where at least nine cells in ten are numbers is a number column with mistakes in it. Cells that are all lists, or
    lists in JSON, are sets of labels; so is text with a | or ; between pieces that recur. Cells that are all objects in
    JSON, labels with numbers, are distributions over labels. The rest are labels. Numbers with leading zeros, such as
    postal codes, are labels. Formatted numbers are labels too, and the reason names the format that would read them.
    """
    present = [cell for cell in cells if not is_empty(cell)]
    if present and all(isinstance(cell, list | tuple) or _begins_list(cell) for cell in present):
        return "set", "its cells are lists"
    if _are_sets(present):
        return "set", f"its cells are labels with {delimiter_of(present)} between them"
    if present and all(map(looks_like_shares, present)):
        return "distribution", "its cells are shares of labels"
    numbers = [value for value in map(parse_number, present) if value is not None]
    distinct = len(set(numbers))
    if not present or len(numbers) < NUMBER_SHARE * len(present):
        return "label", "its cells are not numbers" + _looks_like(present)
    padded = next((cell for cell in present if isinstance(cell, str) and _PADDED.fullmatch(cell.strip())), None)
    if padded is not None:
        return "label", f"its cells have leading zeros, as codes do: {describe(padded)} (declare 'number' otherwise)"
    if distinct <= MAX_INTEGER_LABELS and all(value.is_integer() for value in numbers):
        return (
            "label",
            f"it holds only {distinct} different whole numbers (declare the kind 'number' otherwise)",
        )
    return "number", "its cells are numbers"


def _looks_like(cells: Sequence[Cell]) -> str:
    """Returns what most cells seem to be, and what to declare of them; nothing where they are plain words."""
    for hint_of, nouns in ((formats_hint, "numbers"), (date_hint, "dates")):
        hints = [(cell, hint) for cell in cells if (hint := hint_of(cell))]
        if len(hints) >= NUMBER_SHARE * len(cells) and hints:
            cell, hint = hints[0]
            return (
                f" as they stand, such as {describe(cell)} ({hint[0].lower()}{hint[1:]} if they are meant as {nouns})"
            )
    return ""


def _begins_list(cell: Cell) -> bool:
    """Returns whether a cell is text that is a list, or is meant as one; `[removed]` is neither."""
    text = str(cell).strip()
    return text.startswith("[") and (not is_broken_list(text) or not _BRACKETED_WORD.fullmatch(text))


def _are_sets(cells: Sequence[Cell]) -> bool:
    """Returns whether cells of text list labels: some hold several, and the pieces are few and recur."""
    delimiter = delimiter_of(cells)
    if delimiter not in ("|", ";") or not all(isinstance(cell, str) for cell in cells):
        return False
    labels_of_cells = [items_of(cell, delimiter) for cell in cells]
    if any(isinstance(item, list | tuple | set | dict) for labels in labels_of_cells for item in labels):
        return False  # a list in a list is no label
    different = {item for labels in labels_of_cells for item in labels}
    several = sum(len(labels) > 1 for labels in labels_of_cells)
    return several > 0 and 2 * len(different) <= sum(map(len, labels_of_cells))
