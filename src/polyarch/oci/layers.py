"""Layers: compressed once, the same bytes each time, and remembered by what they hold.

A layer that is known by its diff id is never compressed again, so an image keeps its base's very blobs: registries
mount them instead of uploading, and platforms and images share them.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO

from polyarch.oci import notes
from polyarch.oci.layout import Layout
from polyarch.oci.model import OCI_LAYER_GZIP, Descriptor, ImageConfig, Manifest

_CHUNK = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS  # a gzip member with an empty header: no name, no time, hence the same bytes each time
_LEVEL = 6


def compress(layout: Layout, tar: BinaryIO) -> tuple[str, Descriptor]:
    """Add an uncompressed layer to the layout as gzip; returns its diff id and the descriptor of the blob."""
    content, packed = hashlib.sha256(), hashlib.sha256()
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    size = 0
    with layout.incoming() as (path, out):
        while chunk := tar.read(_CHUNK):
            content.update(chunk)
            size += _put(out, packed, packer.compress(chunk))
        size += _put(out, packed, packer.flush())
        out.flush()
        digest = f"sha256:{packed.hexdigest()}"
        layout.adopt(path, digest)
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=size)
    diff_id = f"sha256:{content.hexdigest()}"
    remember(layout, diff_id, descriptor)
    return diff_id, descriptor


def remember(layout: Layout, diff_id: str, descriptor: Descriptor) -> None:
    """Keep which blob holds the content `diff_id`."""
    notes.write(_note(layout, diff_id), descriptor.model_copy(update={"annotations": None}))


def remember_image(layout: Layout, manifest: Manifest, config: ImageConfig) -> None:
    """Keep where each layer of an image that is whole in the layout is."""
    for diff_id, descriptor in zip(config.rootfs.diff_ids, manifest.layers, strict=False):
        if layout.has(descriptor.digest) and not _note(layout, diff_id).exists():
            remember(layout, diff_id, descriptor)


def known(layout: Layout, diff_id: str) -> Descriptor | None:
    """The blob that holds the content `diff_id`, if the layout still has it."""
    descriptor = notes.read(_note(layout, diff_id))
    return descriptor if descriptor and layout.holds(descriptor) else None


def digest_part(digest: str) -> str:
    """The hexadecimal part of a digest."""
    return digest.partition(":")[2]


def _note(layout: Layout, diff_id: str) -> Path:
    return layout.path / "diff-ids" / digest_part(diff_id)


def _put(out: BinaryIO, hasher: hashlib._Hash, data: bytes) -> int:
    hasher.update(data)
    return out.write(data)
