"""What no name of a layout needs: found by following every name, and removed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from polyarch.errors import InputError
from polyarch.oci import notes
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Index


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many blobs went, and how many bytes they had."""

    blobs: int
    size: int


def prune(layout: Layout, records: Iterable[Path]) -> Pruned:
    """Remove the blobs that no name needs, with the notes and records (folders of descriptors) of what is gone.

    Nobody else may write to the layout meanwhile. A name whose image is damaged keeps what can still be reached.
    """
    needed = {digest for entry in layout.names().values() for digest in _reach(layout, entry)}
    removed = size = 0
    for blob in layout.blobs.glob("*/*"):
        if f"{blob.parent.name}:{blob.name}" not in needed:
            size += blob.stat().st_size
            removed += 1
            blob.unlink()
    for folder in (*records, layout.path / "diff-ids"):
        _forget(layout, folder)
    with contextlib.suppress(FileNotFoundError):
        for part in (layout.path / "incoming").glob("*.part"):
            part.unlink()
    return Pruned(removed, size)


def drop_damaged(layout: Layout, entry: Descriptor) -> tuple[str, ...]:
    """Remove the blobs of an image whose bytes are no longer those of their digest, so that they are fetched again."""
    damaged = []
    for digest in dict.fromkeys(_reach(layout, entry)):
        if layout.has(digest) and not _sound(layout, digest):
            layout.blob_path(digest).unlink(missing_ok=True)
            damaged.append(digest)
    return tuple(damaged)


def _sound(layout: Layout, digest: str) -> bool:
    algorithm, _, value = digest.partition(":")
    hasher = hashlib.new(algorithm)
    with layout.chunks(digest) as chunks:
        for chunk in chunks:
            hasher.update(chunk)
    return hasher.hexdigest() == value


def _reach(layout: Layout, entry: Descriptor) -> Iterator[str]:
    yield entry.digest
    try:
        value = layout.document(entry).value
    except InputError:
        return
    if isinstance(value, Index):
        for inner in value.manifests:
            yield from _reach(layout, inner)
    else:
        yield from (blob.digest for blob in (value.config, *value.layers))


def _forget(layout: Layout, folder: Path) -> None:
    """Remove the descriptors in `folder` whose blob has gone."""
    for path in folder.iterdir() if folder.is_dir() else ():
        descriptor = notes.read(path)
        if descriptor is None or not layout.has(descriptor.digest):
            path.unlink(missing_ok=True)
