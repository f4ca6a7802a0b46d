"""Images made in memory: ELF files by hand, layers by `tarfile`, documents that are right until a test breaks them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from polyarch.arch import ARCHES, Arch, parse_platform
from polyarch.errors import InputError
from polyarch.oci import model
from polyarch.oci.model import Descriptor, Document, digest_of, parse_document

EXEC, DYN, REL = 2, 3, 1
FLAGS = {
    "arm/v7": 0x5000400, "arm/v6": 0x5000400, "arm/v5": 0x5000200, "riscv64": 0x5, "ppc64le": 2, "loong64": 0x43,
}  # fmt: skip


def arch(platform: str) -> Arch:
    return ARCHES[parse_platform(platform)]


def elf(
    platform: str = "linux/amd64", *, type: int = DYN, interpreter: str = "", flags: int | None = None,
    level: int = 0, elf_class: int = 0, byteorder: str = "", machine: int = 0,
) -> bytes:  # fmt: skip
    """A file with a right header, PT_INTERP, and the ISA statement of its machine when `level` is given."""
    row = arch(platform)
    bits, order = elf_class or row.elf_class, "<" if (byteorder or row.byteorder) == "little" else ">"
    number = machine or row.elf_machine
    flags = FLAGS.get(str(row.platform).removeprefix("linux/"), 0) if flags is None else flags
    segments, body = [], b""
    header, entry = (64, 56) if bits == 64 else (52, 32)
    count = bool(interpreter) + bool(level and number == 62)
    start = header + count * entry
    if interpreter:
        segments.append((3, start, len(interpreter) + 1))
        body += interpreter.encode() + b"\0"
    if level and number == 62:
        body += bytes(-(start + len(body)) % 8)
        note = struct.pack("<III4sIIII", 4, 16, 5, b"GNU\0", 0xC0008002, 4, (1 << level) - 1, 0)
        segments.append((4, start + len(body), len(note)))
        body += note
    sections, shoff = (b"", 0)
    if level and number == 40:
        sections, shoff = _arm_attributes(level, start + len(body))
    word = "Q" if bits == 64 else "I"
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    rest = (header, entry, count, *((40, 3, 2) if shoff else (0, 0, 0)))
    fields = (type, number, 1, 0, header if count else 0, shoff, flags, *rest)
    head = ident + struct.pack(f"{order}HHI{word}{word}{word}IHHHHHH", *fields)
    table = b""
    for kind, offset, size in segments:
        if bits == 64:
            table += struct.pack(f"{order}IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 8)
        else:
            table += struct.pack(f"{order}IIIIIIII", kind, offset, offset, offset, size, size, 4, 4)
    return head + table + body + sections


def _arm_attributes(tag_cpu_arch: int, at: int) -> tuple[bytes, int]:
    """A section `.ARM.attributes`, its names and three section headers, to be put at offset `at`."""
    attributes = bytes([6, tag_cpu_arch])
    part = b"\x01" + struct.pack("<I", 5 + len(attributes)) + attributes
    data = b"A" + struct.pack("<I", 4 + 6 + len(part)) + b"aeabi\0" + part
    names = b"\0.ARM.attributes\0.shstrtab\0"
    empty = struct.pack("<10I", *([0] * 10))
    first = struct.pack("<10I", 1, 0x70000003, 0, 0, at, len(data), 0, 0, 1, 0)
    second = struct.pack("<10I", 17, 3, 0, 0, at + len(data), len(names), 0, 0, 1, 0)
    return data + names + empty + first + second, at + len(data) + len(names)


ARM = elf("linux/arm64", interpreter="/lib/ld-linux-aarch64.so.1")


def ar(*members: tuple[str, bytes]) -> bytes:
    out = b"!<arch>\n"
    for name, data in members:
        out += (
            f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) & 1)
        )
    return out


Entry = tuple[tarfile.TarInfo, bytes]


def file(path: str, data: bytes = b"", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    return info, data


def program(path: str, data: bytes) -> Entry:
    return file(path, data, 0o755)


def special(path: str, type: bytes, target: str = "") -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode = type, target, 0o755
    return info, b""


def folder(path: str) -> Entry:
    return special(path, tarfile.DIRTYPE)


def symlink(path: str, target: str) -> Entry:
    return special(path, tarfile.SYMTYPE, target)


def hardlink(path: str, target: str) -> Entry:
    return special(path, tarfile.LNKTYPE, target)


def tar(*entries: Entry, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pack(plain: bytes) -> bytes:
    return gzip.compress(plain, mtime=0)


def root(platform: str = "linux/amd64") -> list[Entry]:
    """The smallest honest root: a dynamic program, its loader and library, a shell script."""
    row = arch(platform)
    return [
        program("usr/bin/app", elf(platform, interpreter=row.loader)),
        program("usr/bin/sh", elf(platform, type=EXEC)),
        program("usr/bin/run", b"#!/usr/bin/sh\nexec app\n"),
        symlink("lib", "usr/lib"),
        symlink("lib64", "usr/lib64"),
        program(f"usr{row.loader}", elf(platform)),
        file(f"usr/lib/{row.triplet}/libc.so.6", elf(platform)),
        file(f"usr/lib/{row.triplet}/libc.a", ar(("a.o", elf(platform, type=REL)))),
        file("etc/passwd", b"root:x:0:0::/:/usr/bin/sh\n"),
    ]


@dataclass
class Layer:
    blob: bytes
    plain: bytes
    type: str = model.OCI_LAYER_GZIP
    annotations: dict[str, str] | None = None


def layer(*entries: Entry) -> Layer:
    plain = tar(*entries)
    return Layer(pack(plain), plain)


@dataclass
class Shelf:
    """A `Source` in memory. `opened` counts how often each blob was streamed."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    head: Document | None = None
    name: str = "memory:test"
    opened: dict[str, int] = field(default_factory=dict)
    piece: int = 1 << 16

    def top(self) -> Document:
        if self.head is None:
            raise InputError("no such image")
        return self.head

    def document(self, descriptor: Descriptor) -> Document:
        return parse_document(self.fetch(descriptor), descriptor.media_type, descriptor.digest)

    def fetch(self, descriptor: Descriptor, limit: int = 4 << 20) -> bytes:
        if descriptor.digest not in self.blobs:
            raise InputError(f"blob {descriptor.digest} is missing")
        return self.blobs[descriptor.digest][:limit]

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        data = self.fetch(descriptor, 1 << 40)
        self.opened[descriptor.digest] = self.opened.get(descriptor.digest, 0) + 1
        yield (data[at : at + self.piece] for at in range(0, len(data), self.piece))

    def put(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        digest = digest_of(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def json(self, value: dict[str, Any], media_type: str, **more: Any) -> dict[str, Any]:
        return self.put(json.dumps(value).encode(), media_type, **more)


Edit = Callable[[dict[str, Any]], None]


def nothing(_value: dict[str, Any]) -> None:
    """Leave a document as it is."""


@dataclass
class Spec:
    """One manifest: what goes into it, and how a test bends its documents before they are digested."""

    platform: str = "linux/amd64"
    layers: list[Layer] | None = None
    run: dict[str, Any] | None = field(default_factory=lambda: {"Entrypoint": ["app"]})
    config: Edit = nothing
    manifest: Edit = nothing
    entry: Edit = nothing


def add(shelf: Shelf, spec: Spec) -> dict[str, Any]:
    """Put an image on the shelf and return its index entry."""
    platform = parse_platform(spec.platform)
    layers = [layer(*root(spec.platform))] if spec.layers is None else spec.layers
    stated = {"os": platform.os, "architecture": platform.architecture}
    if platform.variant:
        stated["variant"] = platform.variant
    diff_ids = [f"sha256:{hashlib.sha256(one.plain).hexdigest()}" for one in layers]
    config: dict[str, Any] = {**stated, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    if spec.run is not None:
        config["config"] = spec.run
    spec.config(config)
    descriptors = [
        shelf.put(one.blob, one.type, **({"annotations": one.annotations} if one.annotations else {})) for one in layers
    ]
    manifest: dict[str, Any] = {
        "schemaVersion": 2, "mediaType": model.OCI_MANIFEST, "config": shelf.json(config, model.OCI_CONFIG),
        "layers": descriptors,
    }  # fmt: skip
    spec.manifest(manifest)
    entry = shelf.json(manifest, model.OCI_MANIFEST, platform=stated)
    spec.entry(entry)
    return entry


def image(
    *specs: Spec, index: Edit = nothing, after: Callable[[Shelf, list[dict[str, Any]]], None] | None = None
) -> Shelf:
    """An index of the given images; `after` bends the shelf itself (missing or damaged blobs)."""
    shelf = Shelf()
    entries = [add(shelf, spec) for spec in specs or (Spec(),)]
    if after is not None:
        after(shelf, entries)
    value = {"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": entries}
    index(value)
    raw = json.dumps(value).encode()
    shelf.head = parse_document(raw, model.OCI_INDEX, "top")
    return shelf


def with_files(*entries: Entry, platform: str = "linux/amd64", **more: Any) -> Shelf:
    """A right image with some entries more, in a layer of their own."""
    return image(Spec(platform, [layer(*root(platform)), layer(*entries)], **more))
