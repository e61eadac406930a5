"""What a server takes, and how it refuses what is more."""

import math
from dataclasses import dataclass, fields

from predgen.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Attributes:
        rows: the most rows of a request.
        characters: the most characters of a cell.
        body_bytes: the most bytes of a request's body.
        waiting_rows: the most rows of a model that wait for their turn.
        timeout_seconds: how long a request may take to arrive, and how long its answer; of a stream each part.
        delay_ms: how long the first request of a batch waits for others, in milliseconds.

    Raises:
        ConfigError: a limit is not above 0; the delay may be 0.
    """

    rows: int = 1_000
    characters: int = 100_000
    body_bytes: int = 8 * 2**20
    waiting_rows: int = 4_096
    timeout_seconds: float = 60.0
    delay_ms: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least_is_open = field.name != "delay_ms"
            if not math.isfinite(value) or value < 0 or (least_is_open and value == 0):
                name = field.name.replace("_", " ")
                above = "a number above 0" if least_is_open else "a number of 0 or more"
                raise ConfigError(f"Expected {above} for the limit '{name}', found {value:g}. Give another.")


class Refused(Exception):
    """A request that is not answered; the message says what was expected, what was found, and what to do.

    Attributes:
        status: the HTTP status.
        kind: what clients can tell it by.
        retry_after: seconds after which to ask again; None if that does not help.
    """

    def __init__(self, status: int, kind: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What stands in the answer's head."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {**headers, "WWW-Authenticate": "Bearer"} if self.status == 401 else headers

    def to_json(self) -> dict[str, dict[str, str]]:
        """Returns the body of the answer."""
        return error_json(self.kind, str(self))


def error_json(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Returns the one form that errors have.

    Args:
        kind: what clients can tell it by.
        message: for people.
    """
    return {"error": {"type": kind, "message": message}}
