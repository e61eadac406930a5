"""What the parts of a table are warned of before a fit: their inputs, and labels that the validation part lacks."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from predgen.tables.inputs import constant_inputs, leak_warnings, shared_rows
from predgen.tables.splits import Splits
from predgen.targets.field import ALONE
from predgen.targets.record import Target, field_values
from predgen.warning_kinds import ConstantInputWarning, LeakWarning, MissingLabelsWarning, SharedRowsWarning, warn


def warn_of_inputs(splits: Splits, inputs: Sequence[str], targets: Sequence[str], train: pd.DataFrame) -> None:
    """Warns of inputs that give the target away, that hold the same in all rows, or that several parts share.

    Args:
        splits: the parts.
        inputs: the input columns.
        targets: the columns of the target.
        train: the training rows, their numbers as they were read.
    """
    for target in targets:
        for leak in leak_warnings(train, list(inputs), target):
            warn(LeakWarning(leak))
    for name in constant_inputs(train, inputs):
        warn(
            ConstantInputWarning(
                f"The input column '{name}' holds the same in all {len(train)} training rows: nothing can be learned "
                "from it. Leave it out (--inputs)."
            )
        )
    held_out = {"validation": splits.validation, "test": splits.test, "calibration": splits.calibration}
    for part, table in held_out.items():
        shared = 0 if table is None else shared_rows(table, train, inputs)
        if table is not None and shared:
            warn(
                SharedRowsWarning(
                    f"{shared} of {len(table)} {part} rows have the inputs of a training row: what is measured on them "
                    "says little of new rows. Remove them, or split by a column that such rows share (--group)."
                )
            )


def warn_of_missing_labels(target: Target, train: Sequence[Any], validation: Sequence[Any]) -> None:
    """Warns of labels that training rows have and no validation row.

    Args:
        target: what is predicted.
        train: the training values.
        validation: the validation values.
    """
    for name, field in target.fields.items():
        known, seen = (
            {label for value in field_values(target, values, name) for label in field.labels_in(value)}
            for values in (train, validation)
        )
        missing = [str(label) for label in field.labels if label in known - seen]
        if missing:
            where = "" if name == ALONE else f"Target '{name}': "
            names = ", ".join(f"'{label}'" for label in missing[:5]) + (", …" if len(missing) > 5 else "")
            warn(
                MissingLabelsWarning(
                    f"{where}{len(missing)} of {len(known)} labels are in no row of the {len(validation)} validation "
                    f"rows ({names}): nothing is measured of them there. Give more validation rows (--split)."
                )
            )
