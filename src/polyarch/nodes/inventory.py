"""The user's nodes: `POLYARCH_HOME/nodes.json`, which people may edit and copy."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polyarch import places
from polyarch.arch import parse_platform
from polyarch.errors import InputError, PolyarchError
from polyarch.nodes.model import DEFAULT_SLOTS, Node, parse_address, parse_name


def load() -> tuple[Node, ...]:
    """All nodes, in the order they were added. Raises `InputError` with what is wrong with the file."""
    path = _file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    try:
        return tuple(_node(entry) for entry in json.loads(text)["nodes"])
    except PolyarchError as error:
        raise InputError(f"{path}: {error.message}", detail=error.detail, hint=error.hint) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        hint = 'it holds {"nodes": [{"name": …, "address": …, "platforms": […], "slots": …}]}'
        raise InputError(f"{path} is no list of nodes", detail=str(error), hint=hint) from error


def find(name: str) -> Node:
    """The node of that name. Raises `InputError` that names those there are."""
    nodes = load()
    for node in nodes:
        if node.name == name:
            return node
    known = ", ".join(node.name for node in nodes) or "none yet: polyarch node add"
    raise InputError(f"there is no node {name}", hint=f"nodes: {known}")


def add(node: Node) -> None:
    """Add a node. Raises `InputError` when its name is taken."""

    def change(nodes: Sequence[Node]) -> list[Node]:
        if any(other.name == node.name for other in nodes):
            raise InputError(f"there is a node {node.name} already", hint=f"polyarch node rm {node.name}")
        return [*nodes, node]

    _change(change)


def remove(name: str) -> None:
    """Forget a node; what it holds stays there. Raises `InputError` when there is none of that name."""
    find(name)
    _change(lambda nodes: [node for node in nodes if node.name != name])


def _change(change: Callable[[Sequence[Node]], list[Node]]) -> None:
    """Under a lock, and whole or not at all."""
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = json.dumps({"nodes": [node.as_dict() for node in change(load())]}, indent=2)
        beside = path.with_suffix(f".{secrets.token_hex(4)}")
        beside.write_text(text + "\n", encoding="utf-8")
        beside.rename(path)


def _node(entry: dict[str, Any]) -> Node:
    platforms = tuple(parse_platform(text) for text in entry.get("platforms", ()))
    slots = int(entry.get("slots", DEFAULT_SLOTS))
    if slots < 1:
        raise InputError(f"node {entry['name']} has {slots} slots", hint="it takes one at least")
    address, image = parse_address(entry["address"]), str(entry.get("image", ""))
    return Node(parse_name(entry["name"]), address, platforms, slots, image)


def _file() -> Path:
    return places.home() / "nodes.json"
