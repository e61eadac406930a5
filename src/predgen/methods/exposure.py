"""Exposure: how a method that writes does after gold prefixes, as in training, and after its own, as in use."""

from predgen.backbones.base import dropout_off
from predgen.methods.buckets import BatchLimits, Collator, run_in_buckets
from predgen.methods.writer import Writer


def exposure(method: Writer, rows: Collator, *, batch_size: int | BatchLimits) -> dict[str, float]:
    """Returns the Writer's accuracy on both, their difference `exposure_gap`, and L_D on both if there is a Director.

    Args:
        method: the method, on its device.
        rows: the examples to look at.
        batch_size: the most rows of a batch, or the limits of its rows and tokens.
    """

    def measured(positions: list[int]) -> dict[str, float]:
        batch = {name: part.to(method.device) for name, part in rows(positions).items()}
        return {name: float(value) * len(positions) for name, value in method.exposure(**batch).items()}

    with dropout_off(method):
        parts, _ = run_in_buckets(rows.examples.lengths, BatchLimits.of(batch_size), measured)
    means = {name: sum(part[name] for part in parts) / len(rows.examples) for name in parts[0]}
    return {**means, "exposure_gap": means["writer_accuracy_gold"] - means["writer_accuracy_own"]}
