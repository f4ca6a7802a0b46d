"""Whatever the bytes are: a report, never a crash."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from verify_images import ARM, Layer, Shelf, Spec, ar, elf, file, image, pack, program, root, symlink, tar

from polyarch.errors import PolyarchError
from polyarch.oci import model
from polyarch.verify import CODES, LayerFacts, junit, sarif, scan, verify

ORDINARY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ELVES = [
    elf(interpreter="/lib64/ld-linux-x86-64.so.2", level=3), elf("linux/s390x"), elf("linux/arm/v6", level=10), ARM,
    ar(("a.o", ARM), ("b.o", elf("linux/386"))),
]  # fmt: skip
ARCHIVE = tar(*root(), *(program(f"opt/{at}", data) for at, data in enumerate(ELVES)), symlink("a" * 200, "b" * 200))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with a few bytes changed, or cut, or with a piece put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.sampled_from(("set", "cut", "insert")))
        if how == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=40))
        else:
            del data[at : at + draw(st.integers(0, 600))]
    return bytes(data)


def _sound(found: LayerFacts) -> None:
    assert {fault.code for fault in found.faults} <= set(CODES)
    assert LayerFacts.from_json(found.to_json()) == found


@ORDINARY
@given(st.binary(max_size=3000))
def test_any_bytes_are_some_layer(data: bytes) -> None:
    _sound(scan([data]))


@ORDINARY
@given(damaged(ARCHIVE))
def test_any_archive_can_be_scanned_and_judged(plain: bytes) -> None:
    _sound(scan([plain]))
    report = verify(image(Spec(layers=[Layer(pack(plain), plain)])))
    junit(report)
    sarif(report)


@ORDINARY
@given(damaged(pack(ARCHIVE)))
def test_any_gzip_can_be_scanned(blob: bytes) -> None:
    _sound(scan([blob]))


@ORDINARY
@given(st.sampled_from(ELVES).flatmap(damaged), st.booleans())
def test_any_elf_can_be_scanned_and_judged(data: bytes, runs: bool) -> None:
    plain = tar(file("usr/bin/app", data, 0o755 if runs else 0o644))
    _sound(scan([plain]))
    verify(image(Spec(layers=[Layer(plain, plain, model.OCI_LAYER)])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["sha256:" + "0" * 64, "linux"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bent(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """A document with some members dropped or replaced, at any depth."""
    whole: dict[str, Any] = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = whole
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            at[key] = draw(JSON)
            break
    return whole


RIGHT = image(Spec())


def _raw(media_type: str) -> dict[str, Any]:
    found = {
        data for data in RIGHT.blobs.values()
        if data[:1] == b"{" and (media_type == model.OCI_MANIFEST) == (b'"layers": [' in data)
    }  # fmt: skip
    return model.load_json(found.pop(), "test")


def _shelf(manifest: dict[str, Any]) -> Shelf:
    shelf = Shelf(dict(RIGHT.blobs))
    entry = shelf.json(manifest, model.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    top = shelf.json({"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": [entry]}, model.OCI_INDEX)
    shelf.head = model.parse_document(shelf.blobs[top["digest"]], model.OCI_INDEX, "top")
    return shelf


@ORDINARY
@given(bent(_raw(model.OCI_MANIFEST)))
def test_any_manifest_gets_a_report(manifest: dict[str, Any]) -> None:
    report = verify(_shelf(manifest))
    assert {violation.code for violation in report.violations} <= set(CODES)


@ORDINARY
@given(bent(_raw(model.OCI_CONFIG)))
def test_any_config_gets_a_report(config: dict[str, Any]) -> None:
    shelf = Shelf(dict(RIGHT.blobs))
    manifest = _raw(model.OCI_MANIFEST)
    manifest["config"] = shelf.json(config, model.OCI_CONFIG)
    whole = _shelf(manifest)
    whole.blobs |= shelf.blobs
    verify(whole)


@ORDINARY
@given(bent({"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": [
    {"mediaType": model.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 3, "annotations": {"a": "b"},
     "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]}))  # fmt: skip
def test_any_index_gets_a_report_or_a_documented_error(index: dict[str, Any]) -> None:
    shelf = Shelf()
    with contextlib.suppress(PolyarchError):
        shelf.head = model.parse_document(json.dumps(index).encode(), model.OCI_INDEX, "top")
        verify(shelf)
