"""Keys and limits of a server by themselves."""

import hmac
from pathlib import Path
from typing import Any

import pytest

from predgen.errors import ConfigError
from predgen.serving.keys import VARIABLE, Keys, read_keys
from predgen.serving.limits import Limits, Refused

KEY, OTHER = "a-key-of-twenty-signs", "another-key-of-more-signs"


def test_only_a_whole_key_opens() -> None:
    keys = Keys([KEY, OTHER])
    assert keys.allow(f"Bearer {KEY}")
    assert keys.allow(f"bearer  {OTHER} ")
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        "Bearer ü",
    ):
        assert not keys.allow(wrong), wrong


def test_without_keys_everybody_may_ask() -> None:
    assert not Keys()
    assert Keys().allow(None)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return original(one, other)

    keys = Keys([KEY, OTHER])
    monkeypatch.setattr("predgen.serving.keys.hmac.compare_digest", compare)
    assert keys.allow(f"Bearer {KEY}")
    assert not keys.allow("Bearer x")
    assert compared == [(32, 32)] * 4


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not read_keys(None)
    (tmp_path / "keys").write_text(f"# of the shop\n\n  {KEY}\n")
    monkeypatch.setenv(VARIABLE, f"{OTHER},{OTHER}-2")
    keys = read_keys(str(tmp_path / "keys"))
    assert all(keys.allow(f"Bearer {key}") for key in (KEY, OTHER, f"{OTHER}-2"))
    assert not keys.allow("Bearer # of the shop")


@pytest.mark.parametrize(
    ("content", "variable", "message"),
    [
        (b"\n# none\n", None, "Expected API keys in the file '.*', found none"),
        (b"\xff\xfe", None, "it is no text in UTF-8"),
        (None, None, "No such file"),
        (b"short", None, "16 or more letters, digits and signs, without spaces, found another as key 1"),
        (KEY.encode() + b"\nsixteen signs and spaces", None, "as key 2"),
        ("ä".encode() * 20, None, "as key 1"),
        (KEY.encode(), " , ", f"Expected API keys in the variable {VARIABLE}, found none"),
    ],
)
def test_a_place_without_fit_keys_does_not_open_the_server(
    content: bytes | None, variable: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        read_keys(str(tmp_path / "keys"))
    assert "short" not in str(refused.value)  # a key is not shown


@pytest.mark.parametrize(
    "wrong",
    [{"rows": 0}, {"characters": -1}, {"body_bytes": 0}, {"timeout_seconds": float("nan")}, {"delay_ms": -0.1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_limits_are_above_0(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Expected a number"):
        Limits(**wrong)
    assert Limits(delay_ms=0.0).delay_ms == 0


def test_refusals_say_when_to_ask_again_and_how() -> None:
    assert Refused(429, "QueueFull", "full", retry_after=3).headers == {"Retry-After": "3"}
    assert Refused(401, "Unauthorized", "no").headers == {"WWW-Authenticate": "Bearer"}
    assert Refused(422, "InvalidRequest", "no").to_json() == {"error": {"type": "InvalidRequest", "message": "no"}}
