"""Packages that only some commands need: found, or answered with the line that installs them."""

import sys

import pytest

from predgen.errors import MissingPackageError, require


def test_what_is_installed_is_not_complained_about() -> None:
    require("numpy", extra="plots", what="a test")


def test_a_missing_package_is_answered_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    message = (
        r"^Expected the package numpy, which a test needs, found it not installed\. "
        r"Install it: pip install 'predgen\[plots\]'$"
    )
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingPackageError, match=message):
        require("numpy", extra="plots", what="a test")
    with pytest.raises(ImportError, match="no_such_package"):
        require("no_such_package", extra="plots", what="a test")
