"""What earlier builds left: one record for each finished platform, named by the hash of all that went into it."""

from __future__ import annotations

from pathlib import Path

from polyarch import places
from polyarch.arch import Platform
from polyarch.build.model import BuiltImage
from polyarch.oci import notes
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Manifest
from polyarch.verify.promise import Promise, promised


def kept(layout: Layout, platform: Platform, key: str) -> BuiltImage | None:
    """What an earlier build of the same inputs made, if the layout still has all of it."""
    descriptor = notes.read(_record(key))
    if descriptor is None or not layout.whole(descriptor.digest):
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
    notes.write(_record(key), descriptor)


def _record(key: str) -> Path:
    return places.records() / f"{key}.json"
