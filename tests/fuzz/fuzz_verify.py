"""Feeds mutated layers, ELF files and manifests to the proof (atheris): it must report, never crash, hang or swell.

By hand:   python tests/fuzz/fuzz_verify.py -atheris_runs=1000000 -rss_limit_mb=600 -timeout=5
In short:  python tests/fuzz/fuzz_verify.py --short        (20,000 runs)
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/unit/verify")]
with atheris.instrument_imports(include=["polyarch", "elftools"]):
    from verify_images import ARM, Layer, Shelf, Spec, ar, elf, file, image, pack, program, root, symlink, tar

    from polyarch.errors import PolyarchError
    from polyarch.oci import model
    from polyarch.verify import LayerFacts, junit, sarif, scan, verify

SHORT = 20_000
FILES = [
    elf(interpreter="/lib64/ld-linux-x86-64.so.2", level=3), elf("linux/arm/v6", level=10), ARM,
    ar(("a.o", ARM), ("b.o", elf("linux/s390x"))),
]  # fmt: skip
ARCHIVE = tar(*root(), *(program(f"opt/{at}", data) for at, data in enumerate(FILES)), symlink("a" * 200, "b" * 200))
RIGHT = image(Spec(layers=[Layer(pack(ARCHIVE), ARCHIVE)]))
MANIFEST = next(data for data in RIGHT.blobs.values() if b'"layers": [' in data)
CONFIG = next(data for data in RIGHT.blobs.values() if b'"rootfs"' in data)


def mutate(data: atheris.FuzzedDataProvider, whole: bytes) -> bytes:
    """A few changes to something that is right: raw mutation alone never gets past a checksum."""
    out = bytearray(whole)
    for _ in range(data.ConsumeIntInRange(1, 12)):
        at = data.ConsumeIntInRange(0, max(len(out) - 1, 0))
        length = data.ConsumeIntInRange(0, 32)
        out[at : at + length] = data.ConsumeBytes(data.ConsumeIntInRange(0, 32))
    return bytes(out)


def mend(plain: bytes) -> bytes:
    """Right checksums for the headers at all multiples of 512 that look like headers."""
    out = bytearray(plain)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            total = sum(out[at : at + 148]) + 256 + sum(out[at + 156 : at + 512])
            out[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(out)


def judge(manifest: bytes, config: bytes | None = None) -> None:
    shelf = Shelf(dict(RIGHT.blobs))
    if config is not None:
        value = json.loads(manifest)
        value["config"] = shelf.put(config, model.OCI_CONFIG)
        manifest = json.dumps(value).encode()
    entry = shelf.put(manifest, model.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    index = shelf.json({"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": [entry]}, model.OCI_INDEX)
    shelf.head = model.parse_document(shelf.blobs[index["digest"]], model.OCI_INDEX, "top")
    with contextlib.suppress(PolyarchError):
        report = verify(shelf)
        junit(report)
        sarif(report)


def one(raw: bytes) -> None:
    """One input: its first number chooses what is mutated."""
    data = atheris.FuzzedDataProvider(raw)
    way = data.ConsumeIntInRange(0, 5)
    if way == 0:
        found = scan([data.ConsumeBytes(1 << 16)])
    elif way == 1:
        found = scan([mend(mutate(data, ARCHIVE))])
    elif way == 2:
        found = scan([pack(mutate(data, ARCHIVE))])
    elif way == 3:
        found = scan([mutate(data, pack(ARCHIVE))])
    elif way == 4:
        content = mutate(data, FILES[data.ConsumeIntInRange(0, len(FILES) - 1)])
        found = scan([tar(file("usr/bin/app", content, 0o755))])
    else:
        if data.ConsumeBool():
            judge(mutate(data, MANIFEST))
        else:
            judge(MANIFEST, mutate(data, CONFIG))
        return
    if LayerFacts.from_json(found.to_json()) != found:
        raise AssertionError("facts do not survive being kept")


def main() -> None:
    arguments = [word for word in sys.argv if word != "--short"]
    if len(arguments) < len(sys.argv):
        arguments += [f"-atheris_runs={SHORT}", "-timeout=10", "-rss_limit_mb=600"]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
