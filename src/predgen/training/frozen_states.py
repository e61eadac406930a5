"""What a model's frozen layers make of prompts, kept for all epochs, methods, seeds and trials over one table."""

from predgen.backbones.frozen_layers import KeptStates
from predgen.backbones.row_store import GIB, RowStore
from predgen.backbones.stacks import outside
from predgen.config import RunConfig
from predgen.models.model import Model
from predgen.training.preparing import Prepared


def num_frozen_layers(model: Model) -> int:
    """Returns how many first layers of the model's backbone are frozen, with all that is before them."""
    layers = model.method.backbone.layers
    trained = [name for name, weights in model.method.backbone.bare_model.named_parameters() if weights.requires_grad]
    if outside(trained, layers):  # the embeddings, perhaps
        return 0
    stacks = {name.rpartition(".")[0] for name in layers}
    is_trained = [any(name.startswith(f"{layer}.") for name in trained) for layer in layers]
    return [*is_trained, True].index(True) if len(stacks) == 1 else 0


def keep_frozen_states(model: Model, config: RunConfig, prepared: Prepared) -> None:
    """Lets the frozen layers of a model that is to be trained read each prompt once, if some are and it is exact.

    Args:
        model: before training.
        config: its settings.
        prepared: the table, which keeps what they make for other models of the same base.
    """
    num_frozen = num_frozen_layers(model)
    # Mixed precision has other states in training than in validation.
    if not num_frozen or config.train.state_cache == 0 or config.train.precision != "float32":
        return
    method, settings = model.method, config.model
    base = (model.contents.base_hash, settings.dtype, settings.quantization, settings.device_map)
    key = (*base, num_frozen, method.writes)
    if key not in prepared.frozen_states:
        # One store for all, so that they take no more together than is allowed.
        rows = next((others.rows for others in prepared.frozen_states.values()), None)
        if rows is None:
            rows = RowStore(int(config.train.state_cache * GIB))
        prepared.frozen_states[key] = KeptStates(rows, owner=f"{len(prepared.frozen_states)} ".encode())
    method.backbone.keep_frozen_states(prepared.frozen_states[key], num_frozen, writes=method.writes)
