"""Table files by their names: which form they have, whether they are compressed, and how they are opened."""

import gzip
from collections import Counter
from collections.abc import Sequence
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path

from predgen.errors import DataError, explain

COMPRESSED = ".gz"
TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")


def table_suffix(path: Path | str) -> str | None:
    """Returns the suffix that says a table's form, that before `.gz` of a compressed one; None of other files.

    Example:
        >>> table_suffix("rows.csv"), table_suffix("rows.JSON.gz"), table_suffix("rows.txt"), table_suffix("rows.gz")
        ('.csv', '.json', None, None)
    """
    name = Path(path)
    suffix = name.suffix.lower()
    if suffix == COMPRESSED:
        suffix = Path(name.stem).suffix.lower()
        return suffix if suffix in TEXT_SUFFIXES else None
    return suffix if suffix in SUFFIXES else None


def open_bytes(path: Path) -> BufferedIOBase:
    """Returns a file's bytes, those inside a compressed one."""
    return gzip.open(path, "rb") if path.suffix.lower() == COMPRESSED else path.open("rb")


def open_text(path: Path, errors: str = "surrogateescape") -> TextIOWrapper:
    """Returns a file's text, line ends as they are; bytes that are not UTF-8 become half surrogates."""
    if path.suffix.lower() == COMPRESSED:
        return TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", errors=errors, newline="")
    return path.open(encoding="utf-8-sig", errors=errors, newline="")


def is_utf8(texts: Sequence[str]) -> bool:
    """Returns whether UTF-8 can hold some texts: half of a surrogate pair is none."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def half_letter(*, where: str = "", row: int | None = None, column: str | None = None) -> DataError:
    """Returns the error for half of a surrogate pair; what is not known of its place is left out."""
    return DataError(
        explain(
            expected="text",
            found=f"half of a surrogate pair{where}",
            fix="Read the text again with its right encoding, such as UTF-8.",
            row=row,
            column=column,
        )
    )


def refuse_double_columns(names: Sequence[str]) -> None:
    """Refuses two columns of one name, and names that are no text.

    Raises:
        DataError: with the name.
    """
    half = next((name for name in names if not is_utf8([name])), None)
    if half is not None:
        raise half_letter(where=f" in the column's name {half!a}")
    twice = first_double(names)
    if twice is not None:
        raise DataError(explain(expected="every column name once", found=f"'{twice}' twice", fix="Rename one of them."))


def first_double(names: Sequence[str]) -> str | None:
    """Returns the first name that stands there twice; None if there is none."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
