"""Where a model's files are: hub ids, local folders, and the models that come with the package."""

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from predgen.backbones.gguf.header import GgufFile, is_gguf
from predgen.backbones.gguf.unpacking import VERSION, write_shape
from predgen.backbones.model_cache import kept
from predgen.backbones.packaged import PACKAGED_MODELS
from predgen.backbones.remembered import hash_of
from predgen.errors import BackboneError, unknown_name

BUILTIN = "builtin:"
# Each model that needs no download and its version here; a name without a version is the newest.
INSIDE = "builtin:nano"
BUILTIN_MODELS = {INSIDE: 2, "builtin:smollm2": 1, "builtin:gemma3-270m": 1}
ADAPTER_FILE = "adapter_config.json"
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
OTHER_PATTERNS = ("*.json", "*.model", "*.txt", "*.jinja")
CODE_PATTERN = "*.py"


@dataclass(frozen=True)
class Source:
    """Where a backbone's files are, and what identifies them.

    Attributes:
        name: the id that was asked for; a model of the package has its version in it, such as builtin:nano@2.
        folder: the local folder that holds its files.
        revision: the hub's commit, if it came from there.
        trusted: whether code that lies among its files may be run.
        gguf: the GGUF file that holds its weights; `folder` then has its config and tokenizer alone.
    """

    name: str
    folder: Path
    revision: str | None
    trusted: bool = False
    gguf: GgufFile | None = None

    def content_hash(self) -> str:
        """Returns a SHA-256 over the names and bytes of the weights, the config, the tokenizer and code that is run.

        That of a GGUF file is the file's own.
        """
        if self.gguf is not None:
            return self.gguf.content_hash
        weights = weight_files(self.folder)
        others = [self.folder / name for name in ("config.json", "tokenizer.json", "tokenizer.model", "vocab.json")]
        code = sorted(self.folder.glob(CODE_PATTERN)) if self.trusted else []
        digest = hashlib.sha256()
        for path in sorted(weights) + [path for path in others if path.exists()] + code:
            digest.update(path.name.encode())
            digest.update(bytes.fromhex(hash_of(path)))
        return digest.hexdigest()

    @property
    def has_weights(self) -> bool:
        """Whether its weights are on this machine."""
        return self.gguf is not None or bool(weight_files(self.folder))


def is_for_trying(name: str) -> bool:
    """Returns whether a backbone's id names the model inside this package, which is too small for real work."""
    return name.partition("@")[0] == INSIDE


def find_source(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Source:
    """Returns where a backbone's files are, downloading them if it is a hub id.

    Args:
        name: hub id, local folder, GGUF file, or one of builtin:smollm2, builtin:gemma3-270m and builtin:nano.
        revision: the hub's commit, branch or tag.
        trust_remote_code: let code among its files be run; never without being asked for.

    Raises:
        BackboneError: there is no such folder and the hub does not give it, the package has another version of it, or
            it is an adapter and no model.
        UnknownNameError: no such model comes with the package.
    """
    if name.startswith(BUILTIN):
        return _builtin(name)
    if is_gguf(name):
        file = GgufFile.at(Path(name).expanduser().resolve())
        return _from_gguf(file, str(file.path))
    folder = Path(name).expanduser()
    if folder.is_dir():
        _refuse_adapter(folder, name)
        if not (folder / "config.json").exists():
            raise BackboneError(f"Expected a model folder with a config.json, found none in '{name}'.")
        # An artifact must find it from anywhere.
        return Source(str(folder.resolve()), folder.resolve(), None, trust_remote_code)
    return _download(name, revision, trust_remote_code)


def find_local(name: str, revision: str | None = None) -> Source | None:
    """Returns where a backbone's files are on this machine, or None for a hub id that was not downloaded.

    Raises:
        BackboneError: the name is no hub id, or the folder holds no model.
        UnknownNameError: no such model comes with the package.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if name.startswith(BUILTIN) or is_gguf(name) or Path(name).expanduser().is_dir():
        return find_source(name, revision)
    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise BackboneError(
            f"Expected a local folder, a hub id such as 'org/model', or {BUILTIN}nano, found '{name}'."
        ) from error
    return Source(name, Path(config).parent, Path(config).parent.name) if isinstance(config, str) else None


def weight_files(folder: Path) -> list[Path]:
    """Returns the files of a folder's weights, in the first format that it has; an empty list if it has none."""
    for pattern in WEIGHT_PATTERNS:
        files = list(folder.glob(pattern))
        if files:
            return files
    return []


def _builtin(name: str) -> Source:
    """Returns a model that needs no download, its version checked and put into the name.

    Raises:
        UnknownNameError: there is no such model.
        BackboneError: it is there in another version, or its file is not the known one.
        MissingPackageError: the packages that hold it are not installed.
    """
    model, _, version = name.partition("@")
    newest = BUILTIN_MODELS.get(model)
    if newest is None or not (version.isdecimal() or name == model):
        known = [*BUILTIN_MODELS, *(f"{base}@{number}" for base, number in BUILTIN_MODELS.items())]
        raise unknown_name("built-in backbone", name, known)
    if version and int(version) != newest:
        raise BackboneError(
            f"Expected {model}@{newest}, the version that comes with this installation of predgen, found {name}. Use "
            f"{model} and fit again, or install the release of predgen that had that version (CHANGELOG.md says which)."
        )
    packaged = PACKAGED_MODELS.get(model)
    if packaged is not None:
        file = GgufFile.at(packaged.file(model))
        if file.content_hash != packaged.sha256:
            raise BackboneError(
                f"Expected the file of {model} with the SHA-256 {packaged.sha256}, found {file.content_hash}. "
                f"Install it again: {packaged.install}."
            )
        return _from_gguf(file, f"{model}@{newest}")
    with resources.as_file(resources.files("predgen.backbones") / model.removeprefix(BUILTIN)) as folder:
        return Source(f"{model}@{newest}", folder, None)


def _from_gguf(file: GgufFile, name: str) -> Source:
    """Returns a GGUF file as a source, its config and its tokenizer written into the cache."""
    facts = {"file": name, "sha256": file.content_hash, "holds": "config and tokenizer"}
    folder = kept(f"{file.content_hash[:16]}-shape-{VERSION}", facts, lambda new: write_shape(file, new))
    return Source(name, folder, None, gguf=file)


def _download(name: str, revision: str | None, trusted: bool) -> Source:
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
                name,
                revision=revision,
                allow_patterns=[*OTHER_PATTERNS, *weights, *([CODE_PATTERN] if trusted else [])],
                local_files_only=local_only,
            )
        )
    except HFValidationError as error:
        raise BackboneError(
            f"Expected a local folder, a hub id such as 'org/model', or {BUILTIN}nano, found '{name}'. Correct the "
            "name, or put the folder back where it was."
        ) from error
    except Exception as error:  # the client raises its own, httpx's and the system's errors
        raise BackboneError(
            f"Expected a local folder or a hub id that can be had, found '{name}': no such folder is here, and the "
            f"hub did not give it ({type(error).__name__}). Check the name, the network and your access, or use "
            f"{BUILTIN}nano."
        ) from error
    _refuse_adapter(folder, name)
    return Source(name, folder, folder.name, trusted)


def _refuse_adapter(folder: Path, name: str) -> None:
    """Refuses a PEFT adapter, which transformers would load its base model for.

    Raises:
        BackboneError: it is one.
    """
    file = folder / ADAPTER_FILE
    if not file.exists():
        return
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PromptLearningConfig

    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind, base = str(config["peft_type"]), str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"Expected a readable {ADAPTER_FILE} in '{name}', found damage ({type(error).__name__}: {error}). Copy it "
            "again, or name a whole model."
        ) from error
    if issubclass(PEFT_TYPE_TO_CONFIG_MAPPING.get(kind, object), PromptLearningConfig):
        raise BackboneError(
            f"Expected a whole model in '{name}', found an adapter of the kind {kind} over '{base}'. It learned tokens "
            "or keys before the prompt, which the masks and positions of this library would silently pass by, and it "
            f"cannot be merged. Use '{base}' itself."
        )
    raise BackboneError(
        f"Expected a whole model in '{name}', found an adapter of the kind {kind} over '{base}'. Merge it first and "
        "name the folder of the merged model, with the tokenizer beside it: "
        "`peft.AutoPeftModelForCausalLM.from_pretrained(…).merge_and_unload().save_pretrained(…)`."
    )
