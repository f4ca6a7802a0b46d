"""The promise of a grafted image, and its replay: the layers that it names are free of anything of one architecture.

`polyarch build` puts it on the manifest as an annotation; whoever has the image can have it proved again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from polyarch.errors import InputError
from polyarch.oci.model import Descriptor, Manifest
from polyarch.oci.source import Source
from polyarch.verify.image import Image
from polyarch.verify.portable import Trace, traces
from polyarch.verify.report import Findings, Violation

ANNOTATION: Final = "io.polyarch.graft"
VERSION: Final = 1  # of the rules in `portable`; raised when they let pass what they did not


@dataclass(frozen=True, slots=True)
class Promise:
    """`native`: the manifest that the layers were built in; `bases`: the native base's manifest and the target's.

    The bases are "" for an image from scratch. `layers`: the blobs that were taken over, the topmost of the image
    unless something was built on them.
    """

    native: str
    bases: tuple[str, str]
    layers: tuple[str, ...]

    def to_json(self) -> str:
        """The annotation's text."""
        said = {"v": VERSION, "native": self.native, "bases": self.bases, "layers": self.layers}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Promise:
        """What `to_json` wrote. Raises `InputError` that says what is wrong."""
        try:
            said = json.loads(text)
            version, native, bases, layers = said["v"], said["native"], said["bases"], said["layers"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"the annotation {ANNOTATION} cannot be read: {error!r}") from error
        if version != VERSION:
            raise InputError(f"the annotation {ANNOTATION} is of version {version!r}, and this knows {VERSION}")
        texts = [native, *bases, *layers] if isinstance(bases, list) and isinstance(layers, list) else [None]
        if len(texts) < 4 or len(bases) != 2 or not all(isinstance(text, str) for text in texts):
            raise InputError(f"the annotation {ANNOTATION} is not of its form")
        return cls(native, (bases[0], bases[1]), tuple(layers))


def promised(manifest: Manifest) -> str:
    """The text of the promise that a manifest carries, "" for none."""
    return (manifest.annotations or {}).get(ANNOTATION, "")


def replay(source: Source, image: Image, known: dict[str, tuple[Trace, ...]]) -> tuple[Violation, ...]:
    """Prove the layers of an image's promise again, if it has one; `known` holds those that were read before."""
    text = promised(image.manifest) if image.kind == "image" else ""
    findings = Findings(image.label)
    try:
        promise = Promise.from_json(text) if text else None
    except InputError as error:
        findings.add("graft-invalid", error.message, layer=image.descriptor.digest)
        promise = None
    there = {layer.digest: layer for layer in image.manifest.layers}
    for digest in promise.layers if promise else ():
        if digest not in there:
            findings.add("graft-invalid", f"layer {digest} is promised and not in the image", layer=digest)
            continue
        if digest not in known:
            known[digest] = _traces(source, there[digest])
        for trace in known[digest]:
            findings.add("graft-broken", trace.what, layer=digest, path=f"/{trace.path}" if trace.path else "")
    return findings.all()


def _traces(source: Source, layer: Descriptor) -> tuple[Trace, ...]:
    """What speaks against a layer; nothing for one that cannot be had, which is told as `blob-missing` elsewhere."""
    try:
        with source.open(layer) as chunks:
            return traces(chunks)
    except (InputError, OSError):
        return ()
