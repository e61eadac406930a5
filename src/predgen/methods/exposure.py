"""Exposure: how a method that writes does after gold prefixes, as in training, and after its own, as in use."""

from predgen.backbones.base import dropout_off
from predgen.batches import Collator, buckets
from predgen.methods.writer import Writer


def exposure(method: Writer, rows: Collator, *, batch_size: int) -> dict[str, float]:
    """Returns the Writer's accuracy on both, their difference `exposure_gap`, and L_D on both if there is a Director.

    Args:
        method: the method, on its device.
        rows: the examples to look at.
        batch_size: rows of a batch.
    """
    sums: dict[str, float] = {}
    with dropout_off(method):
        for positions in buckets(rows.examples.lengths, batch_size):
            batch = {name: part.to(method.device) for name, part in rows(positions).items()}
            for name, value in method.exposure(**batch).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(positions)
    means = {name: total / len(rows.examples) for name, total in sums.items()}
    return {**means, "exposure_gap": means["writer_accuracy_gold"] - means["writer_accuracy_own"]}
