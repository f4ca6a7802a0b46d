"""Images of the corpus in layouts, for the tests of `polyarch index`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verify_images import Shelf, Spec, add

from polyarch.index.work import Shop
from polyarch.oci import model
from polyarch.oci.inspect import REFERENCE_DIGEST
from polyarch.oci.layout import Layout, LayoutSource
from polyarch.oci.model import Document, Index, parse_document
from polyarch.report import Event
from polyarch.verify import Report, verify


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def moved(self) -> tuple[int, int]:
        """How many blobs were fetched, and how many a registry was sent."""
        steps = [event for event in self.events if event.kind == "step"]
        fetched = sum(event.subject == "fetch" for event in steps)
        return fetched, sum(event.text.startswith("sent ") for event in steps)


def shelve(shelf: Shelf, layout: Layout, tag: str) -> Document:
    """Put what is on the shelf into the layout as it is, broken or not."""
    for digest, data in shelf.blobs.items():
        path = layout.blob_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    top = shelf.top()
    layout.store(top)
    layout.rename({tag: top.descriptor})
    return top


def shelf_of(entries: list[dict[str, Any]], shelf: Shelf, media_type: str = model.OCI_INDEX) -> Shelf:
    """The shelf with an index of these entries on top."""
    value = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    raw = shelf.blobs[shelf.json(value, media_type)["digest"]]
    shelf.head = parse_document(raw, media_type, "top")
    return shelf


def attested(*platforms: str, note: str = "") -> Shelf:
    """An index of images, each with an attestation, as BuildKit writes them."""
    shelf, entries = Shelf(), []
    for platform in platforms:
        entries.append(add(shelf, Spec(platform, run={"Entrypoint": ["app"], "Labels": {"note": note}})))
    return shelf_of([*entries, *(attestation(shelf, entry["digest"]) for entry in entries)], shelf)


def attestation(shelf: Shelf, digest: str) -> dict[str, Any]:
    about = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
    statement = shelf.json({"subject": digest}, "application/vnd.in-toto+json", annotations=about)
    config = shelf.json({"architecture": "unknown", "os": "unknown"}, model.OCI_CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": model.OCI_MANIFEST, "config": config, "layers": [statement]}
    notes = {model.ATTESTATION: "attestation-manifest", REFERENCE_DIGEST: digest}
    unknown = {"architecture": "unknown", "os": "unknown"}
    return shelf.json(manifest, model.OCI_MANIFEST, platform=unknown, annotations=notes)


def proved(layout: Layout, tag: str) -> Report:
    """The proof of what a tag names, from the bytes alone."""
    found = layout.find(tag)
    assert found is not None
    return verify(LayoutSource(layout, found, tag))


def platforms(document: Document) -> list[str]:
    """The platforms of an index in order, `attestation` for what is one."""
    assert isinstance(document.value, Index)
    return [
        "attestation" if entry.is_attestation else str(entry.platform.platform if entry.platform else "")
        for entry in document.value.manifests
    ]


def shop(folder: Path) -> Shop:
    return Shop(Layout(folder), Told())
