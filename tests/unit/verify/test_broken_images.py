"""A corpus of broken images, each made on the fly and each giving exactly its code."""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from verify_images import (
    ARM,
    EXEC,
    REL,
    Entry,
    Layer,
    Shelf,
    Spec,
    add,
    ar,
    arch,
    elf,
    file,
    folder,
    hardlink,
    image,
    layer,
    pack,
    program,
    root,
    special,
    symlink,
    tar,
    with_files,
)

from polyarch.arch import parse_platform
from polyarch.oci import model
from polyarch.oci.model import digest_of
from polyarch.verify import CODES, Report, verify
from polyarch.verify.promise import ANNOTATION, Promise

zstandard = pytest.importorskip("zstandard")

X86 = elf("linux/amd64")
NAMES = ("linux/amd64", "linux/arm64", "linux/s390x")


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document[key] = value

    return edit


def _elsewhere(media_type: str) -> Shelf:
    """An image with a layer that is not there, and that is said to be at another address."""

    def foreign(manifest: dict[str, Any]) -> None:
        extra = {"mediaType": media_type, "digest": "sha256:" + "2" * 64, "size": 9}
        manifest["layers"].append({**extra, "urls": ["https://example.com/layer"]})

    return image(Spec(manifest=foreign, config=lambda c: c["rootfs"]["diff_ids"].append("sha256:" + "3" * 64)))


def _layer_type(media_type: str, one: Layer | None = None) -> Shelf:
    chosen = one or layer(*root())
    chosen.type = media_type
    return image(Spec(layers=[chosen]))


def _zstd(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(data))


def _of_plain(blob: Callable[[bytes], bytes], media_type: str = model.OCI_LAYER_GZIP, **more: Any) -> Shelf:
    plain = tar(*root())
    return image(Spec(layers=[Layer(blob(plain), plain, media_type, **more)]))


def _after(kind: str, change: Callable[[bytes], bytes | None]) -> Shelf:
    """Damage the stored bytes of the manifest, the config or the layer of a right image."""

    def bend(shelf: Shelf, entries: list[dict[str, Any]]) -> None:
        manifest = model.load_json(shelf.blobs[entries[0]["digest"]], "test")
        found = {"manifest": entries[0], "config": manifest["config"], "layer": manifest["layers"][0]}[kind]["digest"]
        changed = change(shelf.blobs.pop(found))
        if changed is not None:
            shelf.blobs[found] = changed

    return image(after=bend)


def _gone(_data: bytes) -> None:
    return None


def _flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


def _spaced(data: bytes) -> bytes:
    """Another JSON text of the same meaning."""
    return b" " + data


def _longer(size_of: str) -> Shelf:
    def grow(document: dict[str, Any]) -> None:
        target = document["layers"][0] if size_of == "layers" else document[size_of] if size_of != "entry" else document
        target["size"] += 1

    return image(Spec(entry=grow)) if size_of == "entry" else image(Spec(manifest=grow))


def _manifest_bytes(raw: bytes) -> Shelf:
    shelf = image()
    entry = shelf.put(raw, model.OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"})
    return _index(shelf, [entry])


def _index(shelf: Shelf, entries: list[dict[str, Any]]) -> Shelf:
    value = {"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": entries}
    descriptor = shelf.json(value, model.OCI_INDEX)
    shelf.head = model.parse_document(shelf.blobs[descriptor["digest"]], model.OCI_INDEX, "top")
    return shelf


def _nested() -> Shelf:
    shelf = Shelf()
    entry = add(shelf, Spec())
    for _ in range(5):
        entry = shelf.json({"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": [entry]}, model.OCI_INDEX)
    return _index(shelf, [entry])


def _twice(*platforms: str) -> Shelf:
    """One manifest (amd64) listed under the given architectures."""
    shelf = Shelf()
    entry = add(shelf, Spec())
    return _index(shelf, [{**entry, "platform": {"os": "linux", "architecture": name}} for name in platforms])


def _attested(target: str) -> Shelf:
    shelf = Shelf()
    entry = add(shelf, Spec())
    statement = shelf.json({"_type": "https://in-toto.io/Statement/v0.1"}, "application/vnd.in-toto+json")
    manifest = {
        "schemaVersion": 2, "mediaType": model.OCI_MANIFEST,
        "config": shelf.json({"architecture": "unknown", "os": "unknown"}, model.OCI_CONFIG), "layers": [statement],
    }  # fmt: skip
    notes = {model.ATTESTATION: "attestation-manifest", "vnd.docker.reference.digest": target or entry["digest"]}
    unknown = {"architecture": "unknown", "os": "unknown"}
    attestation = shelf.json(manifest, model.OCI_MANIFEST, platform=unknown, annotations=notes)
    return _index(shelf, [entry, attestation])


def _damaged_attestation() -> Shelf:
    shelf = _attested("")
    statement = next(digest for digest, data in shelf.blobs.items() if b"in-toto.io" in data)
    shelf.blobs[statement] += b" "
    return shelf


def _without(path: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [entry for entry in root() if entry[0].name != path]


def _run(*words: str, entries: list[tuple[tarfile.TarInfo, bytes]] | None = None, **more: Any) -> Shelf:
    return image(Spec(layers=[layer(*root(), *(entries or []))], run={"Entrypoint": list(words), **more}))


def _other(platform: str, path: str, data: bytes) -> Shelf:
    return with_files(file(path, data), platform=platform)


def _members(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """The entries alone, without the end-of-archive mark."""
    return b"".join(info.tobuf() + data + bytes(-len(data) % 512) for info, data in entries)


def _raw_layer(plain: bytes) -> Shelf:
    return image(Spec(layers=[Layer(pack(plain), plain)]))


GNU = "usr/lib/x86_64-linux-gnu"
HF, EL = "linux/arm/v7", 0x5000200
BROKEN: dict[str, tuple[str, Callable[[], Shelf]]] = {
    "an index entry whose manifest is missing": ("document-unreadable", lambda: _after("manifest", _gone)),
    "a manifest that is not JSON": ("document-unreadable", lambda: _manifest_bytes(b"{")),
    "a manifest without layers": ("document-unreadable", lambda: _manifest_bytes(b'{"schemaVersion": 2}')),
    "a config that is missing": ("config-invalid", lambda: _after("config", _gone)),
    "a config of the wrong shape": ("config-invalid", lambda: image(Spec(config=_set("rootfs", 7)))),
    "a layer that is missing": ("blob-missing", lambda: _after("layer", _gone)),
    "a manifest without schemaVersion": (
        "schema-version",
        lambda: image(Spec(manifest=lambda document: document.pop("schemaVersion"))),
    ),
    "a manifest of schema 1": ("schema-version", lambda: image(Spec(manifest=_set("schemaVersion", 1)))),
    "a manifest type that does not exist": (
        "media-type-unknown",
        lambda: image(Spec(entry=_set("mediaType", f"{model.OCI_MANIFEST}+gzip"))),
    ),
    "a layer type that does not exist": ("media-type-unknown", lambda: _layer_type("application/x-tar+gzip")),
    "a config type that does not exist": (
        "media-type-unknown",
        lambda: image(Spec(manifest=lambda m: m["config"].update(mediaType="application/json"))),
    ),
    "a manifest described as Docker's that calls itself OCI's": (
        "media-type-mismatch",
        lambda: image(Spec(entry=_set("mediaType", model.DOCKER_MANIFEST))),
    ),
    "a manifest described as an index": (
        "media-type-mismatch",
        lambda: image(Spec(manifest=lambda m: m.pop("mediaType"), entry=_set("mediaType", model.OCI_INDEX))),
    ),
    "gzip declared as tar": ("layer-media-type", lambda: _layer_type(model.OCI_LAYER)),
    "tar declared as gzip": ("layer-media-type", lambda: _of_plain(bytes)),
    "zstd declared as gzip": ("layer-media-type", lambda: _of_plain(_zstd)),
    "gzip declared as zstd": ("layer-media-type", lambda: _layer_type(model.OCI_LAYER_ZSTD)),
    "a layer compressed with xz": ("layer-media-type", lambda: _of_plain(lzma.compress)),
    "a layer that is nothing known": ("layer-media-type", lambda: _of_plain(lambda _: b"hello" * 200)),
    "zstd annotated as chunked without a footer": (
        "layer-chunked",
        lambda: _of_plain(
            _zstd,
            model.OCI_LAYER_ZSTD,
            annotations={"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"},
        ),
    ),
    "a layer digest that is a path": (
        "digest-invalid",
        lambda: image(Spec(manifest=lambda m: m["layers"][0].update(digest="sha256:../../etc/passwd"))),
    ),
    "a manifest digest of an unknown algorithm": (
        "digest-invalid",
        lambda: image(Spec(entry=_set("digest", "md5:d41d8cd98f00b204e9800998ecf8427e"))),
    ),
    "a diff id that is no digest": (
        "digest-invalid",
        lambda: image(Spec(config=lambda c: c["rootfs"].update(diff_ids=["sha256:12"]))),
    ),
    "a flipped bit in a layer": ("digest-mismatch", lambda: _after("layer", _flip)),
    "a layer cut short": ("digest-mismatch", lambda: _after("layer", lambda data: data[:-10])),
    "a layer that goes on": ("digest-mismatch", lambda: _after("layer", lambda data: data + bytes(99))),
    "another manifest under the digest": ("digest-mismatch", lambda: _after("manifest", _spaced)),
    "another config under the digest": ("digest-mismatch", lambda: _after("config", _spaced)),
    "a damaged attestation": ("digest-mismatch", _damaged_attestation),
    "a size below nothing": ("size-mismatch", lambda: image(Spec(entry=_set("size", -1)))),
    "a wrong size of a layer": ("size-mismatch", lambda: _longer("layers")),
    "a wrong size of a config": ("size-mismatch", lambda: _longer("config")),
    "a wrong size of a manifest": ("size-mismatch", lambda: _longer("entry")),
    "a layer of another image": (
        "diff-id-mismatch",
        lambda: image(Spec(config=lambda c: c["rootfs"].update(diff_ids=["sha256:" + "0" * 64]))),
    ),
    "a diff id too many": (
        "diff-id-count",
        lambda: image(Spec(config=lambda c: c["rootfs"]["diff_ids"].append("sha256:" + "0" * 64))),
    ),
    "a gzip stream that ends early": ("layer-corrupt", lambda: _of_plain(lambda plain: pack(plain)[:-20])),
    "a gzip stream with rubbish inside": (
        "layer-corrupt",
        lambda: _of_plain(lambda plain: pack(plain)[:60] + b"\xff" * 60 + pack(plain)[120:]),
    ),
    "an archive that ends inside a file": ("tar-malformed", lambda: _raw_layer(tar(*root())[:1000])),
    "an archive with a wrong checksum": (
        "tar-malformed",
        lambda: _raw_layer(tar(*root()).replace(b"etc/passwd", b"etc/shadow")),
    ),
    "an archive that goes on after a block of zeros": (
        "tar-malformed",
        lambda: _raw_layer(_members(*root()) + bytes(512) + tar(file("hidden", ARM))),
    ),
    "gzip that holds no archive": ("tar-malformed", lambda: _raw_layer(b"not an archive " * 100)),
    "an index without images": ("index-empty", lambda: image(index=_set("manifests", []))),
    "indexes in indexes in indexes": ("index-nesting", _nested),
    "an entry without a platform": ("platform-unstated", lambda: image(Spec(entry=lambda e: e.pop("platform")))),
    "a platform that nobody knows": (
        "platform-unknown",
        lambda: image(
            Spec(config=_set("architecture", "pdp11"), entry=_set("platform", {"os": "linux", "architecture": "pdp11"}))
        ),
    ),
    "a config of another platform": ("platform-mismatch", lambda: image(Spec(config=_set("architecture", "arm64")))),
    "a config of another variant": (
        "platform-mismatch",
        lambda: image(Spec("linux/arm/v6", config=_set("variant", "v7"))),
    ),
    "two images for a platform": ("platform-duplicate", lambda: image(Spec(), Spec(run={"Cmd": ["app"]}))),
    "one image twice": ("platform-duplicate", lambda: _twice("amd64", "amd64")),
    "one image for two platforms": ("platform-conflict", lambda: _twice("amd64", "arm64")),
    "an attestation of an image that is gone": ("attestation-orphan", lambda: _attested("sha256:" + "1" * 64)),
    "a foreign program in PATH": ("elf-machine", lambda: with_files(program("usr/bin/tool", ARM))),
    "a foreign library where the loader looks": ("elf-machine", lambda: with_files(file(f"{GNU}/libx.so.1", ARM))),
    "a foreign object file": ("elf-machine", lambda: with_files(file("opt/x.o", elf("linux/s390x", type=REL)))),
    "a foreign member of a static library": (
        "elf-machine",
        lambda: with_files(file(f"{GNU}/libx.a", ar(("a.o", X86), ("b.o", elf("linux/arm64", type=REL))))),
    ),
    "an x86 program in an arm64 image": (
        "elf-machine",
        lambda: with_files(program("usr/bin/tool", X86), platform="linux/arm64"),
    ),
    "a program of a machine that nobody knows": (
        "elf-machine",
        lambda: with_files(program("usr/bin/tool", elf(machine=4711))),
    ),
    "a program of the x32 ABI": ("elf-class", lambda: with_files(program("usr/bin/tool", elf(elf_class=32)))),
    "a library of the other byte order": (
        "elf-byteorder",
        lambda: _other("linux/ppc64le", "usr/lib/libx.so", elf("linux/ppc64le", byteorder="big")),
    ),
    "a soft-float library on armhf": ("elf-float-abi", lambda: _other(HF, "usr/lib/libx.so", elf(HF, flags=EL))),
    "a soft-float library on riscv64": (
        "elf-float-abi",
        lambda: _other("linux/riscv64", "usr/lib/libx.so", elf("linux/riscv64", flags=1)),
    ),
    "a library of ELF ABI version 1 on ppc64le": (
        "elf-abi",
        lambda: _other("linux/ppc64le", "usr/lib/libx.so", elf("linux/ppc64le", flags=1)),
    ),
    "a program that needs x86-64-v3": ("elf-isa", lambda: with_files(program("usr/bin/tool", elf(level=3)))),
    "an ARMv7 library on arm/v6": (
        "elf-isa",
        lambda: _other("linux/arm/v6", "usr/lib/libx.so", elf("linux/arm/v6", level=10)),
    ),
    "a file that only begins as ELF": ("elf-malformed", lambda: with_files(file("opt/x", b"\x7fELF" + bytes(99)))),
    "a grafted layer with a static library": (
        "graft-broken",
        lambda: _grafted(Promise("sha256:n", ("", ""), ("LAYER",)), file("opt/x.a", ar(("a.txt", b"text")))),
    ),
    "a promise that names a layer of another image": (
        "graft-invalid",
        lambda: _grafted(Promise("sha256:n", ("", ""), (f"sha256:{0:064}",)), file("opt/x", b"text")),
    ),
    "a promise that cannot be read": ("graft-invalid", lambda: _promising("{}")),
    "nothing to run": ("entrypoint-none", lambda: image(Spec(run=None))),
    "an entrypoint that is missing": ("entrypoint-missing", lambda: _run("/app/server")),
    "an entrypoint that is not in PATH": ("entrypoint-missing", lambda: _run("server")),
    "an entrypoint outside of a stated PATH": ("entrypoint-missing", lambda: _run("app", Env=["PATH=/opt/bin"])),
    "an entrypoint that links in a circle": (
        "entrypoint-missing",
        lambda: _run("/a", entries=[symlink("a", "b"), symlink("b", "a")]),
    ),
    "an entrypoint that a later layer removed": (
        "entrypoint-missing",
        lambda: with_files(file("usr/bin/.wh.app")),
    ),
    "an entrypoint that may not be executed": (
        "entrypoint-not-executable",
        lambda: _run("/app", entries=[file("app", X86)]),
    ),
    "an entrypoint that is a folder": ("entrypoint-not-executable", lambda: _run("/app", entries=[folder("app")])),
    "a script without #!": ("entrypoint-format", lambda: _run("/go", entries=[program("go", b"echo hi\n")])),
    "a script whose interpreter is missing": (
        "interpreter-missing",
        lambda: _run("/go", entries=[program("go", b"#!/bin/bash -e\n")]),
    ),
    "a script whose interpreter env cannot find": (
        "interpreter-missing",
        lambda: _run("/go", entries=[program("usr/bin/env", X86), program("go", b"#!/usr/bin/env -S python3 -u\n")]),
    ),
    "a dynamic program without its loader": (
        "interpreter-missing",
        lambda: image(Spec(layers=[layer(*_without("usr/lib64/ld-linux-x86-64.so.2"))])),
    ),
    "a musl program on glibc": (
        "interpreter-missing",
        lambda: _run("/go", entries=[program("go", elf(interpreter="/lib/ld-musl-x86_64.so.1"))]),
    ),
    "the loader of another platform": (
        "foreign-loader",
        lambda: with_files(program("usr/lib/ld-linux-aarch64.so.1", ARM)),
    ),
    "libraries of another platform": (
        "foreign-multiarch",
        lambda: with_files(folder("usr/lib/aarch64-linux-gnu"), file("usr/lib/aarch64-linux-gnu/libc.so.6", ARM)),
    ),
    "libraries of another platform without their folder": (
        "foreign-multiarch",
        lambda: with_files(file("usr/lib/aarch64-linux-gnu/libc.so.6", ARM)),
    ),
    "an entry that leaves the root": ("unsafe-path", lambda: with_files(file("../../etc/cron.d/x"))),
    "an entry written through a link that leaves the root": (
        "unsafe-path",
        lambda: with_files(symlink("up", "../../etc"), file("up/passwd")),
    ),
    "a hard link that leaves the root": ("unsafe-hardlink", lambda: with_files(hardlink("x", "../../etc/shadow"))),
    "a foreign layer that is kept elsewhere": ("blob-elsewhere", lambda: _elsewhere(model.DOCKER_FOREIGN_LAYER)),
    "a hard link to nothing": ("hardlink-missing", lambda: with_files(hardlink("usr/bin/y", "nope"))),
    "a foreign program behind a link in PATH": (
        "elf-machine",
        lambda: with_files(program("opt/j/bin/java", ARM), symlink("usr/bin/java", "../../opt/j/bin/java")),
    ),
    "a device outside of /dev": ("device-file", lambda: with_files(special("opt/sda", tarfile.BLKTYPE))),
    "a device in /dev": ("device-file", lambda: with_files(special("dev/null", tarfile.CHRTYPE))),
    "a set-user-id program": ("setuid", lambda: with_files(file("usr/bin/su", X86, 0o4755))),
    "a finding that the image allows": (
        "allowed",
        lambda: with_files(
            file("opt/x.so", ARM), manifest=_set("annotations", {"io.polyarch.verify.allow": "/srv/*, /opt/*"})
        ),
    ),
}


def _promising(text: str, *layers: Layer) -> Shelf:
    edit = lambda manifest: manifest.update(annotations={ANNOTATION: text})  # noqa: E731
    return image(Spec(layers=[layer(*root()), *layers], manifest=edit))


def _grafted(promise: Promise, *entries: Entry) -> Shelf:
    """An image that promises its upper layer (`LAYER` stands for its digest) to be of no architecture."""
    upper = layer(*entries)
    return _promising(promise.to_json().replace("LAYER", digest_of(upper.blob)), upper)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_gives_exactly_its_code(name: str) -> None:
    code, make = BROKEN[name]
    report = verify(make())
    assert {violation.code for violation in report.violations} == {code}, report.violations
    assert report.ok == all(violation.severity != "error" for violation in report.violations)
    for violation in report.violations:
        assert violation.message
        assert violation.hint == CODES[code].hint


def test_the_corpus_holds_every_code_that_a_whole_image_can_show() -> None:
    # Limits are tested where they can be set (test_scan.py); a missing platform needs an argument.
    elsewhere = {"layer-bomb", "layer-limit", "platform-missing"}
    assert {code for code, _ in BROKEN.values()} == set(CODES) - elsewhere


@pytest.mark.parametrize("platform", NAMES)
def test_a_right_image_has_nothing_to_say(platform: str) -> None:
    assert verify(image(Spec(platform))).violations == ()


def test_a_right_index_of_three_platforms_has_nothing_to_say() -> None:
    report = verify(image(*(Spec(name) for name in NAMES)))
    assert report.violations == ()
    assert [entry.platform for entry in report.entries] == list(NAMES)


def test_a_right_attestation_is_not_judged_as_an_image() -> None:
    report = verify(_attested(""))
    assert report.violations == ()
    assert [entry.kind for entry in report.entries] == ["image", "attestation"]


def test_a_platform_that_was_asked_for_must_be_there() -> None:
    report = verify(image(), [parse_platform("linux/s390x")])
    assert [violation.code for violation in report.violations] == ["platform-missing"]
    assert not report.ok


def test_only_the_platforms_asked_for_are_read() -> None:
    shelf = image(Spec(), Spec("linux/arm64"))
    report = verify(shelf, [parse_platform("linux/arm64")])
    assert [entry.platform for entry in report.entries] == ["linux/arm64"]
    assert len(shelf.opened) == 1


def _severity(report: Report, code: str) -> str:
    return next(violation.severity for violation in report.violations if violation.code == code)


@pytest.mark.parametrize(
    ("path", "severity"),
    [
        ("usr/bin/tool", "error"),
        ("bin/tool", "error"),
        ("usr/local/sbin/tool", "error"),
        ("usr/lib/libx.so", "error"),
        ("lib/x86_64-linux-gnu/libx.so", "error"),
        ("usr/lib/x86_64-linux-gnu/gconv/x.so", "error"),
        ("usr/lib/firmware/x.elf", "warning"),
        ("usr/aarch64-linux-gnu/lib/libc.so.6", "warning"),
        ("usr/lib/gcc-cross/aarch64-linux-gnu/12/crtbegin.o", "warning"),
        ("usr/share/qemu/x.elf", "warning"),
    ],
)
def test_a_foreign_file_is_an_error_only_where_the_image_would_run_it(path: str, severity: str) -> None:
    assert _severity(verify(with_files(program(path, ARM))), "elf-machine") == severity


def test_what_lies_beside_the_entrypoint_is_an_error() -> None:
    layers = [layer(*root(), program("app/server", elf(type=EXEC)), file("app/plugin.so", ARM))]
    assert _severity(verify(image(Spec(layers=layers, run={"Cmd": ["/app/server"]}))), "elf-machine") == "error"


def test_i386_programs_in_an_amd64_image_are_only_warned_of() -> None:
    assert _severity(verify(with_files(program("usr/bin/tool", elf("linux/386")))), "elf-machine") == "warning"


def test_a_foreign_loader_is_an_error_where_the_own_one_is_missing() -> None:
    entries = [program("lib/ld-linux-aarch64.so.1", ARM), program("usr/bin/app", elf(type=EXEC))]
    assert _severity(verify(image(Spec(layers=[layer(*entries)]))), "foreign-loader") == "error"


def test_the_level_that_a_variant_promises_may_be_used() -> None:
    def v3(document: dict[str, Any]) -> None:
        document["variant"] = "v3"

    spec = Spec(
        layers=[layer(*root(), program("usr/bin/tool", elf(level=3)))], config=v3, entry=lambda e: v3(e["platform"])
    )
    assert verify(image(spec)).violations == ()


def test_baseline_statements_are_no_finding() -> None:
    assert verify(with_files(program("usr/bin/tool", elf(level=1)))).violations == ()


def test_a_static_soft_float_program_runs_on_armhf() -> None:
    assert verify(with_files(program("usr/bin/tool", elf(HF, type=EXEC, flags=EL)), platform=HF)).violations == ()


def test_code_for_graphics_and_kernel_machines_is_data() -> None:
    entries = [file(f"usr/lib/{number}.o", elf(machine=number)) for number in (190, 224, 247)]
    assert verify(with_files(*entries)).violations == ()


def test_ten_thousand_files_with_one_fault_are_one_violation() -> None:
    report = verify(with_files(*(file(f"opt/{number:05}.so", ARM) for number in range(10_000))))
    (violation,) = report.violations
    assert violation.count == 10_000
    assert violation.paths == ("/opt/00000.so", "/opt/00001.so", "/opt/00002.so")
    assert "10,000 files" in violation.message


def test_the_finding_names_member_path_and_layer() -> None:
    shelf = with_files(file("opt/libx.a", ar(("good.o", X86), ("bad.o", elf("linux/arm64", type=REL)))))
    (violation,) = verify(shelf).violations
    assert violation.path == "/opt/libx.a(bad.o)"
    assert violation.layer in shelf.opened


def test_allowed_paths_are_silenced_and_counted() -> None:
    report = verify(with_files(program("usr/bin/tool", ARM)), allow=["/usr/bin/t*"])
    assert [(violation.code, violation.severity) for violation in report.violations] == [("allowed", "info")]


def test_an_allowed_folder_allows_what_is_below() -> None:
    report = verify(with_files(file("usr/lib/aarch64-linux-gnu/libc.so.6", ARM)), allow=["/usr/lib/aarch64*/"])
    assert [violation.code for violation in report.violations] == ["allowed"]


def test_findings_about_a_config_name_the_platform() -> None:
    (violation,) = verify(_after("config", _spaced)).violations
    assert violation.platform == "linux/amd64"


def test_an_allowed_path_never_silences_an_escape() -> None:
    report = verify(with_files(file("../x")), allow=["*"])
    assert not report.ok


def test_a_blob_that_platforms_share_is_read_once() -> None:
    shared = layer(file("etc/motd", b"hello"))
    specs = [Spec(name, [layer(*root(name)), shared]) for name in NAMES]
    shelf = image(*specs)
    assert verify(shelf).violations == ()
    assert set(shelf.opened.values()) == {1}
    assert len(shelf.opened) == 4


def test_a_single_manifest_is_judged_by_its_config() -> None:
    shelf = Shelf()
    entry = add(shelf, Spec("linux/arm64", [layer(*root("linux/amd64"))]))
    shelf.head = model.parse_document(shelf.blobs[entry["digest"]], model.OCI_MANIFEST, "top")
    report = verify(shelf)
    assert "elf-machine" in {violation.code for violation in report.violations}
    assert report.entries[0].platform == "linux/arm64"


def test_a_plain_slip_of_the_label_is_found_whole() -> None:
    report = verify(image(Spec("linux/arm64", [layer(*root("linux/amd64"))])))
    assert {violation.code for violation in report.of("error")} == {"elf-machine", "foreign-loader"}
    assert arch("linux/arm64").loader not in str(report.violations)


@pytest.mark.parametrize("kind", ["zstd", "chunked", "tar", "members"])
def test_every_honest_way_to_store_a_layer_is_read(kind: str) -> None:
    plain = tar(*root())
    footer = b"\x50\x2a\x4d\x18" + (16).to_bytes(4, "little") + bytes(8) + b"GNUlInUx"
    note = {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"}
    stored = {
        "zstd": Layer(_zstd(plain), plain, model.OCI_LAYER_ZSTD),
        "chunked": Layer(_zstd(plain[:5000]) + _zstd(plain[5000:]) + footer, plain, model.OCI_LAYER_ZSTD, note),
        "tar": Layer(plain, plain, model.OCI_LAYER),
        "members": Layer(pack(plain[:5000]) + pack(plain[5000:]), plain),
    }
    assert verify(image(Spec(layers=[stored[kind]]))).violations == ()


def test_an_ordinary_layer_may_not_live_elsewhere() -> None:
    assert [v.code for v in verify(_elsewhere(model.OCI_LAYER)).of("error")] == ["blob-missing"]
