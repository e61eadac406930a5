"""The grid of shapes and numbers of tokens."""

import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.nano import nano_sizes as sizes


def test_every_shape_is_pretrained_on_every_number_of_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Any] = []

    def fake(options: Any) -> dict[str, Any]:
        ran.append(options)
        return {"parameters": 1000 * options.width, "tokens": int(options.tokens), "held_out_loss": 2.5}

    monkeypatch.setattr(sizes, "pretrain", fake)
    monkeypatch.setattr(sys, "argv", ["nano_sizes.py", "text", "--out", str(tmp_path)])
    sizes.main()
    assert {(f"{one.width}x{one.layers}", one.tokens) for one in ran} == {
        (shape, float(tokens)) for shape in sizes.SHAPES for tokens in sizes.TOKENS
    }
    assert len({one.out for one in ran}) == len(ran)
    sizes.main()
    assert len(ran) == len(sizes.SHAPES) * len(sizes.TOKENS)
    assert "| 256x6 | 256,000 | 500,000 | 2.500 |" in capsys.readouterr().out
