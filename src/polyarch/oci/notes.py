"""Descriptors kept in files of their own: which manifest a build left, which blob holds a content."""

from __future__ import annotations

import secrets
from pathlib import Path

from polyarch.oci.model import Descriptor


def read(path: Path) -> Descriptor | None:
    """What was kept, or None; a damaged note is no note."""
    try:
        return Descriptor.model_validate_json(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write(path: Path, descriptor: Descriptor) -> None:
    """Keep a descriptor, whole or not at all; the last of several at once stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{secrets.token_hex(8)}")
    beside.write_text(descriptor.model_dump_json(by_alias=True, exclude_none=True))
    beside.rename(path)
