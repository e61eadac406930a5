"""`predgen_prompt.json`: how a row becomes tokens, and how answers are read from logits, without PredGen."""

from typing import Any

from predgen.backbones.prompts import LINE_BREAK
from predgen.backbones.template import SEPARATOR
from predgen.exporting.adapter_folder import base_name
from predgen.exporting.exportable import Exportable

PROMPT_FILE = "predgen_prompt.json"
FORMAT = 1

# A text of a prompt: pieces that stay, and fields that a row fills, as {"field": name}.
Pieces = list[str | dict[str, str]]


def prompt_facts(exportable: Exportable, *, to: str) -> dict[str, Any]:
    """Returns the content of the file as plain JSON values.

    Args:
        exportable: what is exported.
        to: the format, or `adapter`.
    """
    backbone, contents = exportable.predictor.backbone, exportable.contents
    special = backbone.prompts.special_tokens
    settings = contents.config
    columns = settings.data.target
    texts = texts_of(contents.template.pieces, separated=special.joint is not None)
    most = min(settings.model.max_prompt_tokens, backbone.longest_prompt(0))
    # A graph has them inside.
    uniform = 0.0 if to == "onnx" else exportable.uniform_fraction
    threshold = contents.answering.of_field(0).threshold
    base = {"base": base_name(exportable), "revision": contents.base_revision} if to == "adapter" else {}
    return {
        "format": FORMAT,
        "to": to,
        **base,
        "target": columns if isinstance(columns, str) else columns[0],
        "inputs": list(contents.template.fields),
        "texts": texts,
        "before": special.prefix,
        "between": special.joint or [],
        "after": special.suffix,
        "split_special_tokens": special.plain or special.splits_specials,
        "token_types": to != "onnx" and len(texts) > 1 and backbone.tells_texts_apart,
        "max_tokens": most,
        "pad_token_id": exportable.pad_id,
        "padding_side": "right",
        "answer": {**exportable.head.reading(threshold), "uniform_fraction": uniform},
    }


def texts_of(pieces: list[tuple[str, str | None]], *, separated: bool) -> list[Pieces]:
    """Returns the texts of a template.

    Args:
        pieces: of the template: each a text and None, or "" and a field's name.
        separated: whether a separator ends a text; if not, it is a line break inside it.
    """
    texts: list[Pieces] = [[]]
    for text, field in pieces:
        if field is not None:
            texts[-1].append({"field": field})
            continue
        first, *others = text.split(SEPARATOR) if separated else [text.replace(SEPARATOR, LINE_BREAK)]
        texts[-1] += [first] if first else []
        texts += [[other] if other else [] for other in others]
    return texts
