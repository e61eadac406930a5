"""Random edits of what JSON and YAML hold, and of bytes."""

import copy
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st

from scripts.checks.fuzzing import odd

# An edit: where (steps that are taken modulo what is there), what is done, and a value for it.
Edit = tuple[tuple[int, ...], str, Any]
WAYS = ("put", "put", "near", "near", "delete", "add", "double", "swap")


def edits(most: int = 3) -> st.SearchStrategy[tuple[Edit, ...]]:
    """Edits of a tree of mappings and lists."""
    steps = st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple)
    one = st.tuples(steps, st.sampled_from(WAYS), odd.values())
    return st.lists(one, min_size=1, max_size=most).map(tuple)


def edited(tree: Any, changes: Sequence[Edit]) -> Any:
    """Returns a tree with some edits; the tree itself stays.

    Args:
        tree: mappings, lists and leaves.
        changes: the edits.
    """
    tree = copy.deepcopy(tree)
    for steps, way, value in changes:
        _edit(tree, steps, way, value)
    return tree


def _edit(tree: Any, steps: Sequence[int], way: str, value: Any) -> None:
    for number, step in enumerate(steps):
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            break
        key = keys[step % len(keys)]
        below = tree[key]
        if number < len(steps) - 1 and isinstance(below, dict | list) and below:
            tree = below
            continue
        if way == "put":
            tree[key] = value
        elif way == "near":
            tree[key] = _near(below, value)
        elif way == "delete":
            del tree[key]
        elif way == "double" and isinstance(tree, list):
            tree.insert(key, copy.deepcopy(below))
        elif way == "swap":
            other = keys[(step + 1) % len(keys)]
            tree[key], tree[other] = tree[other], below
        elif isinstance(tree, dict):
            tree[str(value)[:20]] = value
        else:
            tree.append(value)
        return


def _near(leaf: Any, value: Any) -> Any:
    """Returns another value of the same type, where there is one."""
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, int):
        return leaf + (1 if leaf % 2 else -1)
    if isinstance(leaf, float):
        return leaf * 1.5 + 0.125
    if isinstance(leaf, str):
        return leaf[1:] if len(leaf) % 2 else leaf + "x"
    return value


def byte_edits() -> st.SearchStrategy[tuple[tuple[float, int, bytes], ...]]:
    """Edits of bytes: where, as a share of them, how many go, and what comes."""
    one = st.tuples(st.floats(0, 1), st.sampled_from((0, 1, 1, 2, 8, 100, 10**7)), st.binary(max_size=3))
    return st.lists(one, min_size=1, max_size=2).map(tuple)


def edited_bytes(content: bytes, changes: Sequence[tuple[float, int, bytes]]) -> bytes:
    """Returns bytes with some edits.

    Args:
        content: the bytes.
        changes: the edits.
    """
    for place, gone, new in changes:
        at = int(place * len(content))
        content = content[:at] + new + content[at + gone :]
    return content
