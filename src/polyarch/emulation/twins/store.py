"""What twins are made of, kept once for all builds: files by the hash of their content, and packs of paired twins.

A pack is what one pair of roots gave: JSON that names its files in the store, so that the roots need not be kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyarch import places
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.pair import Coverage, Twin


def folder() -> Path:
    """Everything of twins that is kept; may be deleted when no build runs."""
    return places.cache() / "twins"


class Store:
    """Files by the hash of their content; what was hashed once in this table is not hashed again."""

    def __init__(self) -> None:
        self._path = folder() / "objects"
        self._known: dict[Path, Path] = {}
        self._path.mkdir(parents=True, exist_ok=True)

    def add(self, file: Path) -> Path:
        """The store's own copy of a file (executable, never written again)."""
        if file.parent == self._path:
            return file
        if file not in self._known:
            with file.open("rb") as stream:
                self._known[file] = self._path / hashlib.file_digest(stream, "sha256").hexdigest()
        kept = self._known[file]
        if not kept.exists():
            beside = kept.with_suffix(f".{secrets.token_hex(4)}")
            shutil.copyfile(file, beside)
            beside.chmod(0o755)
            beside.rename(kept)
        return kept


def pack_key(*parts: object) -> str:
    """The name of a pack that was made of these inputs."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def load(key: str, *, days: float | None = None) -> Coverage | None:
    """The pack, if it is whole and not older than this."""
    path = _pack(key)
    if not path.exists() or (days is not None and time.time() - path.stat().st_mtime > days * 86400):
        return None
    said = json.loads(path.read_text())
    twins = tuple(_twin(row) for row in said["twins"])
    if not all(file.exists() for twin in twins for file in _files(twin)):
        return None
    return Coverage(twins, tuple((_tool(row), why) for row, why in said["missing"]))


def save(key: str, coverage: Coverage) -> Coverage:
    """Keep a pack and the files of its twins; returns it with the paths of the store."""
    store = Store()
    kept = Coverage(tuple(_stored(twin, store) for twin in coverage.twins), coverage.missing)
    rows = [asdict(twin) for twin in kept.twins]
    missing = [(asdict(tool), why) for tool, why in kept.missing]
    path = _pack(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps({"twins": rows, "missing": missing}, default=str))
    beside.rename(path)
    return kept


def _pack(key: str) -> Path:
    return folder() / "packs" / f"{key}.json"


def _files(twin: Twin) -> tuple[Path, ...]:
    return (twin.program, twin.loader, *(path for _, path in twin.libraries))


def _stored(twin: Twin, store: Store) -> Twin:
    libraries = tuple((name, store.add(path)) for name, path in twin.libraries)
    return Twin(twin.tool, twin.build_id, twin.size, store.add(twin.program), store.add(twin.loader), libraries)


def _twin(row: dict[str, Any]) -> Twin:
    libraries = tuple((name, Path(path)) for name, path in row["libraries"])
    return Twin(
        _tool(row["tool"]), row["build_id"], row["size"], Path(row["program"]), Path(row["loader"]), libraries
    )  # fmt: skip


def _tool(row: dict[str, Any]) -> Tool:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    fields["exchange"] = tuple((old, new) for old, new in row["exchange"])
    return Tool(**fields)
