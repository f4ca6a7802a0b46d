"""What earlier builds left: one record for each finished platform, named by the hash of all that went into it."""

from __future__ import annotations

import os

from polyarch import places
from polyarch.arch import Platform
from polyarch.build.model import BuiltImage
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Manifest
from polyarch.verify.promise import Promise, promised


def kept(layout: Layout, platform: Platform, key: str) -> BuiltImage | None:
    """What an earlier build of the same inputs made, if the layout still has all of it."""
    record = places.records() / f"{key}.json"
    if not record.exists():
        return None
    try:
        descriptor = Descriptor.model_validate_json(record.read_text())
    except ValueError:  # a damaged record is no record
        return None
    if not layout.whole(descriptor.digest):
        return None
    return BuiltImage(platform, descriptor, reused=True, seconds=0.0, grafted=_grafted(layout, descriptor))


def _grafted(layout: Layout, descriptor: Descriptor) -> bool:
    """Whether all that is above the base was taken over: nothing was built on the layers of the promise."""
    manifest = layout.document(descriptor).value
    if not isinstance(manifest, Manifest) or not promised(manifest):
        return False
    own = Promise.from_json(promised(manifest)).layers
    return not own or tuple(layer.digest for layer in manifest.layers[-len(own) :]) == own


def keep(key: str, descriptor: Descriptor) -> None:
    """Record a result; the last of several at once stands."""
    record = places.records() / f"{key}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    beside = record.with_suffix(f".{os.getpid()}")
    beside.write_text(descriptor.model_dump_json(by_alias=True, exclude_none=True))
    beside.rename(record)
