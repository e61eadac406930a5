"""The version of the package; CHANGELOG.md is held to it by a test."""

__version__ = "0.7.0"
