"""The weights of a GGUF file, taken out of their blocks once, as a folder that transformers reads.

transformers maps names and takes blocks apart; what it reads wrongly is put right or refused here: positions
(`positions`), and tensors that no weight of the model took.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, GgufConfig, PreTrainedModel

from predgen.backbones.gguf.header import GgufFile
from predgen.backbones.gguf.positions import POSITION_TENSORS, set_positions
from predgen.backbones.gguf.tokenizer import tokenizer_of
from predgen.errors import BackboneError

# The number of this way to unpack: with another one, what is in the cache is made anew.
VERSION = 1
OUTPUT, EMBEDDINGS = "output.weight", "token_embd.weight"
# Settings of a config that transformers leaves at their default, and the key of the file that has them.
PASSED_OVER = {
    "head_dim": "attention.key_length",
    "sliding_window": "attention.sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "n_positions": "context_length",
    "n_inner": "feed_forward_length",
}
# What a file may hold for other programs.
IGNORED = ("attn_rot_embd.weight", "rope_freqs")


def write_shape(file: GgufFile, folder: Path) -> None:
    """Writes a file's config and tokenizer into a folder.

    Raises:
        BackboneError: the family or the tokenizer is not known, or positions have a form that is not.
    """
    config = config_from(file)
    tokenizer_of(file).save_pretrained(folder)
    config.save_pretrained(folder)


def config_from(file: GgufFile) -> Any:
    """Returns the config of a file's model, positions included.

    Raises:
        BackboneError: the family is not known, or the positions have a form that is not.
    """
    try:
        config = AutoConfig.from_pretrained(file.path.parent, gguf_file=file.path.name)
    except Exception as error:  # nearly anything, where keys lack or the family is not known
        file.check_whole()  # a file that ends too early is no matter of its family
        raise BackboneError(
            f"Expected a family that transformers reads from a GGUF file in '{file.path}', found "
            f"'{file.architecture}' ({type(error).__name__}: {error}). Use the model's folder instead of its GGUF file."
        ) from error
    for name, key in PASSED_OVER.items():
        value = file.of_architecture(key)
        if value is not None and hasattr(config, name):
            setattr(config, name, value)
    set_positions(config, file, _tensors(file, POSITION_TENSORS))
    return config


def write_weights(file: GgufFile, folder: Path, loader: Any, config: Any, dtype: torch.dtype) -> None:
    """Writes a file's weights into a folder.

    Args:
        file: the file.
        folder: where to; it gets the config too.
        loader: the class of transformers that loads such a model, such as AutoModelForCausalLM.
        config: of the model, positions included.
        dtype: of the weights.

    Raises:
        BackboneError: the file is damaged, or its tensors are not those of the model.
    """
    try:
        with redirect_stderr(io.StringIO()):  # a bar that nothing turns off
            model, report = loader.from_pretrained(
                file.path.parent,
                gguf_file=file.path.name,
                config=config,
                quantization_config=GgufConfig(dequantize=True),
                dtype=dtype,
                output_loading_info=True,
            )
    except Exception as error:  # nearly anything, where bytes are not what they must be
        raise BackboneError(
            f"Expected readable weights in '{file.path}', found damage, or a type of blocks that is not known "
            f"({type(error).__name__}: {error}). Download or copy it again, or take a file with other blocks."
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise BackboneError(
            f"Expected all weights of the model in '{file.path}', found {len(missing)} missing, such as "
            f"'{missing[0]}'. Download or copy it again."
        )
    _check_all_taken(file, model)
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)


def _check_all_taken(file: GgufFile, model: PreTrainedModel) -> None:
    """Refuses a file that holds more numbers than its model took: another form of the model would be read as this one.

    Raises:
        BackboneError: a tensor was passed over.
    """
    sizes = _sizes(file)
    taken = sum(parameter.numel() for parameter in model.parameters())
    held = sum(size for name, size in sizes.items() if not name.endswith(IGNORED) and name not in POSITION_TENSORS)
    tied = model.get_output_embeddings() is not None and (
        model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    )
    if tied and OUTPUT in sizes and held - sizes[OUTPUT] == taken:
        pair = _tensors(file, (OUTPUT, EMBEDDINGS))
        if np.array_equal(pair[OUTPUT], pair[EMBEDDINGS]):
            return
    if held != taken:
        raise BackboneError(
            f"Expected {taken:,} numbers in '{file.path}', as a {model.config.model_type} of its shape has, found "
            f"{held:,}. It holds another form of the model than transformers knows: use the model's folder instead."
        )


def _sizes(file: GgufFile) -> dict[str, int]:
    """Returns how many numbers each tensor of a file has."""
    return {tensor.name: int(tensor.n_elements) for tensor in file.reader.tensors}


def _tensors(file: GgufFile, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Returns tensors of a file by name, those that it has, as float32."""
    present = set(names) & set(file.tensors)
    if not present:
        return {}
    from gguf import dequantize

    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type)
        for tensor in file.reader.tensors
        if tensor.name in present
    }
