"""What each training row weighs: a column of weights, times the weights of its labels."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from predgen.config import DataSettings
from predgen.errors import ConfigError, DataError, unknown_name
from predgen.tables.values import weights_in
from predgen.targets.cells import label_key
from predgen.targets.field import Field
from predgen.targets.record import Target

log = logging.getLogger("predgen")


def training_weights(
    settings: DataSettings, target: Target, values: Sequence[Any], table: pd.DataFrame
) -> Float[np.ndarray, " row"] | None:
    """Returns what the losses of each training row are multiplied by, 1 on average; None where all count alike.

    A row's weight is that of its cell in the column `weight`, times that of its label (`class_weights`).

    Args:
        settings: which column, which labels.
        target: what is predicted.
        values: of the training rows.
        table: the training rows.

    Raises:
        ConfigError: the target has no labels that could be weighed.
        DataError: a weight is missing, negative, or no finite number, or all are 0.
        UnknownNameError: the table has no such column, or the target no such label.
    """
    weights = np.ones(len(values))
    if settings.weight is not None:
        weights *= weights_in(table, settings.weight)
    if settings.class_weights != "none":
        weights *= _class_weights(target, values, settings.class_weights)
    if bool((weights == weights[0]).all()) and weights[0] > 0:
        return None
    if not weights.any():
        raise DataError(
            "Expected at least one training row that counts, found the weight 0 for all of them. Give some of them a "
            "weight above 0."
        )
    weights /= weights.mean()
    effective = weights.sum() ** 2 / (weights**2).sum()
    log.info(
        "Weights: %.3g to %.3g times the mean; for the variance of a mean they are like %.0f of %d equal rows.",
        *(weights.min(), weights.max(), effective, len(weights)),
    )
    return weights


def _class_weights(target: Target, values: Sequence[Any], chosen: str | Mapping[str, float]) -> np.ndarray:
    """Returns the weight of each row by its label; of a set, the mean over its labels, 1 for the empty one.

    `balanced` is n / (K n_k) of n labels in all, K different ones that training rows have, and n_k of the label k, as
    scikit-learn has it; so every label counts alike in all.
    """
    field = _only_field(target)
    keys = [label_key(label) for label in field.labels]
    members = np.zeros((len(values), len(keys)))
    for row, value in enumerate(values):
        members[row, [keys.index(label_key(label)) for label in field.labels_in(value)]] = 1.0
    counts = members.sum(axis=0)
    if chosen == "balanced":
        by_label = np.divide(counts.sum(), (counts > 0).sum() * counts, out=np.zeros_like(counts), where=counts > 0)
    else:
        assert not isinstance(chosen, str)  # the settings refuse other names
        for name in chosen:
            if name not in keys:
                raise unknown_name("label in class_weights", name, keys)
        by_label = np.array([float(chosen.get(key, 1.0)) for key in keys])
    sizes = members.sum(axis=1)
    weights: np.ndarray = np.divide(members @ by_label, sizes, out=np.ones(len(values)), where=sizes > 0)
    return weights


def _only_field(target: Target) -> Field:
    """Returns the target's field, which has labels.

    Raises:
        ConfigError: it has none, or several fields.
    """
    (field, *others) = target.fields.values()
    if others or field.numeric or field.soft:
        found = f"several columns, {', '.join(target.fields)}" if others else target.describe()
        raise ConfigError(
            f"Expected one column of labels with class_weights, found {found}. Leave class_weights out, or weigh rows "
            "with the setting weight."
        )
    return field
