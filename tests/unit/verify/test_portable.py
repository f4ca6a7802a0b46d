"""What binds a layer to one architecture is found, by name and inside of archives; what is the same anywhere passes."""

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_images import Entry, ar, elf, file, folder, hardlink, layer, program, symlink, tar

from polyarch.verify.portable import MOST, Trace, traces

LIBRARY = elf("linux/arm64")
WHEEL = "x/app.dist-info/WHEEL"


def found(*entries: Entry) -> tuple[Trace, ...]:
    return traces([layer(*entries).blob])


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def pe(machine: int = 0x8664, *, dotnet: bool = False) -> bytes:
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", machine) + bytes(18)
    return head + struct.pack("<H", 0x20B) + bytes(110 + 14 * 8) + struct.pack("<I", 0x2000 if dotnet else 0) + bytes(8)


BOUND: dict[str, tuple[Entry, str]] = {
    "a program": (program("app", elf()), "app: an ELF file"),
    "a library that is called otherwise": (file("data.bin", LIBRARY), "data.bin: an ELF file"),
    "a static library": (file("x.a", ar(("a.o", LIBRARY))), "x.a: an ar archive"),
    "a static library of other code": (file("x.a", ar(("a.o", b"code"))), "x.a: an ar archive"),
    "a thin archive": (file("x.a", b"!<thin>\n"), "x.a: a static library"),
    "LLVM bitcode": (file("x.bc", b"BC\xc0\xde1234"), "x.bc: LLVM bitcode, made for one target"),
    "a wheel with a library": (file("a.whl", zipped(("a/_x.so", LIBRARY))), "a.whl!a/_x.so: an ELF file"),
    "a jar with a library": (file("a.jar", zipped(("META-INF/x.so", LIBRARY))), "a.jar!META-INF/x.so: an ELF file"),
    "a jar in a war": (
        file("a.war", zipped(("WEB-INF/lib/b.jar", zipped(("x.so", LIBRARY))))),
        "a.war!WEB-INF/lib/b.jar!x.so: an ELF file",
    ),
    "a zip with a script in front": (
        file("run.pyz", b"#!/usr/bin/python3\n" + zipped(("x.so", LIBRARY))), "run.pyz!x.so: an ELF file",
    ),
    "a packed archive": (
        file("a.tar.gz", gzip.compress(tar(file("bin/x", LIBRARY)))), "a.tar.gz!bin/x: an ELF file",
    ),
    "a program in xz": (file("vmlinux.xz", lzma.compress(LIBRARY)), "vmlinux.xz: an ELF file"),
    "an archive in bzip2": (file("a.tbz", bz2.compress(tar(file("x", LIBRARY)))), "a.tbz!x: an ELF file"),
    "a PE program that runs": (program("x.exe", pe()), "x.exe: a PE program that is marked to be run"),
    ".NET for one machine": (file("x.dll", pe(0xFD1D, dotnet=True)), "x.dll: a .NET assembly compiled for one machine"),
    "a Mach-O program": (program("x", b"\xcf\xfa\xed\xfe" + bytes(20)), "x: a Mach-O program"),
    "a fat Mach-O program": (program("x", b"\xca\xfe\xba\xbe\0\0\0\2"), "x: a Mach-O program"),
    "a multiarch folder": (
        folder("usr/lib/x86_64-linux-gnu"), "usr/lib/x86_64-linux-gnu: its name states an architecture: x86_64",
    ),
    "a Debian architecture in a name": (
        file("x_amd64.conf"), "x_amd64.conf: its name states an architecture: amd64",
    ),
    "a platform tag in a name": (
        file("a-1-cp313-cp313-manylinux_2_17_x86_64.whl"),
        "a-1-cp313-cp313-manylinux_2_17_x86_64.whl: its name states an architecture: x86_64",
    ),
    "an extension's suffix": (
        file("m.cpython-313-x86_64-linux-gnu.so"),
        "m.cpython-313-x86_64-linux-gnu.so: its name states an architecture: x86_64",
    ),
    "a name in a wheel": (
        file("a.whl", zipped(("a/linux-arm64/x.txt", b""), ("a/linux-arm64/y.txt", b""))),
        "a.whl!a/linux-arm64: its name states an architecture: arm64",
    ),
    "a removed file of one architecture": (
        file("opt/.wh.x86_64"), "opt/.wh.x86_64: its name states an architecture: x86_64",
    ),
    "a link into a multiarch folder": (
        symlink("opt/z", "/lib/aarch64-linux-gnu/libz.so.1"), "opt/z: a link to /lib/aarch64-linux-gnu/libz.so.1",
    ),
    "a hard link into a multiarch folder": (
        hardlink("opt/z", "lib/s390x-linux-gnu/z"), "opt/z: a link to lib/s390x-linux-gnu/z",
    ),
    "dpkg's database": (file("var/lib/dpkg/status"), "var/lib/dpkg/status: the package database is changed"),
    "a removed file of dpkg": (
        file("var/lib/dpkg/info/.wh.x.list"), "var/lib/dpkg/info/.wh.x.list: the package database is changed",
    ),
    "apk's database": (file("lib/apk/db/installed"), "lib/apk/db/installed: the package database is changed"),
    "rpm's database": (
        file("usr/lib/sysimage/rpm/rpmdb.sqlite"), "usr/lib/sysimage/rpm/rpmdb.sqlite: the package database is changed",
    ),
    "the loader's cache": (file("etc/ld.so.cache", b"?"), "etc/ld.so.cache: a cache made for one machine"),
    "the loader's cache elsewhere": (
        file("opt/cache", b"glibc-ld.so.cache1.1"), "opt/cache: the cache of the dynamic loader",
    ),
    "apt's cache": (
        file("var/cache/apt/pkgcache.bin", b"?"), "var/cache/apt/pkgcache.bin: a cache made for one machine",
    ),
    "classes for one virtual machine": (file("x/app.jsa"), "x/app.jsa: a cache made for one machine"),
    "a locale archive": (
        file("locale-archive", b"\x09\x01\x02\xde"), "locale-archive: a locale archive in its machine's byte order",
    ),
    "a gdbm database": (
        file("x.db", b"\x13\x57\x9a\xce"), "x.db: a gdbm database in its machine's byte order",
    ),
    "a Berkeley database": (
        file("x.db", bytes(12) + b"\x61\x15\x06\0"), "x.db: a Berkeley database in its machine's byte order",
    ),
    "compiled schemas": (
        file("gschemas.compiled", b"GVariant"), "gschemas.compiled: a GVariant database in its machine's byte order",
    ),
    "a wheel that was installed for one platform": (
        file(WHEEL, b"Root-Is-Purelib: false\nTag: cp313-cp313-linux_x86_64\n"),
        f"{WHEEL}: a wheel for one platform (cp313-cp313-linux_x86_64)",
    ),
    "a zipapp with a native module": (
        program("usr/bin/z", b"#!/usr/bin/env python3\n" + zipped(("m.so", elf("linux/amd64")))),
        "usr/bin/z!m.so: an ELF file",
    ),
    "an installer with a program behind its script": (
        program("inst.run", b"#!/bin/sh\ntail -n +3 $0 | x\n" + elf("linux/amd64")),
        "inst.run: a script with something behind it that is no text",
    ),
    "an installer with an archive far behind its script": (
        file("inst.run", b"#!/bin/sh\n" + b"# line\n" * 20_000 + gzip.compress(bytes(99))),
        "inst.run: a script with something behind it that is no text",
    ),
    "what uname said": (file("etc/arch", b"x86_64\n"), "etc/arch: its text states one architecture: x86_64"),
    "a source of packages": (
        file("etc/apt/a.list", b"deb [arch=amd64] http://x y z\n"),
        "etc/apt/a.list: its text states one architecture: amd64",
    ),
    "a package for one processor": (
        file("package.json", b'{"cpu": ["x64"]}'), "package.json: its text states one architecture: x64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUND)
def test_a_layer_is_bound_by(name: str) -> None:
    entry, said = BOUND[name]
    assert [f"{trace.path}: {trace.what}" for trace in found(file("etc/fine", b"text\n"), entry)] == [said]


FREE: dict[str, Entry] = {
    "text": file("etc/motd", b"hello\n"),
    "a script": program("usr/bin/x", b"#!/bin/sh\nexec y\n"),
    "a zipapp": program("usr/bin/z", b"#!/usr/bin/env python3\n" + zipped(("__main__.py", b"print()\n"))),
    "compiled Python": file("__pycache__/x.cpython-313.pyc", b"\xf3\r\r\n" + bytes(12) + b"\xe3"),
    "a pure wheel": file(
        "a-1-py3-none-any.whl", zipped(("a/__init__.py", b""), ("a.dist-info/WHEEL", b"Tag: py3-none-any\n"))
    ),
    "an installed pure wheel": file(WHEEL, b"Root-Is-Purelib: true\nTag: py3-none-any\n"),
    "a Java class": file("X.class", b"\xca\xfe\xba\xbe\0\0\0\x41"),
    "a jar": file("a.jar", zipped(("X.class", b"\xca\xfe\xba\xbe\0\0\0\x41"), method=zipfile.ZIP_STORED)),
    "a Windows launcher of pip": file("distlib/t64-arm64.exe", pe(0xAA64)),
    "portable .NET": file("x.dll", pe(0x14C, dotnet=True)),
    "a source that knows architectures": file("packaging/tags.py", b"if arch == 'x86_64': pass\n"),
    "a text that lists several": file("package.json", b'{"cpu": ["x64", "arm64"]}'),
    "a word that holds one": file("foo_amd64x.txt", b"yamd64 \\x64 0x64\n"),
    "a link": symlink("usr/bin/python", "python3"),
    "a package for all architectures": file("x_1_all.deb", ar(("debian-binary", b"2.0\n"))),
    "something called zip that is none": file("x.zip", b"text"),
    "a packed text": file("man/x.1.gz", gzip.compress(b".TH x")),
    "a folder above the package database": folder("var/lib/dpkg"),
    "zeros": file("zeros", bytes(2048)),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_a_layer_is_not_bound_by(name: str) -> None:
    assert found(FREE[name]) == ()


def test_the_package_database_is_told_first_and_all_is_told() -> None:
    said = found(program("usr/bin/x", elf()), file("var/lib/dpkg/status"))
    assert [trace.path for trace in said] == ["var/lib/dpkg/status", "usr/bin/x"]


def test_a_layer_that_cannot_be_read_is_bound() -> None:
    whole = layer(file("x", random.Random(1).randbytes(1 << 20))).blob
    for damaged in (whole[: len(whole) // 2], b"no archive at all", whole[:1000] + b"\xff" * 64 + whole[1064:]):
        (trace,) = traces([damaged])
        assert "cannot be read" in trace.what


def test_an_archive_with_a_password_is_bound() -> None:
    locked = bytearray(zipped(("secret", b"text")))
    locked[6] |= 1  # general purpose bit 0 of the local header and, 8 bytes into it, of the central one
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert "cannot be looked into" in found(file("a.zip", bytes(locked)))[0].what


def test_archives_within_archives_end_somewhere() -> None:
    data = b"text"
    for _ in range(8):
        data = zipped(("a.zip", data))
    assert "deep" in found(file("a.zip", data))[0].what


def test_what_is_kept_is_bounded() -> None:
    assert len(found(*(program(f"bin/{number}", b"\x7fELF") for number in range(MOST + 50)))) == MOST


def test_zstd_and_plain_layers_are_read() -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = tar(program("x", elf()))
    assert traces([zstandard.ZstdCompressor().compress(plain)]) == traces([plain]) == found(program("x", elf()))


def test_a_whiteout_of_tar_alone_is_free() -> None:
    assert found(file("etc/.wh.issue"), file("opt/.wh..wh..opq"), (tarfile.TarInfo("etc/x"), b"")) == ()


ARCHIVES = {
    "zip": zipped(("a.txt", b"text" * 50), ("b.jar", zipped(("c", LIBRARY)))),
    "gzip": gzip.compress(tar(file("x", LIBRARY))),
    "xz": lzma.compress(tar(file("x", LIBRARY))),
    "bzip2": bz2.compress(tar(file("x", LIBRARY))),
    "tar": tar(file("x", LIBRARY)),
    "PE": pe(dotnet=True),
    "ar": ar(("x", LIBRARY)),
}


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(ARCHIVES)), st.data())
def test_no_damage_of_an_archive_ends_in_an_exception(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(ARCHIVES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(damaged)))
    for trace in found(file("a.zip" if kind == "zip" else "a", bytes(damaged[:end]))):
        assert trace.path.startswith("a")
        assert trace.what


@given(st.binary(max_size=400))
def test_any_bytes_are_a_file(data: bytes) -> None:
    for name in ("a", "a.whl", "x.dist-info/WHEEL", "x.exe", "x.pyc"):
        found(file(name, data))


@pytest.mark.parametrize("kind", ["zip", "gzip", "xz", "bzip2"])
def test_an_archive_that_is_damaged_is_bound(kind: str) -> None:
    whole = ARCHIVES[kind]
    assert found(file("a", whole[:12] + bytes(64) + whole[76:]))
