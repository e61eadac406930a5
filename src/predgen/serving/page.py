"""The server's pages: one file each, which asks nobody but this server."""

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# A page may run its own script, have its own style, and ask this server; nothing else.
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_TEMPLATES = Environment(
    loader=PackageLoader("predgen.serving"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        html: the file.
        policy: its Content-Security-Policy.
    """

    html: str
    policy: str


def start_page(*, needs_key: bool) -> Page:
    """Returns the page on which people ask the models.

    Args:
        needs_key: whether they need a key.
    """
    return _filled("start.html", script=_text_of("start.js"), needs_key=needs_key)


def docs_page(api: dict[str, Any]) -> Page:
    """Returns the page about the routes.

    Args:
        api: as `predgen.serving.openapi.described` returns it.
    """
    routes = [
        {"method": method.upper(), "path": path, **_shown(of_route)}
        for path, methods in api["paths"].items()
        for method, of_route in methods.items()
    ]
    fields = api["components"]["schemas"]["PredictRequest"]["properties"]
    options = [(name, of_field["description"]) for name, of_field in fields.items()]
    return _filled("docs.html", script="", routes=routes, options=options, version=api["info"]["version"])


def _shown(route: dict[str, Any]) -> dict[str, Any]:
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    answer = route["responses"]["200"]["content"].get("application/json", {}).get("example")
    return {
        "summary": route["summary"],
        "description": route.get("description", "").split("`"),  # code stands at every second place
        "needs_key": "security" in route,
        "requests": [(name, _json(one["value"])) for name, one in content.get("examples", {}).items()],
        "answer": "" if answer is None else _json(answer),
        "responses": [(status, one["description"]) for status, one in route["responses"].items()],
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _filled(template: str, *, script: str, **values: Any) -> Page:
    """Returns a page with the look of the reports."""
    look = (files("predgen") / "report" / "templates" / "style.css").read_text(encoding="utf-8")
    style = look + _text_of("serving.css")
    html = _TEMPLATES.get_template(template).render(style=Markup(style), script=Markup(script), **values) + "\n"
    return Page(html, POLICY.format(script=_hash(script) if script else "'none'", style=_hash(style)))


def _text_of(name: str) -> str:
    return (files("predgen.serving") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Returns what lets a browser run this text alone."""
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
