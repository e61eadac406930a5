"""The head of a date: that of its days, as a number."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.methods.heads.number import NumberHead


class DateHead(NumberHead):
    """The days since 1970-01-01, standardized by the training rows; an answer is a whole day."""

    def values(self, predictions: Tensor, threshold: Float[Tensor, " label"] | None = None) -> list[Any]:
        """Returns the nearest days inside the range (ties to even); one that is not finite stays."""
        return super().values(torch.round(predictions), threshold)
