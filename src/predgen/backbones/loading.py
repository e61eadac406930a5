"""From a name to a backbone: hub ids, local folders, and the models that come with the package."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.errors import BackboneError, unknown_name

BUILTIN = "builtin:"
# Each model of the package and the version of it that is inside; a name without a version is the newest.
BUILTIN_MODELS = {"builtin:nano": 2}
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
OTHER_PATTERNS = ("*.json", "*.model", "*.txt")


@dataclass(frozen=True)
class Source:
    """Where a backbone's files are, and what identifies them.

    Attributes:
        name: the id that was asked for; a model of the package has its version in it, such as builtin:nano@2.
        folder: the local folder that holds its files.
        revision: the hub's commit, if it came from there.
    """

    name: str
    folder: Path
    revision: str | None

    def content_hash(self) -> str:
        """Returns a SHA-256 over the names and bytes of the weights, the config and the tokenizer."""
        weights = _weight_files(self.folder)
        others = [self.folder / name for name in ("config.json", "tokenizer.json", "tokenizer.model", "vocab.json")]
        digest = hashlib.sha256()
        for path in sorted(weights) + [path for path in others if path.exists()]:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def is_builtin(name: str) -> bool:
    """Returns whether a backbone's id names a model of the package, which are too small for real work."""
    return name.startswith(BUILTIN)


def find_source(name: str, revision: str | None = None) -> Source:
    """Returns where a backbone's files are, downloading them if it is a hub id.

    Raises:
        BackboneError: there is no such folder and the hub does not give it, or the package has another version of it.
        UnknownNameError: no such model comes with the package.
    """
    if is_builtin(name):
        return _builtin(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise BackboneError(f"Expected a model folder with a config.json, found none in '{name}'.")
        return Source(str(folder.resolve()), folder.resolve(), None)  # an artifact must find it from anywhere
    return _download(name, revision)


def _builtin(name: str) -> Source:
    """Returns a model of the package, its version checked and put into the name."""
    model, _, version = name.partition("@")
    newest = BUILTIN_MODELS.get(model)
    if newest is None or not (version.isdecimal() or name == model):
        known = [each for one, number in BUILTIN_MODELS.items() for each in (one, f"{one}@{number}")]
        raise unknown_name("built-in backbone", name, known)
    if version and int(version) != newest:
        raise BackboneError(
            f"Expected {model}@{newest}, the version that comes with this installation of predgen, found {name}. Use "
            f"{model} and fit again, or install the release of predgen that had that version (CHANGELOG.md says which)."
        )
    with resources.as_file(resources.files("predgen.backbones") / model.removeprefix(BUILTIN)) as folder:
        return Source(f"{model}@{newest}", folder, None)


def _download(name: str, revision: str | None) -> Source:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        try:
            files = [file.rfilename for file in HfApi().model_info(name, revision=revision, timeout=10).siblings or []]
            safe = any(file.endswith(".safetensors") for file in files)
            weights: tuple[str, ...] = WEIGHT_PATTERNS[:1] if safe else WEIGHT_PATTERNS[1:]
            local_only = False
        except HFValidationError:
            raise
        except Exception:  # no network, no access, no such model: what lies in the local cache decides
            weights, local_only = WEIGHT_PATTERNS, True
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[*OTHER_PATTERNS, *weights], local_files_only=local_only
            )
        )
    except HFValidationError as error:
        raise BackboneError(
            f"Expected a local folder, a hub id such as 'org/model', or {BUILTIN}nano, found '{name}'."
        ) from error
    except Exception as error:  # the client raises its own, httpx's and the system's errors
        raise BackboneError(
            f"Expected a local folder or a hub id that can be had, found '{name}': no such folder is here, and the "
            f"hub did not give it ({type(error).__name__}). Check the name, the network and your access, or use "
            f"{BUILTIN}nano."
        ) from error
    return Source(name, folder, folder.name)


def width_of(source: Source) -> int:
    """Returns the size of a backbone's states, from its config alone.

    Raises:
        BackboneError: this version of transformers does not know the model.
    """
    return int(_config_of(source).get_text_config().hidden_size)


def load_backbone(source: Source, *, dtype: str = "float32") -> DecoderOnlyBackbone:
    """Returns the backbone on the CPU, in evaluation mode, its road chosen and checked.

    No code from a model repository is run.

    Args:
        source: where its files are.
        dtype: type of its weights: float32, bfloat16 or float16.

    Raises:
        BackboneError: its files are damaged, or it is no causal language model.
    """
    config = _config_of(source)
    if config.is_encoder_decoder or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise BackboneError(
            f"Expected a decoder-only language model, found the kind '{config.model_type}' in '{source.name}'. "
            "Choose a causal model, such as a Llama, Qwen or GPT-2."
        )
    if not _weight_files(source.folder):
        raise BackboneError(f"Expected weights (*.safetensors or pytorch_model*.bin) in '{source.name}', found none.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
        with _no_progress_bar():
            model, report = AutoModelForCausalLM.from_pretrained(
                source.folder,
                dtype=getattr(torch, dtype),
                attn_implementation=_attention(config),
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # the loaders raise nearly anything on damaged files
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
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what some classes make of no file at all
        raise BackboneError(
            f"Expected a tokenizer in '{source.name}', found none. Copy its files (tokenizer.json) there too."
        )
    if not tokenizer.is_fast:
        raise BackboneError(
            f"Expected a fast tokenizer in '{source.name}', found {type(tokenizer).__name__}. Convert it to "
            "tokenizer.json, as `AutoTokenizer.from_pretrained(...).save_pretrained(...)` does where it can."
        )
    try:
        backbone = DecoderOnlyBackbone(model, tokenizer).eval()
        backbone.choose_road()
    except BackboneError:
        raise
    except Exception as error:  # a few causal models want more than tokens, or have no such config (XLNet)
        raise BackboneError(
            f"Expected a causal language model that runs on tokens alone, found {type(model).__name__} in "
            f"'{source.name}', which fails ({type(error).__name__}: {error}). Choose a decoder-only model, such as a "
            "Llama, Qwen or GPT-2."
        ) from error
    return backbone


def _config_of(source: Source) -> Any:
    try:
        return AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(
            f"Expected a model that this version of transformers knows in '{source.name}': {error}"
        ) from error


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keeps the loader from drawing its own bar over ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _attention(config: object) -> str:
    """Returns the attention to use; only these two take the masks that the backbones build."""
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]  # type: ignore[attr-defined]
    import transformers

    return "sdpa" if getattr(getattr(transformers, name), "_supports_sdpa", False) else "eager"


def _weight_files(folder: Path) -> list[Path]:
    for pattern in WEIGHT_PATTERNS:
        found = list(folder.glob(pattern))
        if found:
            return found
    return []
