"""A fitted model goes to the hub: exactly the files of its artifact, in one commit."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo

from predgen.backbones.sources import BUILTIN
from predgen.errors import ArtifactError, ConfigError, PredGenError
from predgen.models.artifact import TOKENIZER_FOLDER, files_of, load_artifact
from predgen.models.card import CARD_FILE, card_of, for_repository, is_hub_id
from predgen.models.description import DESCRIPTION_FILE, BasePart, read_description
from predgen.models.hub import HUB_TIMEOUT_SECONDS, LOG_IN, said_by
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept

MAIN = "main"
UNAUTHORIZED, FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Pushed:
    """Where a model is now.

    Attributes:
        url: its page on the hub.
        commit: the hash of the commit that holds it.
        private: whether only those who have access see it.
        files: the names of its files.
    """

    url: str
    commit: str
    private: bool
    files: tuple[str, ...]


@random_states_kept()
def push(
    run: Model | str | Path,
    repository: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
    tag: str | None = None,
    local_base: bool = False,
    backbone: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Pushed:
    """Puts a fitted model on the hub: the files of its artifact, and nothing else that lies in its folder.

    It is loaded first, as others will load it. The repository is made if it is not there.

    Args:
        run: the model, or its artifact's directory.
        repository: the hub's name for it, such as `org/name`.
        private: whether only those who have access see it. A repository that is there must be so already.
        revision: the branch, which is made if it is not there; the main branch if not given.
        message: of the commit.
        tag: a name for the commit.
        local_base: also push a model over a folder or a file of this machine. Who loads it must have the same files,
            and name them (`backbone` of `predgen.load`).
        backbone: as in `predgen.load`.
        trust_remote_code: as in `predgen.load`.

    Raises:
        ArtifactError: the model does not load, nobody else has its base model, or the hub does not take it.
        ConfigError: it is no name of the hub, or the repository is private or public and should not be, or has the tag.
    """
    if not is_hub_id(repository, anywhere=True):
        raise ConfigError(f"Expected a name of the hub such as 'org/name', found '{repository}'. Correct it.")
    with tempfile.TemporaryDirectory() as scratch:
        anew = Path(scratch) / "model"
        if isinstance(run, Model):
            run.save(anew)
        folder = anew if isinstance(run, Model) else Path(run)
        _check_base(folder, read_description(folder).base, local_base)
        place = None if backbone is None else str(backbone)
        method, contents = load_artifact(folder, backbone=place, device="cpu", trust_remote_code=trust_remote_code)
        if read_description(folder).files is None:  # of an old release: what lies there need not be what was saved
            Model(method, contents).save(anew)
            folder = anew
        card = _card_in(folder) or card_of(contents, method.target)
        files: dict[str, str | bytes] = {name: str(file) for name, file in files_of(folder).items()}
        files |= {
            DESCRIPTION_FILE: str(folder / DESCRIPTION_FILE),
            CARD_FILE: for_repository(card, repository).encode(),
        }
        with _refusals(repository):
            commit = _commit(repository, files, private, revision or MAIN, message or "A model of PredGen", tag)
    return Pushed(f"{HfApi().endpoint}/{repository}", commit, private, tuple(sorted(files)))


def _check_base(folder: Path, base: BasePart, local_base: bool) -> None:
    """Refuses a base model that only this machine has: those of the hub have a revision."""
    if base.revision is None and not base.name.startswith(BUILTIN) and not local_base:
        raise ArtifactError(
            f"Expected a base model that others have, of the hub or built in, found that '{folder}' was fitted over "
            f"'{base.name}' on this machine. Fit it over one of the hub; or push it with --local-base "
            "(local_base=True), and give the base's files to those who load it."
        )


def _card_in(folder: Path) -> str | None:
    """Returns an artifact's card, None if it has none.

    Raises:
        ArtifactError: it is no file of the folder, or no text.
    """
    card = folder / CARD_FILE
    if not card.exists():
        return None
    inside = card.is_file() and card.resolve().is_relative_to(folder.resolve())
    try:
        return card.read_bytes().decode() if inside else _refuse_card(card, "another thing")
    except UnicodeDecodeError:
        return _refuse_card(card, "bytes that are none")


def _refuse_card(card: Path, found: str) -> str:
    raise ArtifactError(
        f"Expected a card that is a text in the artifact's folder, found {found} at '{card}'. Delete it: another is "
        "made then."
    )


def _commit(
    repository: str, files: dict[str, str | bytes], private: bool, branch: str, message: str, tag: str | None
) -> str:
    """Returns the hash of the commit that holds a model's files.

    Args:
        repository: the hub's name.
        files: what each file holds by its name in the repository: bytes, or the path of a file.
        private: whether the repository is to be private.
        branch: where the commit goes.
        message: of the commit.
        tag: its tag.
    """
    api = HfApi()
    info = _info(api, repository)
    if info is None:
        api.create_repo(repository, private=private)
    else:
        _check_visibility(info, repository, private)
        if tag is not None and tag in [known.name for known in api.list_repo_refs(repository).tags]:
            raise ConfigError(
                f"Expected a new tag, found that '{repository}' has the tag '{tag}', which others may have pinned. "
                "Name another."
            )
    if branch != MAIN:
        api.create_branch(repository, branch=branch, exist_ok=True)
    before = [] if info is None else api.list_repo_files(repository, revision=branch)
    old = [name for name in before if name.startswith(f"{TOKENIZER_FOLDER}/") and name not in files]
    done = api.create_commit(
        repository,
        [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()),
            *(CommitOperationDelete(path_in_repo=name) for name in old),
        ],
        commit_message=message,
        revision=branch,
    )
    if tag is not None:
        _tag(api, repository, tag, done.oid)
    return str(done.oid)


def _tag(api: HfApi, repository: str, tag: str, commit: str) -> None:
    """Gives a commit a name.

    Raises:
        ArtifactError: the hub does not take the name; the model is there all the same.
    """
    try:
        api.create_tag(repository, tag=tag, revision=commit)
    except HfHubHTTPError as error:
        raise ArtifactError(
            f"Expected the hub to take the tag '{tag}', found that it does not ({said_by(error)}). The model is in "
            f"'{repository}' all the same, as the commit {commit}. Name another tag."
        ) from error


def _info(api: HfApi, repository: str) -> ModelInfo | None:
    """Returns what the hub says of a repository, None where it has none of that name."""
    try:
        return api.model_info(repository, timeout=HUB_TIMEOUT_SECONDS)
    except RepositoryNotFoundError as error:
        if error.response.status_code == UNAUTHORIZED:
            raise
        return None


def _check_visibility(info: ModelInfo, repository: str, private: bool) -> None:
    """Refuses a repository that others see and should not, or that they do not see and should."""
    if bool(info.private) != private:
        wanted, found = ("private", "public") if private else ("public", "private")
        mend = "push with --public (private=False)" if private else "leave --public (private=False) out"
        raise ConfigError(
            f"Expected a {wanted} repository, found that '{repository}' is there and {found}. Name another, change it "
            f"on its page, or {mend}."
        )


@contextmanager
def _refusals(repository: str) -> Iterator[None]:
    """Says in our own words why the hub does not take a model."""
    try:
        yield
    except PredGenError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        fix = f"Mend what it says, or try again later: {said_by(error)}"
        if status == UNAUTHORIZED:
            fix = f"It takes no such token, or there is none: {LOG_IN} to one that may write."
        elif status == FORBIDDEN:
            fix = f"Your token may not write there: {LOG_IN} to one that may."
        raise ArtifactError(
            f"Expected the hub to take '{repository}', found that it refuses it ({status}). {fix}"
        ) from error
    except Exception as error:  # the client's own, httpx's and the system's errors
        said = said_by(error.__cause__ or error)
        fix = f"Check the network, whether HF_HUB_OFFLINE forbids it, and the header of {CARD_FILE}."
        if "xet" in str(error):  # the protocol of large files, which a hub of one's own need not speak
            fix = "Check the network; or set HF_HUB_DISABLE_XET=1 if it is a hub without the protocol Xet."
        raise ArtifactError(f"Expected the hub to take '{repository}', found an error ({said}). {fix}") from error
