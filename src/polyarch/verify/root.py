"""The root file system that the layers of one image make, asked for one path at a time.

Sources: OCI image-spec `layer.md` (whiteouts hide what lower layers have, never what their own layer has), and
path_resolution(7) inside a root: absolute links start at the root, `..` never leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from polyarch.verify.facts import ENTRY, Kind, LayerFacts, name_word

_MOST_LINKS: Final = 40  # MAXSYMLINKS of Linux
_MOST_PARTS: Final = 256  # of a path with everything that links add to it
_MOST_FOLDERS: Final = 50_000


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of the root: where, in which layer (0 is the lowest), and what it is."""

    path: str
    layer: int
    kind: Kind


class Root:
    """Lookups over layers, lowest first."""

    def __init__(self, layers: Sequence[LayerFacts]) -> None:
        self.layers = tuple(layers)
        self._folders: dict[tuple[int, str], bool] = {}

    def hidden(self, path: str, layer: int) -> bool:
        """Whether a layer above `layer` removed or replaced the file `path`."""
        word = name_word(path)
        if any(above.holds_word(word) - {Kind.OPAQUE} for above in self.layers[layer + 1 :]):
            return True
        # Files share folders, so the long way up is gone once for each.
        key = (layer, path.rpartition("/")[0])
        if key not in self._folders:
            if len(self._folders) >= _MOST_FOLDERS:
                self._folders.clear()
            self._folders[key] = any(_hides(above, path) for above in self.layers[layer + 1 :])
        return self._folders[key]

    def find(self, path: str) -> Found | None:
        """The entry at exactly this path (links not followed)."""
        for number in reversed(range(len(self.layers))):
            layer = self.layers[number]
            kinds = layer.holds(path) & ENTRY
            if kinds:
                return Found(path, number, _one(layer, path, kinds))
            if _hides(layer, path):
                return None
        return None

    def resolve(self, path: str, base: str = "") -> Found | None:
        """What `path` leads to when links are followed; relative paths start at `base`. None when it leads nowhere."""
        todo = [part for part in reversed(f"{'' if path.startswith('/') else base}/{path}".split("/")) if part]
        done: list[str] = []
        found: Found | None = Found("", 0, Kind.DIRECTORY)
        links = steps = 0
        while todo:
            part = todo.pop()
            steps += 1
            if steps > _MOST_PARTS:
                return None
            if part == "..":
                done = done[:-1]
                found = Found("/".join(done), 0, Kind.DIRECTORY)
                continue
            if part == ".":
                continue
            done.append(part)
            found = self.find("/".join(done))
            if found is not None and found.kind is Kind.SYMLINK:
                links += 1
                target = self.layers[found.layer].symlinks.get(found.path, "")
                if links > _MOST_LINKS or not target:
                    return None
                done = [] if target.startswith("/") else done[:-1]
                todo.extend(part for part in reversed(target.split("/")) if part)
                found = Found("/".join(done), 0, Kind.DIRECTORY)
            elif found is not None and found.kind is not Kind.DIRECTORY and any(part != "." for part in todo):
                return None
        return self._behind_hardlink(found)

    def _behind_hardlink(self, found: Found | None) -> Found | None:
        for _ in range(_MOST_LINKS):
            if found is None or found.kind is not Kind.HARDLINK:
                return found
            target = self.layers[found.layer].hardlinks.get(found.path)
            found = None if target is None else self.find(target)
        return None


def ancestors(path: str) -> Iterator[str]:
    """The folders above a path, nearest first; the root is ""."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _hides(layer: LayerFacts, path: str) -> bool:
    """Whether `layer` says that lower layers have nothing at `path`: removed, or something else than a folder above."""
    if Kind.WHITEOUT in layer.holds(path):
        return True
    for above in ancestors(path):
        kinds = layer.holds(above)
        if kinds & {Kind.WHITEOUT, Kind.OPAQUE}:
            return True
        if kinds & ENTRY and Kind.DIRECTORY not in kinds:
            return True
    return False


def _one(layer: LayerFacts, path: str, kinds: frozenset[Kind]) -> Kind:
    """The kind that counts when a layer has a path twice: what is kept by name was kept from the last."""
    if path in layer.symlinks:
        return Kind.SYMLINK
    if path in layer.hardlinks:
        return Kind.HARDLINK
    return max(kinds - {Kind.SYMLINK, Kind.HARDLINK} or kinds)
