"""The proof of an image: its documents first, then every blob once, then the judgement of each platform."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.oci.model import Descriptor
from polyarch.oci.source import Source
from polyarch.report import Event, Sink, silent
from polyarch.verify.documents import DIGEST, blobs, survey
from polyarch.verify.facts import Fault, LayerCache, LayerFacts
from polyarch.verify.image import Image
from polyarch.verify.judge import judge_image
from polyarch.verify.portable import Trace
from polyarch.verify.promise import replay
from polyarch.verify.report import Entry, Findings, Report, Violation
from polyarch.verify.scan import scan

_MEMORY: Final = 64 << 20  # bytes that the facts of all layers may take together
_SLACK: Final = 1 << 20  # bytes that a blob may be longer than promised before reading stops


def verify(
    source: Source,
    platforms: Collection[Platform] = (),
    allow: Sequence[str] = (),
    progress: Sink = silent,
    known: LayerCache | None = None,
) -> Report:
    """Prove that an image is what it says.

    With `platforms`, each of them must be there and only they are judged. `allow` are globs of paths that may hold
    programs of other platforms. Layers found in `known` are not read again. Raises `InputError` when there is no
    image, `RegistryError` when a registry fails while it is read, `HostError` for zstd layers without zstandard.
    """
    top = source.top()
    surveyed = survey(source)
    images = [
        image for image in surveyed.images if not platforms or image.kind != "image" or image.platform in platforms
    ]
    findings = surveyed.findings
    there = {image.platform for image in images if image.kind == "image"}
    for platform in platforms:
        if platform not in there:
            findings.add("platform-missing", f"the image has no {platform}")
    facts, unreadable = _read_all(source, images, progress, known)
    findings.extend(unreadable)
    grafted: dict[str, tuple[Trace, ...]] = {}
    judged = [(image, (*judge_image(image, facts, allow), *replay(source, image, grafted))) for image in images]
    violations = (*findings.all(), *(violation for _, found in judged for violation in found))
    entries = tuple(_entry(image, facts, found) for image, found in judged)
    return Report(source.name, top.digest, entries, violations)


def _read_all(
    source: Source, images: Sequence[Image], progress: Sink, known: LayerCache | None
) -> tuple[dict[str, LayerFacts], tuple[Violation, ...]]:
    """The facts of every blob by digest, each read once, and what could not be read."""
    findings = Findings()
    wanted: dict[str, Descriptor] = {}
    for image in images:
        for blob in blobs(image):
            if not DIGEST.fullmatch(blob.digest):
                findings.add("digest-invalid", f"{blob.digest[:80]!r} is no digest", layer=blob.digest[:80])
            elif blob.digest not in wanted or wanted[blob.digest].size < blob.size:
                wanted[blob.digest] = blob
    facts: dict[str, LayerFacts] = {}
    reader = _Reader(source, known)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = {blob.digest: pool.submit(reader.read, blob) for blob in wanted.values()}
        for step, (digest, future) in enumerate(futures.items(), start=1):
            try:
                facts[digest] = future.result()
            except (InputError, OSError) as error:
                code = "blob-elsewhere" if wanted[digest].elsewhere else "blob-missing"
                findings.add(code, getattr(error, "message", str(error)), layer=digest)
            progress(Event("step", source.name, f"read {digest[:19]}", step, len(futures)))
    return facts, findings.all()


class _Reader:
    """Reads blobs, several at once, and keeps what all of their facts together weigh within `_MEMORY`."""

    def __init__(self, source: Source, known: LayerCache | None) -> None:
        self._source = source
        self._known = known
        self._lock = threading.Lock()
        self._weight = 0

    def read(self, blob: Descriptor) -> LayerFacts:
        """The facts of one blob, or that they are too many. Raises what the source raises."""
        found = self._before(blob) or self._now(blob)
        with self._lock:
            self._weight += found.weight
            if self._weight <= _MEMORY:
                return found
            self._weight -= found.weight
        fault = Fault("layer-limit", "", f"the layers together hold more than fits into {_MEMORY:,} bytes")
        return LayerFacts(found.digest, found.size, found.diff_id, found.expanded, found.compression, faults=(fault,))

    def _before(self, blob: Descriptor) -> LayerFacts | None:
        kept = self._known.get(blob.digest) if self._known is not None else None
        facts = LayerFacts.from_json(kept) if kept else None
        return facts if facts is not None and facts.digest == blob.digest else None

    def _now(self, blob: Descriptor) -> LayerFacts:
        with self._source.open(blob) as chunks:
            found = scan(_at_most(chunks, 2 * max(blob.size, 0) + _SLACK), algorithm=blob.digest.partition(":")[0])
        if self._known is not None and found.digest == blob.digest:
            self._known.put(blob.digest, found.to_json())
        return found


def _at_most(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Stop a blob that does not end; its digest is wrong then, whatever would have followed."""
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def _entry(image: Image, facts: dict[str, LayerFacts], violations: tuple[Violation, ...]) -> Entry:
    layers = [facts[layer.digest] for layer in image.manifest.layers if layer.digest in facts]
    return Entry(
        platform=image.label, digest=image.descriptor.digest, kind=image.kind, layers=len(image.manifest.layers),
        size=sum(layer.size for layer in layers), expanded=sum(layer.expanded for layer in layers),
        elves=sum(len(layer.elves) for layer in layers),
        errors=sum(v.severity == "error" for v in violations),
        warnings=sum(v.severity == "warning" for v in violations),
    )  # fmt: skip
