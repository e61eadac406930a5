"""Names in Markdown and in pages: text, whatever they look like."""

import pytest

from predgen.report.information_pictures import information_markdown
from predgen.report.pages import code, plain_text, rendered
from predgen.report.tables import markdown_lines

NAMES = (
    "![x](https://example.org/a.png)",
    "[x](javascript:alert(1))",
    "<img src=x>",
    "<https://example.org>",
    "a | b",
    "a\n\n# b",
    "**b** `c` \\",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is(name: str) -> None:
    html = rendered("\n".join(markdown_lines(["name", "value"], [[plain_text(name), "1"], [code(name), "2"]])))
    assert html.count("<tr>") == 3
    assert html.count("<td>") == 4
    for tag in ("<img", "<a ", "<h1", "<strong"):
        assert tag not in html
    shown = " ".join(name.split()).replace("<", "&lt;").replace(">", "&gt;")
    assert f"<td>{shown}</td>" in html


@pytest.mark.parametrize("text", NAMES[:4])
def test_a_page_has_no_images_and_no_links_of_its_text(text: str) -> None:
    html = rendered(f"{text}\n\n[y]: https://example.org\n\n[y]")
    assert "<img" not in html
    assert "<a " not in html
    assert "<em>x</em>" in rendered("*x*")


def test_the_information_page_takes_any_name() -> None:
    measured = {
        **{"target": NAMES[0], "entropy": 0.5, "rows": {"learn": 5, "estimate": 5}, "learned_from": "x", "seeds": 1},
        **{"estimated_on": "test", "runs": [{"name": NAMES[4], "measures": [], "layers": {"pooled": []}}]},
    }
    html = rendered(information_markdown(measured))
    assert "<img" not in html
    assert f"<td>{NAMES[4]}</td>" in html
