"""Models by name, which hold the weights that are the same only once."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from predgen.errors import ConfigError
from predgen.models.loading import load
from predgen.models.model import Model

log = logging.getLogger("predgen")


def named_folders(given: Sequence[str]) -> dict[str, str]:
    """Returns the folder of each model by its name: what stands before an equals sign, or else the folder's own.

    Args:
        given: `DIR` or `NAME=DIR` each.

    Raises:
        ConfigError: a name is empty, or there are two of it.

    Example:
        >>> named_folders(["runs/stars", "mood=runs/second"])
        {'stars': 'runs/stars', 'mood': 'runs/second'}
    """
    folders: dict[str, str] = {}
    for text in given:
        name, _, folder = text.partition("=")
        if not folder or Path(text).exists():
            name, folder = Path(text).resolve().name, text
        if not name or name in folders:
            raise ConfigError(
                f"Expected a name of its own for each model, found '{name}' for '{folder}'. Give another: NAME=DIR."
            )
        folders[name] = folder
    return folders


def load_models(
    folders: dict[str, str],
    *,
    backbone: str | None = None,
    device: str = "auto",
    predict_from: str | None = None,
    threshold: bool = True,
    trust_remote_code: bool = False,
) -> dict[str, Model]:
    """Returns the models by their names, weights that are the same in memory once.

    Args:
        folders: as `named_folders` returns them.
        backbone: as `predgen.load` takes it; so are the others.
        device: where they go.
        predict_from: where answers come from.
        threshold: whether a threshold that was chosen is kept to.
        trust_remote_code: whether code of the base models may be run.

    Raises:
        PredGenError: as `predgen.load`.
    """
    models: dict[str, Model] = {}
    for name, folder in folders.items():
        model = load(
            folder,
            backbone=backbone,
            device=device,
            predict_from=predict_from,
            threshold=threshold,
            trust_remote_code=trust_remote_code,
        )
        num_bytes = share_weights(model, models.values())
        if num_bytes:
            log.info("'%s' shares %.0f MB of weights with a model over the same base.", name, num_bytes / 1e6)
        models[name] = model
    return models


def share_weights(model: Model, others: Iterable[Model]) -> int:
    """Lets a model that was not used yet hold the weights of others where they are equal to the bit.

    Prediction changes no weights. Models that are to be trained, or merged with their update, must share none.

    Args:
        model: the model.
        others: models that stay as they are.

    Returns:
        The bytes that it shares.
    """
    shared, seen = 0, set[int]()
    for other in others:
        if other.contents.base_hash != model.contents.base_hash:
            continue
        theirs = dict(_weights_of(other))
        for name, weight in _weights_of(model):
            same = theirs.get(name)
            if same is None or weight.data_ptr() == same.data_ptr() or not _equal(weight, same):
                continue
            if weight.data_ptr() not in seen:  # tied weights have two names
                seen.add(weight.data_ptr())
                shared += weight.nbytes
            weight.data = same.data
    return shared


def _weights_of(model: Model) -> list[tuple[str, Tensor]]:
    """Returns the backbone's parameters and buffers by their names, tied ones under each."""
    backbone = model.method.backbone
    return [
        *backbone.named_parameters(remove_duplicate=False),
        *backbone.named_buffers(remove_duplicate=False),
    ]


def _equal(one: Tensor, other: Tensor) -> bool:
    """Returns whether two weights are the same to the bit, in the same form."""
    return (
        one.dtype == other.dtype
        and one.device == other.device
        and one.shape == other.shape
        and one.stride() == other.stride()
        and type(one) is type(other)
        and torch.equal(one, other)
    )
