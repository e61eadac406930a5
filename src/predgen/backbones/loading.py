"""How a model is loaded: its kind, the type of its weights, the devices that they go to, and what is refused."""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from predgen.backbones import half_attention
from predgen.backbones.backbone import Backbone
from predgen.backbones.checked import choose_path_once
from predgen.backbones.configs import config_of
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.devices import check_device_map
from predgen.backbones.encoder_decoder import EncoderDecoderBackbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.backbones.gguf.unpacking import VERSION, write_weights
from predgen.backbones.half_norms import use_half_norms
from predgen.backbones.model_cache import kept
from predgen.backbones.sources import Source
from predgen.backbones.template import Template
from predgen.errors import BackboneError, ConfigError

log = logging.getLogger("predgen")

Kind = type[EncoderDecoderBackbone] | type[EncoderOnlyBackbone] | type[DecoderOnlyBackbone]
# A model is of the first kind that handles its config: many an encoder has a class that could be used as a decoder.
KINDS: tuple[Kind, ...] = (EncoderDecoderBackbone, EncoderOnlyBackbone, DecoderOnlyBackbone)


def width_of(source: Source) -> int:
    """Returns the size of a backbone's states, from its config alone.

    Raises:
        BackboneError: this version of transformers does not know the model.
    """
    return int(config_of(_config_of(source), "decoder").hidden_size)


def default_template(source: Source, inputs: Sequence[str], target: str) -> Template:
    """Returns the prompt that a backbone reads best where the user gives none.

    Args:
        source: the backbone's files.
        inputs: the input columns.
        target: what is predicted.

    Raises:
        BackboneError: it is no language model.
    """
    return _kind_of(_config_of(source), source.name).default_template(inputs, target)


def _kind_of(config: Any, name: str) -> Kind:
    """Returns which kind of backbone a model is.

    Raises:
        BackboneError: it is no language model.
    """
    for kind in KINDS:
        if kind.handles(config):
            return kind
    raise BackboneError(
        f"Expected a language model, found the kind '{config.model_type}' in '{name}'. Choose a causal model such as a "
        "Llama, Qwen or GPT-2, a sequence-to-sequence model such as a T5 or BART, or an encoder such as a BERT."
    )


def load_backbone(
    source: Source,
    *,
    dtype: str = "float32",
    device_map: str | None = None,
    quantization: str | None = None,
    chat_template: bool = False,
    tokenizer: Any | None = None,
) -> Backbone:
    """Returns the backbone in evaluation mode, its path chosen and checked.

    No code from a model repository is run, unless the source is trusted.

    Args:
        source: where its files are.
        dtype: type of its weights: float32, bfloat16, float16, or auto for the type that they are saved in.
        device_map: where its layers go, as accelerate says it: `auto`, `balanced`, `sequential`, or one device for all;
            the CPU if not given, to be moved later.
        quantization: load the weights with 8 or 4 bits, by bitsandbytes; they stay where they are loaded.
        chat_template: wrap each prompt as a user's message of an instruct model.
        tokenizer: its tokenizer; that among its files if not given.

    Raises:
        BackboneError: its files are damaged, or it is no language model.
        ConfigError: it cannot be loaded so on this machine.
    """
    config = _config_of(source)
    kind = _kind_of(config, source.name)
    if not source.has_weights:
        raise BackboneError(f"Expected weights (*.safetensors or pytorch_model*.bin) in '{source.name}', found none.")
    if device_map is not None:
        check_device_map(device_map)
    placed: dict[str, Any] = {}
    if quantization is not None:
        placed["quantization_config"] = _quantization(quantization, dtype)
    if device_map is not None or quantization is not None:
        placed["device_map"] = device_map or "auto"
    model, tokenizer = _load_files(source, config, kind, dtype, placed, tokenizer)
    try:
        backbone = kind(model, tokenizer).eval()
        if kind is DecoderOnlyBackbone and not placed:
            use_half_norms(model)
        backbone.is_placed = bool(placed)
        if placed or source.trusted:
            backbone.choose_path()
        else:
            choose_path_once(backbone, source, dtype)
    except BackboneError:
        raise
    except Exception as error:  # a few models want more than tokens, or have no such config
        raise BackboneError(
            f"Expected a language model that runs on tokens alone, found {type(model).__name__} in '{source.name}', "
            f"which fails ({type(error).__name__}: {error}). Choose another, such as a Llama, a T5 or a BERT."
        ) from error
    if chat_template:
        backbone.prompts.use_chat_template()
    return backbone


def _load_files(
    source: Source, config: Any, kind: Kind, dtype: str, placed: dict[str, Any], tokenizer: Any | None
) -> tuple[Any, Any]:
    """Returns a model and its tokenizer, both whole.

    Args:
        source: where the files are.
        config: of the model.
        kind: of the model.
        dtype: as in `load_backbone`.
        placed: the loader's arguments of quantization and devices.
        tokenizer: the tokenizer, if it is known.

    Raises:
        BackboneError: files are damaged or missing.
        ConfigError: this machine cannot load quantized weights.
    """
    folder, dtype = _weights_of(source, config, kind, dtype)
    try:
        if tokenizer is None:
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=source.trusted)
        with quiet_loader():
            model, report = kind.loader.from_pretrained(
                folder,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=_attention(config, kind, dtype),
                trust_remote_code=source.trusted,
                output_loading_info=True,
                **placed,
                **_without_pooler(config, kind),
            )
    except Exception as error:  # the loaders raise nearly anything on damaged files
        quantization = placed.get("quantization_config")
        if quantization is not None and isinstance(error, ImportError | RuntimeError | AssertionError):
            raise _not_quantized(quantization, error) from error
        if not source.trusted and "trust_remote_code" in str(error):
            raise _not_trusted(source) from error
        raise BackboneError(
            f"Expected readable weights and a tokenizer in '{source.name}', found damage ({type(error).__name__}: "
            f"{error}). Download or copy the model again."
        ) from error
    if report["missing_keys"]:  # the loader draws them at random, with only a warning
        missing = sorted(report["missing_keys"])
        raise BackboneError(
            f"Expected all weights of the model in '{source.name}', found {len(missing)} missing, such as "
            f"'{missing[0]}'. Download or copy the model again; it must hold a whole language model."
        )
    if _is_empty(tokenizer):
        raise BackboneError(
            f"Expected a tokenizer in '{source.name}', found none. Copy its files (tokenizer.json) there too."
        )
    if not tokenizer.is_fast:
        raise BackboneError(
            f"Expected a fast tokenizer in '{source.name}', found {type(tokenizer).__name__}. Convert it to "
            "tokenizer.json, as `AutoTokenizer.from_pretrained(...).save_pretrained(...)` does where it can."
        )
    return model, tokenizer


def _weights_of(source: Source, config: Any, kind: Kind, dtype: str) -> tuple[Path, str]:
    """Returns the folder of a model's weights, taken out of a GGUF file now if they were not yet, and their type.

    Raises:
        BackboneError: the file is damaged, or holds another form of the model.
    """
    file = source.gguf
    if file is None:
        return source.folder, dtype
    stored = file.stored_type if dtype == "auto" else dtype
    facts = {"file": str(file.path), "sha256": file.content_hash, "holds": f"weights in {stored}"}

    def write(folder: Path) -> None:
        log.info("Taking the weights of %s out of their blocks, once; they are kept in the cache.", file.path.name)
        with quiet_loader():
            write_weights(file, folder, kind.loader, config, getattr(torch, stored))

    return kept(f"{file.content_hash[:16]}-{stored}-{VERSION}", facts, write), stored


def _is_empty(tokenizer: Any) -> bool:
    """Returns whether a tokenizer has special tokens alone, as some classes make one when there is no file at all."""
    return set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)


def _quantization(name: str, dtype: str) -> BitsAndBytesConfig:
    """Returns how bitsandbytes is to load the weights.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"Expected bitsandbytes for quantization '{name}', found none. Install it with pip install "
            "'predgen[quantized]', or leave quantization out."
        )
    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _not_quantized(quantization: BitsAndBytesConfig, error: Exception) -> ConfigError:
    name = "8bit" if quantization.load_in_8bit else "4bit"
    return ConfigError(
        f"Expected a machine and a model that run with {name} weights, found that they do not ({type(error).__name__}: "
        f"{error}). Use a CUDA GPU, another quantization, or none."
    )


def read_shape(source: Source) -> tuple[Any, Any | None, bool]:
    """Returns a backbone's config, its tokenizer if that is there, and whether its weights are.

    Raises:
        BackboneError: this version of transformers does not know the model.
    """
    config = _config_of(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except Exception:  # nearly anything, where files are missing
        tokenizer = None
    if tokenizer is not None and _is_empty(tokenizer):
        tokenizer = None
    return config, tokenizer, source.has_weights


def new_backbone(config: Any, name: str, tokenizer: Any, *, dtype: str, device: str = "meta") -> Backbone:
    """Returns a backbone of a shape with random weights, its path not checked.

    Args:
        config: its shape.
        name: what it is called, for messages.
        tokenizer: its tokenizer, to which tokens may be added.
        dtype: type of its weights: float32, bfloat16, float16, or auto for the type that the config names.
        device: where it is made; on torch's `meta` device it has shapes alone and takes no memory.

    Raises:
        BackboneError: it is no language model.
    """
    kind = _kind_of(config, name)
    weights_type = (config.dtype or torch.float32) if dtype == "auto" else getattr(torch, dtype)
    with torch.device(device):
        model = kind.loader.from_config(
            config,
            dtype=weights_type,
            attn_implementation=_attention(config, kind, dtype),
            trust_remote_code=False,
            **_without_pooler(config, kind),
        )
        return kind(model, tokenizer).to(weights_type).eval()


def _not_trusted(source: Source) -> BackboneError:
    return BackboneError(
        f"Expected a model whose code is in transformers, found one with code of its own in '{source.name}'. It is not "
        "run unless you say so: read it, and if you trust it, use --set trust_remote_code=true (for a fitted model: "
        "--trust-remote-code)."
    )


def _config_of(source: Source) -> Any:
    try:
        return AutoConfig.from_pretrained(source.folder, trust_remote_code=source.trusted)
    except (OSError, ValueError, KeyError) as error:
        if not source.trusted and "trust_remote_code" in str(error):
            raise _not_trusted(source) from error
        raise BackboneError(
            f"Expected a model that this version of transformers knows in '{source.name}': {error}"
        ) from error


@contextmanager
def quiet_loader() -> Iterator[None]:
    """Keeps transformers from drawing a bar over ours, and from listing the head that an encoder does not need."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def _class_of(config: Any, kind: Kind) -> Any:
    """Returns the class of a model; None where it is not in transformers itself."""
    name = kind.class_names.get(config.model_type)
    return getattr(transformers, name if isinstance(name, str) else name[0], None) if name else None


def _attention(config: Any, kind: Kind, dtype: str) -> str:
    """Returns the attention to use: `sdpa` or what takes its masks, which the backbones build; else `eager`."""
    if not getattr(_class_of(config, kind), "_supports_sdpa", False):
        return "eager"
    weights_type = str(config.dtype).removeprefix("torch.") if dtype == "auto" else dtype
    is_half = kind is DecoderOnlyBackbone and weights_type in ("bfloat16", "float16")
    return half_attention.NAME if is_half else "sdpa"


def _without_pooler(config: Any, kind: Kind) -> dict[str, bool]:
    """Returns how to load an encoder without the head over its first token, which many checkpoints lack."""
    model_class = _class_of(config, kind)
    if model_class is None or "add_pooling_layer" not in inspect.signature(model_class.__init__).parameters:
        return {}
    return {"add_pooling_layer": False}
