"""How a decoder-only model reads prompts and trees where its first layers are frozen, and what they make is kept."""

from abc import abstractmethod
from contextlib import AbstractContextManager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from predgen.backbones.backbone import Backbone
from predgen.backbones.base import Tree
from predgen.backbones.caches import roomy_cache
from predgen.backbones.causal_forward import Inputs, Wanted
from predgen.backbones.frozen_layers import FrozenLayers, KeptStates, Made, has_dropout
from predgen.backbones.row_store import RowStore
from predgen.backbones.self_check import Sample, keeps_states
from predgen.backbones.target_tokens import embedding_rows

# Room for the few tokens that it is tried on.
TRIED_BYTES = 2**20


class FrozenReading(Backbone):
    """A decoder-only model whose frozen first layers read each prompt once.

    Attributes:
        frozen_layers: these layers, with what they made before; None where every layer is run each time.
    """

    frozen_layers: FrozenLayers | None = None

    def keep_frozen_states(self, kept: KeptStates | None, num_frozen: int = 0, *, writes: bool = True) -> bool:
        """Returns whether the first layers run once for each prompt, as the plain form says."""
        self.frozen_layers = None
        if kept is None or not self.capabilities.cached or has_dropout(self.bare_model):
            return False
        layers = list(self.layers.values())
        sample = Sample.of(embedding_rows(self.model), embedding_rows(self.model), self.device)
        tried = FrozenLayers(layers, num_frozen, KeptStates(RowStore(TRIED_BYTES)), with_keys=True)
        if not keeps_states(self, sample, tried):
            return False
        self.frozen_layers = FrozenLayers(layers, num_frozen, kept, with_keys=writes)
        return True

    def _read_over_frozen(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        cache: DynamicCache | None,
        vocabulary: Int[Tensor, " kept"] | None,
    ) -> tuple[Float[Tensor, "batch prompt hidden"], Float[Tensor, "batch 1 kept"]]:
        """Returns the states of prompts and the logits after them; what is frozen is not computed again."""
        made = self._made_of(tokens, mask)
        with self._frozen_now.replaced(made.states):
            states, logits = self._run_whole(tokens, mask, cache, Wanted(1, vocabulary))
        if cache is not None:
            made.fill(cache)
        return states, logits

    def _made_of(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> Made:
        nothing = Wanted(1, tokens[0, :0])

        def run(tokens: Tensor, mask: Tensor, cache: DynamicCache | None) -> None:
            self._run_whole(tokens, mask, cache, nothing)

        return self._frozen_now.made_of(tokens, mask, run)

    @property
    def _frozen_now(self) -> FrozenLayers:
        assert self.frozen_layers is not None  # asked for only where they are
        return self.frozen_layers

    def _over_frozen_tree(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], tree: Tree
    ) -> AbstractContextManager[None]:
        """Returns where prompts and a tree go through the layers alone that are not frozen; prompts are kept."""
        frozen, cache = self._frozen_now, roomy_cache()
        made = self._made_of(tokens, mask)
        made.fill(cache)
        inputs = self._over_memory(mask, tree, tree.tokens.shape[1], cache, made.states.dtype)
        nothing = Wanted(1, tokens[0, :0])
        nodes = frozen.run_alone(lambda: self._forward(inputs, nothing))
        return frozen.replaced(torch.cat([made.states, nodes], dim=1))

    @property
    def _keeps_now(self) -> bool:
        return self.frozen_layers is not None and not self._checkpoints_now

    @abstractmethod
    def _run_whole(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"],
        cache: DynamicCache | None,
        wanted: Wanted,
    ) -> tuple[Float[Tensor, "batch length hidden"], Float[Tensor, "batch new kept"]]:
        """Returns the last states of whole texts, and the logits of their last columns."""

    @abstractmethod
    def _forward(
        self, inputs: Inputs, wanted: Wanted
    ) -> tuple[Float[Tensor, "batch new hidden"], Float[Tensor, "batch column kept"]]:
        """Runs the model."""

    @abstractmethod
    def _over_memory(
        self, mask: Bool[Tensor, "batch prompt"], tree: Tree, num_new: int, cache: DynamicCache, dtype: torch.dtype
    ) -> Inputs:
        """Returns what a forward of the last nodes of a tree is given, over a cache of prompts and the nodes before."""
