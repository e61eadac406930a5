"""Tokens of a prompt whose embeddings are given: ids beyond every vocabulary, which stand for vectors.

A vector for a token's place cannot be handed to a backbone: a prompt goes through padding, shared beginnings, caches
and second readings as ids, and written tokens go through the same embeddings. So a place gets an id of its own, which
all of these carry along, and the module of embeddings answers it with the place's vector.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from predgen.backbones.backbone import Backbone
from predgen.errors import BackboneError

# No vocabulary is so large.
FIRST = 2**40


def embeddings_of(backbone: Backbone, tokens: Int[Tensor, " token"]) -> Float[Tensor, "token size"]:
    """Returns what the model's layers get for some tokens of a prompt, before positions are added."""
    embedded: Tensor = backbone.prompt_embeddings(tokens.unsqueeze(0))[0]
    return embedded


@contextmanager
def stand_ins(
    backbone: Backbone, tokens: Int[Tensor, " place"], vectors: Float[Tensor, "place size"]
) -> Iterator[None]:
    """Lets the ids `FIRST`, `FIRST + 1`, … stand for vectors wherever the backbone embeds a prompt.

    What else a family looks up by a token's id (embeddings of single layers) stays that of the real tokens.

    Args:
        backbone: the language model.
        tokens: the real token at each place.
        vectors: the vector for each place; gradients flow to it.

    Raises:
        BackboneError: the model was run, and did not embed its prompts by the module that it names.
    """
    main, waiting, calls = backbone.prompt_embeddings, list[Tensor](), 0

    def real(ids: Tensor) -> Tensor:
        index = (ids - FIRST).clamp(min=0, max=len(tokens) - 1)
        return torch.where(ids >= FIRST, tokens[index], ids)

    def before_main(_: nn.Module, args: Any, kwargs: Any) -> Any:
        ids = args[0] if args else kwargs["input"]
        waiting.append(ids)
        return ((real(ids), *args[1:]), kwargs) if args else (args, {**kwargs, "input": real(ids)})

    def after_main(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        nonlocal calls
        ids = waiting.pop()
        stands = ids >= FIRST
        calls += bool(stands.any())
        given = vectors[(ids - FIRST).clamp(min=0, max=len(tokens) - 1)].to(output.dtype)
        return torch.where(stands.unsqueeze(-1), given, output)

    def before_others(_: nn.Module, args: Any) -> Any:
        return (real(args[0]), *args[1:]) if args and not args[0].is_floating_point() else args

    with ExitStack() as stack:
        for module in backbone.bare_model.modules():
            if isinstance(module, nn.Embedding) and module is not main:
                stack.callback(module.register_forward_pre_hook(before_others).remove)
        stack.callback(main.register_forward_pre_hook(before_main, with_kwargs=True).remove)
        stack.callback(main.register_forward_hook(after_main).remove)
        yield
    if len(tokens) and not calls:
        raise BackboneError(
            f"Expected a model that embeds its prompts by one module, found {type(backbone.bare_model).__name__}, "
            "which does not. Explain it by the method 'words'."
        )
