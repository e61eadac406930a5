"""Every error that PredGen raises on purpose.

    PredGenError
    ├── DataError            (ValueError)   a table, a row or a cell is not what was expected
    ├── ConfigError          (ValueError)   a setting is wrong
    ├── UnknownNameError     (LookupError)  a name is not known; close names are suggested
    ├── TargetError          (ValueError)   a value cannot be a value of the target
    ├── TemplateError        (ValueError)   the template is malformed or does not fit the model
    ├── BackboneError        (ValueError)   a model cannot be loaded or cannot be used
    ├── ArtifactError        (ValueError)   a saved model is damaged, too new, of another base, or not had
    ├── OutputExistsError    (FileExistsError)  the output is already there
    ├── MissingPackageError  (ImportError)  a package that only some commands need is not installed
    └── TrainingError        (RuntimeError) training cannot go on
        └── DivergenceError  (TrainingError)  these settings do not train

A message says what was expected, what was found (row and column), and what to do. The command line prints it
without a traceback and exits with code 2.
"""

import difflib
import unicodedata
from collections.abc import Iterable
from importlib.util import find_spec

EXIT_CODE = 2
# Signs that turn the direction of writing: what follows them is shown elsewhere than it stands.
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class PredGenError(Exception):
    """The root of every error that PredGen raises on purpose."""


class DataError(PredGenError, ValueError):
    """A table, a row or a cell is not what was expected."""


class ConfigError(PredGenError, ValueError):
    """A setting is wrong."""


class UnknownNameError(PredGenError, LookupError):
    """A name is not known; close names are suggested."""


class TargetError(PredGenError, ValueError):
    """A value cannot be a value of the target."""


class TemplateError(PredGenError, ValueError):
    """The template is malformed or does not fit the model."""


class BackboneError(PredGenError, ValueError):
    """A model cannot be loaded or cannot be used."""


class ArtifactError(PredGenError, ValueError):
    """A saved model is damaged, too new, of another base, or the hub does not give or take it."""


class OutputExistsError(PredGenError, FileExistsError):
    """The output is already there and was not to be overwritten."""


class MissingPackageError(PredGenError, ImportError):
    """A package that only some commands need is not installed."""


class TrainingError(PredGenError, RuntimeError):
    """Training cannot go on."""


class DivergenceError(TrainingError):
    """A loss or a gradient is not finite: these settings do not train."""


def explain(*, expected: str, found: str, fix: str, row: int | None = None, column: str | None = None) -> str:
    """Returns the one form that messages about data have.

    Args:
        expected: what should have been there.
        found: what was there.
        fix: what the user can do.
        row: the row, counted from 1 without the header.
        column: the column's name.
    """
    locations = ([f"row {row}"] if row is not None else []) + ([f"column '{column}'"] if column is not None else [])
    where = f" in {', '.join(locations)}" if locations else ""
    return f"Expected {expected}{where}, found {found}. {fix}"


def printable(text: str) -> str:
    r"""Returns a text whose control characters are written out, as people are to see it.

    Line breaks and tabs stay. A label or a file's name could otherwise rewrite a terminal's lines, or its title; signs
    that turn the direction of writing, and halves of surrogate pairs, are written out too.

    Example:
        >>> printable("good\x1b[2Jbad")
        'good\\x1b[2Jbad'
    """
    if text.isprintable():
        return text
    return "".join(
        _written_out(letter) if unicodedata.category(letter) in ("Cc", "Cs") or letter in TURNING else letter
        for letter in text
    )


def _written_out(letter: str) -> str:
    return letter if letter in "\n\t" else letter.encode("unicode_escape").decode()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the closest of the known names as a question, to stand behind a sentence; nothing if none is close.

    Example:
        >>> did_you_mean("predgan", ["predictor", "generator", "predgen"])
        " Did you mean 'predgen'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Returns the error for an unknown name, with the closest known names.

    Args:
        kind: what is named, such as `method` or `column`.
        name: the name that was given.
        known: all the names that are known.

    Example:
        >>> print(unknown_name("method", "predgan", ["predictor", "generator", "predgen"]))
        Unknown method 'predgan'. Did you mean 'predgen'? Known: predictor, generator, predgen.
    """
    names = list(map(str, known))
    return UnknownNameError(f"Unknown {kind} '{name}'.{did_you_mean(name, names)} Known: {', '.join(names)}.")


def require(package: str, *, extra: str, what: str) -> None:
    """Refuses to begin what needs a package that is not installed; to be called before any long work.

    Args:
        package: the name by which it is imported.
        extra: the extra of PredGen that brings it.
        what: what needs it, as people know it, such as `--plot`.

    Raises:
        MissingPackageError: with the line that installs it.
    """
    if find_spec(package) is None:
        raise MissingPackageError(
            f"Expected the package {package}, which {what} needs, found it not installed. "
            f"Install it: pip install 'predgen[{extra}]'"
        )
