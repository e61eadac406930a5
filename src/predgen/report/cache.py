"""The table of what the cache of models holds, for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from predgen.backbones.model_cache import Entry
from predgen.report.inspection import format_bytes


def cache_table(entries: Sequence[Entry]) -> Table:
    """Returns a row an entry: its name, what it holds and of which file, its size."""
    table = Table("entry", "holds", "of", "size")
    for entry in entries:
        facts = entry.facts or {"holds": "damaged"}
        table.add_row(entry.folder.name, facts.get("holds", ""), facts.get("file", ""), format_bytes(entry.num_bytes))
    return table
