"""Columns of numbers that look like ids."""

from collections.abc import Sequence

from predgen.warning_kinds import IdTargetWarning, PredGenWarning

# A column of numbers looks like an id if this many rows or more all have different whole numbers, out of at most so
# many for each row.
MIN_ID_ROWS = 20
ID_SPREAD = 2.0


def id_doubts(values: Sequence[float], num_rows: int) -> list[PredGenWarning]:
    """Returns a warning where rows have different whole numbers that stand close together, as ids do.

    Args:
        values: the different numbers, ascending.
        num_rows: how many rows have them.
    """
    spread = values[-1] - values[0] + 1
    if len(values) < max(MIN_ID_ROWS, num_rows) or spread > ID_SPREAD * num_rows:
        return []
    if not all(value.is_integer() for value in values):
        return []
    return [
        IdTargetWarning(
            f"all {num_rows} training rows hold different whole numbers from {values[0]:.15g} to {values[-1]:.15g}: "
            "the column looks like an id, which nobody can predict. Name another column with --target."
        )
    ]
