"""Tables of an inspected backbone, from its JSON, for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from predgen.names import PEFT_METHODS

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
HOW = {
    "bare": "a piece of its own",
    "prefixed": "a piece with the prefix of a word's start or end",
    "added": "no piece: a token is added and trained",
}


def format_bytes(count: int) -> str:
    """Returns bytes that people can read.

    Example:
        >>> format_bytes(512), format_bytes(23_704_576), format_bytes(26_953_662_464)
        ('512 B', '22.6 MiB', '25.1 GiB')
    """
    unit_index = min(max(count.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{count} B" if unit_index == 0 else f"{count / 1024**unit_index:.1f} {UNITS[unit_index]}"


def inspection_parts(inspection: Mapping[str, Any]) -> list[Table | Text]:
    """Returns the backbone, its tokenizer, the target if there is one, and the memory plan: headings, tables, lines.

    Args:
        inspection: the JSON of an `Inspection`.
    """
    backbone, target, plan = inspection["backbone"], inspection["target"], inspection["plan"]
    sections: list[Table | Text] = [_heading(backbone["name"]), _backbone_table(backbone), _heading("Tokenizer")]
    sections.append(_tokenizer_table(inspection["tokenizer"]))
    if target is not None:
        sections += [_heading(f"Target: {target['description']}"), _target_table(target), Text(_target_line(target))]
    peft = update_line(plan)
    sizes = f"{plan['batch_size']} rows of {plan['prompt_tokens']} + {plan['target_tokens']} tokens"
    sections += [_heading(f"Memory of {plan['method']} in {plan['dtype']}, {peft}, {sizes}"), _plan_table(plan)]
    trained = f"{plan['trained_parameters']:,} of {plan['parameters']:,} parameters are trained"
    return [*sections, Text(f"{trained}, heads included; what has a ≈ is estimated, the rest is exact.")]


def update_line(plan: Mapping[str, Any]) -> str:
    """Returns what is trained of the backbone, by its name and its size.

    Example:
        >>> update_line({"peft": "rocoft", "rank": 3, "lora_rank": None, "rocoft_axis": "rows"})
        'RoCoFT of 3 rows'
    """
    if plan["peft"] in ("none", "frozen"):
        return "all weights trained" if plan["peft"] == "none" else "nothing of the backbone trained"
    title = PEFT_METHODS[plan["peft"]].title
    if plan["peft"] == "rocoft":
        axis = plan["rocoft_axis"] if plan["rank"] > 1 else plan["rocoft_axis"].removesuffix("s")
        return f"{title} of {plan['rank']} {axis}"
    return f"{title} of rank {plan['lora_rank']}" + (f" from {plan['rank']}" if plan["peft"] == "adalora" else "")


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _backbone_table(backbone: Mapping[str, Any]) -> Table:
    table = _pairs()
    parameters = f"{backbone['parameters']:,}"
    if backbone["writer_parameters"] is not None:
        parameters += f", and {backbone['writer_parameters']:,} of the Writer beside it"
    layers = str(backbone["prompt_layers"])
    if backbone["target_layers"] is not None:
        layers += f" that read, {backbone['target_layers']} that write"
    most = backbone["max_tokens"]
    unknown = "not known without its weights"
    for name, value in {
        "kind": backbone["kind"],
        "class": backbone["class"],
        "parameters": parameters,
        "hidden size": str(backbone["hidden_size"]),
        "layers": layers,
        "embedding rows": f"{backbone['embedding_rows']:,}",
        "most tokens": "no limit is known" if most is None else f"{most:,}",
        "road": unknown if backbone["road"] is None else _described_path(backbone["road"]),
        "trees of targets": unknown if backbone["trees"] is None else f"written {backbone['trees']}",
    }.items():
        _row(table, name, value)
    return table


def _described_path(path: str) -> str:
    return {"cached": "cached: a prompt is read once", "plain": "plain: the whole text is read for each write"}[path]


def _tokenizer_table(tokenizer: Mapping[str, Any] | None) -> Table:
    table = _pairs()
    if tokenizer is None:
        _row(table, "not available", "its files are not here; a number still has one token for each character")
        return table
    padded = tokenizer["padded_rows"]
    rows = f"{tokenizer['embedding_rows']:,} embedding rows"
    if padded > 0:
        rows += f", {padded:,} of them padding"
    elif padded < 0:
        rows += f", {-padded:,} too few: tokens that were added without a row"
    _row(table, "class", tokenizer["class"])
    _row(table, "vocabulary", f"{tokenizer['vocabulary']:,} tokens for {rows}")
    for name, token in tokenizer["special"].items():
        if token is None and name == "classification":
            continue
        _row(table, f"{name} token", "none" if token is None else f"{token['token']} ({token['id']})")
    for name, value in _gguf_rows(tokenizer.get("gguf")):
        _row(table, name, value)
    for how, meaning in HOW.items():
        symbols = [symbol for symbol in tokenizer["symbols"] if symbol["how"] == how]
        if symbols:
            characters = " ".join(symbol["character"] for symbol in symbols)
            shown = "" if how != "prefixed" else f": {' '.join(symbol['piece'] for symbol in symbols)}"
            _row(table, characters, f"{'each ' if len(symbols) > 1 else ''}{meaning}{shown}")
    running = tokenizer["running_number"]
    merged = " (digits are merged in running text; a target is written digit by digit)" if running["merged"] else ""
    _row(table, f"{running['text']} in a text", " · ".join(running["pieces"]) + merged)
    return table


def _gguf_rows(said: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Returns what a GGUF file says of its tokenizer, a name and a sentence each; nothing of other sources."""
    if said is None:
        return []
    begins = {None: "not said by the file", True: "before every text", False: "not before a text"}
    cuts = said["pre_tokenizer"] or "none"
    return [
        ("GGUF tokenizer", f"{said['kind']}, texts cut as '{cuts}', {said['tokens']:,} tokens"),
        ("begin token", begins[said["add_bos_token"]]),
        ("padding", "the end token" if said["pad_is_eos"] else f"{said['pad_token'] or 'no token of its own'}"),
        ("chat template", "in the file" if said["chat_template"] else "none"),
    ]


def _target_table(target: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("written")
    table.add_column("tokens", justify="right")
    table.add_column("pieces")
    for example in target["examples"]:
        text = f"{example['field']}: {example['text']}" if "field" in example else example["text"]
        pieces = " · ".join(example["pieces"]) + (" (holds the unknown token)" if example["unknown"] else "")
        table.add_row(Text(text), str(example["tokens"]), Text(pieces))
    return table


def _target_line(target: Mapping[str, Any]) -> str:
    """Returns how many values a target has and how long they are, or why they cannot be written."""
    if target["longest_tokens"] is None:
        return " ".join(target["problems"])
    decisions = f"{target['decisions']} decision{'' if target['decisions'] == 1 else 's'}"
    longest = f"the longest has {target['longest_tokens']} tokens, its end token included"
    added = f"; added tokens: {' '.join(target['added_tokens'])}" if target["added_tokens"] else ""
    return f"{target['values']:,} values; {longest}; at most {decisions}{added}."


def _plan_table(plan: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("part")
    table.add_column("fit", justify="right")
    table.add_column("predict", justify="right")
    for component in plan["parts"]:
        mark = "≈ " if component["estimated"] else ""
        cells = [
            f"{mark}{format_bytes(component[name])}" if component[name] else "–"
            for name in ("fit_bytes", "predict_bytes")
        ]
        table.add_row(component["name"], *cells)
    table.add_section()
    totals = (Text(f"≈ {format_bytes(plan[name])}", style="bold") for name in ("fit_bytes", "predict_bytes"))
    table.add_row("together", *totals)
    return table


def _pairs() -> Table:
    """Returns an empty table of names and values."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _row(table: Table, name: str, value: str) -> None:
    """Adds a name and a value as they stand; a token such as [PAD] is no markup."""
    table.add_row(Text(name), Text(value))
