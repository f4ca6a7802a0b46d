"""What a builder's storage gave out, as a manifest of the layout: the same media types and the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path

from polyarch.arch import Platform
from polyarch.errors import BuildError
from polyarch.oci import layers
from polyarch.oci.layout import Layout
from polyarch.oci.made import labelled, media_types, store_image
from polyarch.oci.model import Descriptor, ImageConfig, Manifest, parse_config, parse_document


def adopt(layout: Layout, staging: Path, platform: Platform, *, docker_format: bool) -> Descriptor:
    """Make a manifest of an uncompressed `dir:` image; layers are compressed only when they are new.

    What the layout knows of its layers need not be in the folder. Returns the manifest's descriptor.
    """
    raw, config = read_config(staging)
    if config.platform != platform:  # steps on scratch come out of a builder's cache with another platform's label
        raw = json.dumps(labelled(json.loads(raw), platform), separators=(",", ":")).encode()
    found = [_layer(layout, staging, diff_id) for diff_id in config.rootfs.diff_ids]
    return store_image(layout, platform, raw, found, media_types(docker_format))


def read_config(staging: Path) -> tuple[bytes, ImageConfig]:
    """The config of a `dir:` image, raw and read. Raises `BuildError` for an index."""
    exported = parse_document((staging / "manifest.json").read_bytes(), "", str(staging)).value
    if not isinstance(exported, Manifest):
        raise BuildError(f"an index came out of the storage into {staging}")
    raw = (staging / layers.digest_part(exported.config.digest)).read_bytes()
    return raw, parse_config(raw, str(staging))


def known_layer(layout: Layout, diff_id: str) -> Descriptor | None:
    """The gzip blob of the layout that holds the content `diff_id`, or None."""
    descriptor = layers.known(layout, diff_id)
    return descriptor if descriptor is not None and descriptor.media_type.endswith("gzip") else None


def _layer(layout: Layout, staging: Path, diff_id: str) -> Descriptor:
    descriptor = known_layer(layout, diff_id)
    if descriptor is None:
        with (staging / layers.digest_part(diff_id)).open("rb") as tar:
            found, descriptor = layers.compress(layout, tar)
        if found != diff_id:
            raise BuildError(f"layer {diff_id} came out of the storage as {found}")
    return descriptor
