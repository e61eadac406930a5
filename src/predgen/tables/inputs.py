"""Input columns: which are free text, whether cells are missing, and which nearly give the target away."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from predgen.errors import DataError, explain
from predgen.tables.reading import row_numbers
from predgen.targets.cells import describe, is_missing, label_key, parse_number

MIN_MEAN_WORDS = 3.0
MIN_DIFFERENT_FRACTION = 0.2
# A column gives the target away if it explains at least this share of what can be explained.
LEAK_SHARE = 0.95
LEAK_CORRELATION = 0.98
LEAK_CONTAINED = 0.9
LEAK_MIN_ROWS = 20


def infer_inputs(table: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """Returns the free-text columns.

    A column is free text if it is none of the targets, its cells that are not empty are text and mostly no numbers,
    with 3 words or more on average, and at least a fifth of the cells differ (sentences that recur in
    several pairs are free text, a few fixed phrases are not).

    Raises:
        DataError: there is none.
    """
    chosen = []
    for name in table.columns:
        cells = [cell for cell in table[name] if not is_missing(cell)]
        if name in targets or not cells or not all(isinstance(cell, str) for cell in cells):
            continue
        if sum(parse_number(cell) is not None for cell in cells) > len(cells) / 2:
            continue
        words = sum(len(cell.split()) for cell in cells) / len(cells)
        if words >= MIN_MEAN_WORDS and len(set(cells)) >= MIN_DIFFERENT_FRACTION * len(cells):
            chosen.append(str(name))
    if not chosen:
        others = ", ".join(str(name) for name in table.columns if name not in targets) or "none but the target"
        raise DataError(
            explain(
                expected="a column of free text (3 words or more on average)",
                found=f"none among the columns: {others}",
                fix="Name the input columns with --inputs.",
            )
        )
    return chosen


def check_inputs(table: pd.DataFrame, inputs: Sequence[str]) -> None:
    """Refuses a row whose input is missing.

    Raises:
        DataError: the message names row and column.
    """
    for name in inputs:
        for row, cell in zip(row_numbers(table), table[name], strict=True):
            if is_missing(cell):
                raise DataError(
                    explain(
                        expected="input text",
                        found=describe(cell),
                        fix="Fill the cell or remove the row.",
                        row=row,
                        column=name,
                    )
                )


def leak_warnings(table: pd.DataFrame, inputs: Sequence[str], target: str) -> list[str]:
    """Returns a sentence for each input column that nearly gives the target away.

    A column does so if its cells are numbers that follow a number target (correlation over 0.98), or if rows that
    share its value share the target as well (a label, or a number to 5 % of its variance, beyond chance), or if the
    target's own text stands in the cell as a word of its own in over 90 % of a target's rows on average, where the
    text of another row's target does not.
    """
    warnings = []
    for name in inputs:
        reason = _correlated(table, name, target) or _shared(table, name, target) or _contained(table, name, target)
        if reason:
            warnings.append(
                f"The input column '{name}' nearly gives the target '{target}' away: {reason}. Will it be there when "
                "you predict? If not, leave it out (--inputs)."
            )
    return warnings


def constant_inputs(table: pd.DataFrame, inputs: Sequence[str]) -> list[str]:
    """Returns the input columns that hold the same in all rows of a table, which has several."""
    return [name for name in inputs if len(table) > 1 and table[name].map(str).nunique() == 1]


def shared_rows(table: pd.DataFrame, others: pd.DataFrame, inputs: Sequence[str]) -> int:
    """Returns how many rows of a table have the inputs of a row of another one."""
    rows, known = (zip(*(part[name].map(str) for name in inputs), strict=True) for part in (table, others))
    seen = set(known)
    return sum(row in seen for row in rows)


def _correlated(table: pd.DataFrame, name: str, target: str) -> str | None:
    pairs = [(parse_number(cell), parse_number(truth)) for cell, truth in zip(table[name], table[target], strict=True)]
    known = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
    if len(known) < max(LEAK_MIN_ROWS, 0.9 * len(pairs)) or np.any(known.std(axis=0) == 0):
        return None
    correlation = float(np.corrcoef(known[:, 0], known[:, 1])[0, 1])
    return f"its numbers follow it (correlation {correlation:.3f})" if abs(correlation) > LEAK_CORRELATION else None


def _shared(table: pd.DataFrame, name: str, target: str) -> str | None:
    """Predicts each row from the other rows of the same value; a value that occurs once predicts nothing."""
    frame = pd.DataFrame({"value": table[name].map(str), "truth": list(table[target])})
    frame = frame[frame.groupby("value")["value"].transform("size") >= 2]
    if len(frame) < max(LEAK_MIN_ROWS, 0.5 * len(table)):
        return None
    numbers = frame["truth"].map(parse_number)
    if numbers.notna().all() and numbers.nunique() > 10:
        numbers = numbers.astype(float)
        inside = float(((numbers - numbers.groupby(frame["value"]).transform("mean")) ** 2).sum())
        explained = 1 - inside / max(float(((numbers - numbers.mean()) ** 2).sum()), 1e-12)
        groups = frame["value"].nunique()
        # What groups of this size explain by chance alone.
        chance = (groups - 1) / max(len(frame) - 1, 1)
    else:
        keys = frame["truth"].map(label_key)
        base = float(keys.value_counts(normalize=True).iloc[0])
        counts = keys.groupby(frame["value"]).transform("size")
        same = keys.groupby([frame["value"], keys]).transform("size")
        agreement = float(((same - 1) / (counts - 1)).mean())
        explained, chance = (agreement - base) / max(1 - base, 1e-12), 0.0
    adjusted = (explained - chance) / max(1 - chance, 1e-12)
    return "rows that share its value share the target" if adjusted > LEAK_SHARE else None


def _contained(table: pd.DataFrame, name: str, target: str) -> str | None:
    wanted = np.array([_words(label_key(cell)) for cell in table[target]], dtype=object)
    if len(table) < LEAK_MIN_ROWS or len(set(wanted)) < 2:
        return None
    texts = [_words(str(cell)) for cell in table[name]]
    contained = pd.Series([answer in text for answer, text in zip(wanted, texts, strict=True)])
    # Each target counts the same, so that a frequent label's common word ("no") is not enough.
    share = float(contained.groupby(wanted).mean().mean())
    # A text that names every label (a question with its choices) gives nothing away.
    others = np.random.default_rng(0).permutation(wanted)
    chances = [other in text for answer, other, text in zip(wanted, others, texts, strict=True) if answer != other]
    by_chance = float(np.mean(chances)) if chances else 1.0
    return "its text holds the answer" if share > LEAK_CONTAINED and by_chance < 0.5 else None


_WORD = re.compile(r"(?<!\w)-?\d+(?:[.,]\d+)*(?!\w)|\w+")


def _words(text: str) -> str:
    """Returns the words and numbers of a text, each between spaces; 1,000 becomes 1000."""
    words = (word.replace(",", "") for word in _WORD.findall(text.casefold()))
    return f" {' '.join(words)} "
