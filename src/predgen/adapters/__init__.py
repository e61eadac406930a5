"""What is trained of the backbone: all of it, or an update beside frozen weights."""

from predgen.adapters.applying import (
    TUNED_HEAD_LEARNING_RATE,
    apply_peft,
    initial_rank_of,
)
from predgen.adapters.merging import merge_update, merged_copy, unmerge_update
from predgen.adapters.rocoft import choose_by_magnitude, chosen_indices

__all__ = [
    "TUNED_HEAD_LEARNING_RATE",
    "apply_peft",
    "choose_by_magnitude",
    "chosen_indices",
    "initial_rank_of",
    "merge_update",
    "merged_copy",
    "unmerge_update",
]
