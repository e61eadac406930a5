"""Packages that only some commands need, and the answer where one is missing."""

from importlib.util import find_spec

from predgen.errors import MissingPackageError


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
