"""A predictor over an encoder as one ONNX graph, from tokens to logits."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from predgen.errors import BackboneError
from predgen.exporting.exportable import Exportable

GRAPH_FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask")
# A file of ONNX ends at 2 GiB; the weights of larger graphs stand beside it.
MOST_BYTES = 2**31 - 2**24


class Graph(nn.Module):
    """Backbone, pooling, head, calibration and the target's unit.

    Args:
        exportable: what is exported.
    """

    def __init__(self, exportable: Exportable) -> None:
        super().__init__()
        predictor = exportable.predictor
        self.exportable = exportable
        self.backbone = copy.copy(predictor.backbone)
        # A shallow copy shares the table of its parts, in which the model is replaced.
        self.backbone._modules = dict(predictor.backbone._modules)
        self.backbone.model = exportable.merged
        self.head = copy.deepcopy(predictor.head).cpu()

    def forward(
        self, input_ids: Int[Tensor, "batch token"], attention_mask: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch logit"]:
        """Returns numbers in the target's unit, inside its range, or logits of labels."""
        mask = attention_mask.bool()
        outputs = self.head(self.backbone.prompt_states(input_ids, mask), mask)
        return calibrated(self.exportable, outputs)


def calibrated(exportable: Exportable, outputs: Float[Tensor, "batch output"]) -> Float[Tensor, "batch logit"]:
    """Returns the logits of outputs; their softmax is the calibrated probabilities."""
    logits = exportable.tempered(exportable.head.logits(outputs))
    share = exportable.uniform_fraction
    if share == 0.0:
        return logits
    return ((1 - share) * logits.softmax(dim=-1) + share / logits.shape[1]).log()


def write_onnx(exportable: Exportable, folder: Path) -> list[str]:
    """Writes the graph, compared with ours on random prompts; returns what people must know of it.

    Args:
        exportable: what is exported.
        folder: where it goes.

    Raises:
        BackboneError: the backbone is a decoder, or it has no graph, or one that gives other logits.
    """
    backbone = exportable.predictor.backbone
    if backbone.pooling != "mean":
        raise BackboneError(
            f"Expected an encoder for a graph, found a decoder, {exportable.merged.config.model_type}. Use --to "
            "transformers."
        )
    path = folder / GRAPH_FILE
    tokens, mask = exportable.random_prompts()
    batch, token = torch.export.Dim("batch"), torch.export.Dim("token", max=backbone.max_positions)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                Graph(exportable).eval(),
                (tokens, mask.long()),
                dynamo=True,
                input_names=INPUTS,
                output_names=["logits"],
                dynamic_shapes={name: {0: batch, 1: token} for name in INPUTS},
                verbose=False,
            )
            assert program is not None
            size = sum(parameter.nbytes for parameter in exportable.merged.parameters())
            program.save(path, external_data=size > MOST_BYTES)
    except Exception as error:  # whatever the exporter meets in a family's code
        raise BackboneError(
            f"Expected a backbone that torch can make a graph of, found {exportable.merged.config.model_type}: "
            f"{type(error).__name__}, {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}. "
            "Fit over another backbone to export the model."
        ) from error
    expected = calibrated(exportable, exportable.own_outputs(tokens, mask))
    exportable.check(_run(path, tokens, mask.long()), expected, "a graph")
    return []


def _run(path: Path, tokens: Int[Tensor, "batch token"], mask: Int[Tensor, "batch token"]) -> Any:
    """Returns the logits of a graph."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # In another order, and without the longest row: other sizes than those that the graph was made with.
    feeds = [dict(zip(INPUTS, (tokens[:1].numpy(), mask[:1].numpy()), strict=True))]
    feeds.append(dict(zip(INPUTS, (tokens[1:, :-1].numpy(), mask[1:, :-1].numpy()), strict=True)))
    return torch.cat([torch.from_numpy(session.run(["logits"], feed)[0]) for feed in feeds])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's notes from users, and checks of shapes out of the graph."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [log.level for log in logs]
    checks = jaxtyping.config.jaxtyping_disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.ERROR)
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            yield
        finally:
            jaxtyping.config.update("jaxtyping_disable", checks)
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
