"""The code blocks of the README and of the site's pages."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import predgen

ROOT = Path(predgen.__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
# Made while the site is built, or by a study.
MADE = ("_build", "generated", "ablation")
_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,}|:{3,})(?P<about>.*)$")
_CODE_DIRECTIVE = re.compile(r"\{code(?:-block)?\} *(?P<language>\w*)")
_CAPTION = re.compile(r"^ *:caption: *\"?(?P<caption>.*?)\"?$")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its page, from the repository's root.
        line: the line on which it begins.
        language: what stands behind the fence.
        text: what is in it.
        caption: its caption; empty if it has none.
        output: the text block right behind it; None if there is none.
    """

    page: str
    line: int
    language: str
    text: str
    caption: str = ""
    output: str | None = None

    @property
    def name(self) -> str:
        """Returns where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Returns whether it can run in a test."""
        return not self.caption.startswith("Not run by the tests: ")


def pages() -> list[Path]:
    """Returns the README and the pages that people write."""
    written = [page for page in sorted(DOCS.rglob("*.md")) if not set(MADE) & set(page.relative_to(DOCS).parts)]
    return [README, *written]


@cache
def blocks_of(page: Path) -> list[Block]:
    """Returns the code blocks of a page; directives that hold no code are left out."""
    lines = page.read_text(encoding="utf-8").splitlines()
    name = str(page.relative_to(ROOT))
    blocks: list[Block] = []
    end_of_last, start = -1, 0
    while start < len(lines):
        opened = _FENCE.match(lines[start])
        if opened is None:
            start += 1
            continue
        end = next(
            (n for n in range(start + 1, len(lines)) if lines[n].strip() == opened["fence"]),
            len(lines),
        )
        about = opened["about"].strip()
        directive = _CODE_DIRECTIVE.match(about)
        content = lines[start + 1 : end]
        caption = ""
        while directive and content and (content[0].startswith(":") or not content[0]):
            shown = _CAPTION.match(content.pop(0))
            caption = shown["caption"] if shown else caption
        language = directive["language"] if directive else about
        block = Block(name, start + 1, language, "\n".join(content) + "\n", caption)
        is_output = block.language == "text" and blocks and not any(lines[end_of_last + 1 : start])
        if is_output and blocks[-1].language == "python":
            previous = blocks[-1]
            blocks[-1] = Block(name, previous.line, "python", previous.text, previous.caption, block.text)
        elif directive or not about.startswith("{"):
            blocks.append(block)
        end_of_last, start = end, end + 1
    return blocks
