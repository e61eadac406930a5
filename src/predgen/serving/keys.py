"""API keys: where they are read, and whether a request has one."""

import hmac
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from predgen.errors import ConfigError

VARIABLE = "PREDGEN_API_KEYS"
# Shorter ones can be guessed by trying.
LEAST_CHARACTERS = 16


class Keys:
    """Keys of which a request must have one; with none of them, everybody may ask.

    Args:
        keys: the keys; only their hashes are kept.

    Raises:
        ConfigError: a key is too short, or has characters that no header holds.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        hashes = []
        for number, key in enumerate(keys, start=1):
            if len(key) < LEAST_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(
                    f"Expected API keys of {LEAST_CHARACTERS} or more letters, digits and signs, without spaces, found "
                    f"another as key {number}. Make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
                )
            hashes.append(_hash(key.encode()))
        self._hashes = tuple(hashes)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def allow(self, authorization: str | None) -> bool:
        """Returns whether a request may be answered; how long that takes tells nothing about the keys.

        Args:
            authorization: the header of that name, such as `Bearer KEY`; None if there is none.
        """
        if not self._hashes:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        # Hashes have one length, and all of them are compared.
        found = [
            hmac.compare_digest(known, _hash(given.strip().encode("latin-1", "replace"))) for known in self._hashes
        ]
        return any(found) and scheme.lower() == "bearer"


def read_keys(path: str | None) -> Keys:
    """Returns the keys of a file and of the environment variable `PREDGEN_API_KEYS`; none if neither is given.

    Args:
        path: a file with a key on each line, lines that begin with # left out; None for none.

    Raises:
        ConfigError: the file cannot be read, a place that is given holds no key, or a key is unfit.
    """
    keys: list[str] = []
    if path is not None:
        keys += _found(f"the file '{path}'", _lines_of(path))
    if VARIABLE in os.environ:
        keys += _found(f"the variable {VARIABLE}", os.environ[VARIABLE].replace(",", "\n").splitlines())
    return Keys(keys)


def _lines_of(path: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError(
            f"Expected a file of API keys at '{path}', found none that can be read: {reason}. Name another."
        ) from error


def _found(where: str, lines: list[str]) -> list[str]:
    """Returns the keys among some lines. A place without any would open the server to everybody, unasked."""
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise ConfigError(f"Expected API keys in {where}, found none. Write one there, or leave it out.")
    return keys


def _hash(key: bytes) -> bytes:
    return sha256(key).digest()
