"""The public names, in one place and all of them there."""

import subprocess
import sys

import pytest

import predgen
from predgen import errors


def test_every_public_name_can_be_had() -> None:
    for name in predgen.__all__:
        assert getattr(predgen, name) is not None, name


def test_names_stay_what_they_are_after_their_modules_are_imported() -> None:
    # A submodule of the same name would take a function's place.
    assert callable(predgen.compare)
    assert callable(predgen.fit)
    assert callable(predgen.compare)


def test_every_error_is_public_and_of_one_tree() -> None:
    own = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert own <= set(predgen.__all__)
    assert all(issubclass(getattr(errors, name), errors.PredGenError) for name in own)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        predgen.no_such_name  # noqa: B018


def test_importing_the_package_imports_no_framework() -> None:
    code = "import sys, predgen; print([m for m in ('torch', 'transformers', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_newest_of_the_changelog() -> None:
    from pathlib import Path

    changelog = Path(predgen.__file__).parents[2] / "CHANGELOG.md"
    headings = [line for line in changelog.read_text(encoding="utf-8").splitlines() if line.startswith("## [")]
    assert headings[0].startswith(f"## [{predgen.__version__}]")
