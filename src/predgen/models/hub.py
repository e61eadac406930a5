"""Models on the hub: a name becomes the folder of one commit in the hub's cache, which is then loaded as any other."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from predgen.errors import ArtifactError, ConfigError, PredGenError
from predgen.models.artifact import SETTINGS_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE, files_of
from predgen.models.card import CARD_FILE, is_hub_id
from predgen.models.description import DESCRIPTION_FILE, Description, read_description

log = logging.getLogger("predgen")

HUB_TIMEOUT_SECONDS = 10
LOG_IN = "log in (hf auth login), or set HF_TOKEN"
# Statuses from here on say that the hub is in trouble, not that the request is wrong.
SERVER_FAULTS = 500


@dataclass(frozen=True)
class Place:
    """Where an artifact lies.

    Attributes:
        folder: its directory on this machine.
        origin: the hub's name and the commit, such as `org/name@0123…`; None of one that was here.
    """

    folder: Path
    origin: str | None = None


def names_hub_model(run: str | Path) -> bool:
    """Returns whether a name is one of the hub, and nothing here has it. A `Path` is always a place on this machine."""
    return isinstance(run, str) and not os.path.lexists(Path(run).expanduser()) and is_hub_id(run)


def find_artifact(run: str | Path, revision: str | None = None) -> Place:
    """Returns where an artifact lies, downloading it if it is named by the hub's name.

    Args:
        run: its directory, or the hub's name such as `org/name`, where no directory of that name is here.
        revision: of the hub: a branch, a tag or a commit; the main branch if not given.

    Raises:
        ArtifactError: the hub does not give it, or it is no artifact of PredGen.
        ConfigError: there is a revision, and a model that is not on the hub.
    """
    if names_hub_model(run):
        return _downloaded(str(run), revision)
    if revision is not None:
        raise ConfigError(
            "Expected a revision (--revision) with a model of the hub such as 'org/name', found it with the local "
            f"'{run}'. Leave it out."
        )
    return Place(Path(run))


def check_is_local(run: str | Path, what: str) -> None:
    """Refuses a model of the hub where something is written into a model's folder.

    Args:
        run: as in `find_artifact`.
        what: what is written, such as `a card`.

    Raises:
        ConfigError: it is on the hub.
    """
    if names_hub_model(run):
        raise ConfigError(
            f"Expected a local folder to write {what} into, found none at '{run}'. Of a model of the hub make a copy "
            f'first: predgen.load("{run}").save("copy") in Python.'
        )


def _downloaded(name: str, revision: str | None) -> Place:
    """Returns a commit's folder in the hub's cache, with an artifact's files alone."""
    with hub_refusals(name, revision):
        # Asked first: what is cached may be used where the hub is silent, not where it refuses.
        offline = not _answers(name, revision)
        file = hf_hub_download(name, DESCRIPTION_FILE, revision=revision, local_files_only=offline)
        folder = Path(file).parent
        description = read_description(folder)  # before anything else is fetched
        patterns = [DESCRIPTION_FILE, CARD_FILE, *_patterns_of(description)]
        snapshot_download(name, revision=folder.name, allow_patterns=patterns, local_files_only=offline)
    _check_links(folder)
    kept = ", from the cache, as the hub cannot be reached" if offline else ""
    log.info("'%s' of the hub: the revision %s is the commit %s%s.", name, revision or "main", folder.name, kept)
    return Place(folder, f"{name}@{folder.name}")


def _answers(name: str, revision: str | None) -> bool:
    """Returns whether the hub has a model, False where it cannot be reached.

    Raises:
        HfHubHTTPError: it refuses the model.
    """
    try:
        HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
    except HfHubHTTPError as error:
        if error.response.status_code < SERVER_FAULTS:
            raise
        return False
    except Exception:  # the client's own, httpx's and the system's errors
        return False
    return True


def _patterns_of(description: Description) -> list[str]:
    """Returns the files that a description names, other than those that no artifact has."""
    folder = f"{TOKENIZER_FOLDER}/"
    if description.files is None:
        return [WEIGHTS_FILE, SETTINGS_FILE, f"{folder}*"]
    names = description.files
    return [escape(name) for name in names if name in (WEIGHTS_FILE, SETTINGS_FILE) or name.startswith(folder)]


def _check_links(folder: Path) -> None:
    """Refuses files that lead out of the hub's cache, whose own links lead from a commit to its contents.

    Raises:
        ArtifactError: one does.
    """
    cache = folder.resolve().parents[2]  # folder: cache/models--org--name/snapshots/commit
    for file in [folder / DESCRIPTION_FILE, folder / CARD_FILE, *files_of(folder).values()]:
        if not file.resolve().is_relative_to(cache):
            raise ArtifactError(
                f"Expected a file of the hub's cache, found that '{file}' leads out of it. Delete that folder, and "
                "load the model again."
            )


@contextmanager
def hub_refusals(name: str, revision: str | None) -> Iterator[None]:
    """Says in our own words why the hub does not give a model.

    Args:
        name: the hub's name of it.
        revision: which revision was asked for.
    """
    try:
        yield
    except PredGenError:
        raise
    except GatedRepoError as error:
        raise ArtifactError(
            f"Expected a model of the hub that you may read, found that '{name}' is gated. Ask for access on its page, "
            f"and {LOG_IN}."
        ) from error
    except RevisionNotFoundError as error:
        raise ArtifactError(
            f"Expected a branch, a tag or a commit of '{name}' on the hub, found no '{revision}' there. Correct the "
            "revision (--revision)."
        ) from error
    except RepositoryNotFoundError as error:
        raise ArtifactError(
            f"Expected a fitted model, found no folder '{name}' here, and on the hub none of that name that you may "
            f"read. Check the name; for a private model {LOG_IN}."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ArtifactError(
            f"Expected a fitted model, found no folder '{name}' here; the hub cannot be reached, and its cache holds "
            f"no whole copy of the revision {revision or 'main'}. Check the path; else the network, and whether "
            "HF_HUB_OFFLINE forbids it."
        ) from error
    except EntryNotFoundError as error:
        raise ArtifactError(
            f"Expected a PredGen artifact with a {DESCRIPTION_FILE}, found none in '{name}' on the hub. Check the "
            f"name; a base model is named at the fit: --backbone {name}."
        ) from error
    except Exception as error:  # the client's own, httpx's and the system's errors
        raise ArtifactError(
            f"Expected the model '{name}' from the hub, which did not give it ({said_by(error)}). Check your access, "
            "the network and the space on the disk."
        ) from error


def said_by(error: BaseException) -> str:
    """Returns what an error of the hub's client says, in one line: what the server said, if it said something."""
    said = getattr(error, "server_message", None) or str(error)
    return f"{type(error).__name__}: {' '.join(said.split())[:200]}"
