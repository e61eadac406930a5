"""The weights that training changes."""

import torch
from torch import Tensor, nn

from predgen.adapters import chosen_indices


def trainable_weights(method: nn.Module) -> dict[str, Tensor]:
    """Returns the trainable parameters by name, each tied one once, and which rows they update, on the CPU."""
    return {name: values.detach().cpu().contiguous() for name, values in _trainable(method).items()}


def load_trainable_weights(method: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies saved weights into a method.

    Raises:
        KeyError: names that are missing, or that the method does not have.
        ValueError: a shape that differs.
    """
    parameters = _trainable(method)
    if set(parameters) != set(weights):
        raise KeyError(f"names differ, such as '{min(set(parameters) ^ set(weights))}'")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                raise ValueError(f"'{name}' has shape {tuple(weights[name].shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(weights[name])


def _trainable(method: nn.Module) -> dict[str, Tensor]:
    parameters = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    return {**parameters, **chosen_indices(method)}
