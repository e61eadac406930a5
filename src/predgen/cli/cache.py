"""`predgen cache`: what is kept of models that had to be made readable once."""

from typing import Annotated

import typer

from predgen.cli.output import JsonPath, check_results, fails_clearly, print_line, print_table, write_json
from predgen.errors import unknown_name

ACTIONS = ("list", "clear")


@fails_clearly
def cache(
    action: Annotated[str, typer.Argument(metavar="list|clear", help="What to do.")] = "list",
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Entries to clear; all if not given.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """List or clear what is kept of GGUF files: their weights out of their blocks, their tokenizers.

    The folder is PREDGEN_CACHE, or the user's cache folder. What was cleared is made again when it is needed.

    [bold]Examples[/bold]

      predgen cache

      predgen cache clear

      predgen cache clear b179c9523d0e6a0f-bfloat16-1
    """
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    from predgen.backbones.model_cache import clear, entries
    from predgen.backbones.remembered import cache_folder
    from predgen.report.cache import cache_table
    from predgen.report.inspection import format_bytes

    check_results(json)
    held = entries()
    known = [entry.folder.name for entry in held]
    for name in names or ():
        if name not in known:
            raise unknown_name("entry of the cache", name, known or ["none, as the cache is empty"])
    chosen = [entry for entry in held if not names or entry.folder.name in names]
    if action == "clear":
        clear([entry.folder.name for entry in chosen])
    write_json(json, [{"name": entry.folder.name, "bytes": entry.num_bytes, **entry.facts} for entry in chosen])
    if chosen:
        print_table(cache_table(chosen))
    total = format_bytes(sum(entry.num_bytes for entry in chosen))
    verb = "Cleared" if action == "clear" else "Kept"
    print_line(f"{verb}: {len(chosen)} of {len(held)} entries, {total}, in {cache_folder()}")
