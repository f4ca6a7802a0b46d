"""What betrays an architecture: words in names and texts, first bytes of files, paths that are kept for one machine.

Sources: ELF, Mach-O (`mach-o/loader.h`) and PE (`winnt.h`) magics; PEP 425 and PEP 427 (tags of wheels); GNU gdbm
`gdbmconst.h`, Berkeley DB `dbinc/db_swap.h`, glib `gvdb-format.h`, glibc `locarchive.h`, `dl-cache.h` and
`iconvconfig.h`, OpenJDK `cds.h`, Ruby `compile.c`, PHP `zend_file_cache.c`, Julia `staticdata_utils.c`,
Lua `lundump.h`.
"""

from __future__ import annotations

import re
import struct
from typing import Final

# Words that stand for one architecture wherever they stand; bare `arm`, `386` and `x86` mean too much else.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "amd64": ("x86_64", "x86-64", "amd64", "x64"),
    "arm64": ("aarch64", "arm64", "armv8", "armv8l"),
    "s390x": ("s390x",),
    "ppc64le": ("ppc64le", "ppc64el", "powerpc64le"),
    "riscv64": ("riscv64",),
    "arm": ("armhf", "armel", "armv7", "armv7l", "armv7hl", "armv6", "armv6l", "armv5tel", "arm-linux"),
    "386": ("i386", "i486", "i586", "i686", "ia32"),
    "mips64le": ("mips64", "mips64el", "mips64le"),
    "loong64": ("loong64", "loongarch64"),
}
_ARCHITECTURE: Final = {word: name for name, words in _WORDS.items() for word in words}
_ANY: Final = "|".join(sorted(map(re.escape, _ARCHITECTURE), key=len, reverse=True))
_IN_TEXT: Final = re.compile(rf"(?<![a-z0-9\\])(?:{_ANY})(?![a-z0-9])".encode(), re.IGNORECASE)
_PACKAGES: Final = re.compile(
    r"(var/lib/dpkg|lib/apk/db|usr/lib/apk/db|var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm|var/lib/pacman)(/|$)"
)
_CACHES: Final = re.compile(r"(etc/ld\.so\.cache|var/cache/ldconfig/.+|var/cache/apt/.+\.bin|.*\.jsa)$")
# Written by people for every machine: such a text may speak of one architecture and yet be the same everywhere.
_AUTHORED: Final = re.compile(
    r".*(\.(py|pyi|js|mjs|cjs|ts|mts|cts|map|php|rb|pl|pm|tcl|lua|java|kt|scala|go|rs|c|h|cc|cpp|hpp|css|html?|svg|md|rst)"
    r"|(^|/)(METADATA|PKG-INFO|RECORD|(README|LICEN[CS]E|COPYING|CHANGE|NEWS|AUTHORS|NOTICE)[^/]*))$",
    re.IGNORECASE,
)
_WHEEL: Final = re.compile(r"(^|/)[^/]+\.(dist-info|egg-info)/WHEEL$")
_TAG: Final = re.compile(rb"^Tag:\s*(\S+?)-(\S+?)-(\S+)\s*$", re.MULTILINE)

# First bytes -> what the file is. Each is in the byte order or the code of the machine that wrote it.
_MAGICS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x7fELF", "an ELF file"),
    (b"BC\xc0\xde", "LLVM bitcode, made for one target"),
    (b"\xde\xc0\x17\x0b", "LLVM bitcode, made for one target"),
    (b"!<thin>\n", "a static library"),
    (b"ld.so-", "the cache of the dynamic loader"),
    (b"glibc-ld.so.cache", "the cache of the dynamic loader"),
    (b"GVariant", "a GVariant database in its machine's byte order"),
    (b"raVGtnai", "a GVariant database in its machine's byte order"),
    (b"YARB", "compiled Ruby, which states a platform"),
    (b"OPCACHE", "a cache of compiled PHP, made for one machine"),
    (b"DUMPEDGNUEMACS", "a dump of Emacs, made for one machine"),
    (b"\xfbjli\r\n", "a cache of compiled Julia, made for one machine"),
    (b"\x1bLua", "compiled Lua in its machine's sizes and byte order"),
)
_WORD_MAGICS: Final = {
    0x13579ACD: "a gdbm database in its machine's byte order",
    0x13579ACE: "a gdbm database in its machine's byte order",
    0x13579ACF: "a gdbm database in its machine's byte order",
    0xDE020109: "a locale archive in its machine's byte order",
    0x20010324: "the cache of iconv in its machine's byte order",
    0xF00BABA2: "an archive of Java classes for one virtual machine",
    0xF00BABA8: "an archive of Java classes for one virtual machine",
}
_BERKELEY: Final = frozenset((0x00053162, 0x00061561, 0x00042253))
_MACH_O: Final = frozenset((0xFEEDFACE, 0xFEEDFACF))
_CLASS_FILE: Final = 45  # the major version of the oldest Java class; a fat Mach-O has fewer parts than that
_IL_ONLY: Final = 0x14C  # the machine that portable .NET assemblies state


def word_in(text: str) -> str:
    """The first word of a name or a setting that stands for one architecture, "" for none."""
    found = _IN_TEXT.search(text.encode("utf-8", "surrogateescape"))
    return found[0].decode() if found else ""


def by_path(path: str) -> str:
    """What a path (relative to the root) says of its file whatever that holds: "" when nothing is amiss."""
    if _PACKAGES.match(path):
        return "the package database is changed"
    if _CACHES.match(path):
        return "a cache made for one machine"
    return ""


def by_head(head: bytes, *, runs: bool) -> str:
    """What the first bytes of a file say; "" when they are of no machine. `runs`: its mode has an executable bit.

    Programs of other systems (PE, Mach-O) are data on every platform of Linux, unless they are marked to be run.
    """
    for magic, what in _MAGICS:
        if head.startswith(magic):
            return what
    if len(head) < 4:
        return ""
    words = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    for word in words & _WORD_MAGICS.keys():
        return _WORD_MAGICS[word]
    if len(head) >= 16 and {struct.unpack(f"{order}I", head[12:16])[0] for order in "<>"} & _BERKELEY:
        return "a Berkeley database in its machine's byte order"
    if runs and (words & _MACH_O or (head[:4] == b"\xca\xfe\xba\xbe" and head[4:8] < bytes((0, 0, 0, _CLASS_FILE)))):
        return "a Mach-O program"
    return _portable_executable(head, runs)


def is_windows(head: bytes) -> bool:
    """Whether a file is a PE program; its name may then speak of an architecture, which is one of Windows."""
    return _pe_offset(head) > 0


def _portable_executable(head: bytes, runs: bool) -> str:
    at = _pe_offset(head)
    if not at:
        return ""
    if runs:
        return "a PE program that is marked to be run"
    machine, optional = struct.unpack_from("<H", head, at + 4)[0], struct.unpack_from("<H", head, at + 24)[0]
    # Directory 14 of the optional header is .NET's; it starts 96 bytes in for PE32 (0x10b), 112 for PE32+.
    directory = at + 24 + (96 if optional == 0x10B else 112) + 14 * 8
    dotnet = len(head) >= directory + 4 and struct.unpack_from("<I", head, directory)[0] != 0
    return "a .NET assembly compiled for one machine" if dotnet and machine != _IL_ONLY else ""


def _pe_offset(head: bytes) -> int:
    """Where the PE header is; 0 when the file is none."""
    if head[:2] != b"MZ" or len(head) < 64:
        return 0
    at: int = struct.unpack_from("<I", head, 60)[0]
    return at if head[at : at + 4] == b"PE\0\0" and len(head) >= at + 26 else 0


def by_text(path: str, text: bytes) -> str:
    """What a whole small text says: a wheel's tags, or that of all architectures it knows one only.

    A text that lists several was written for all of them; one that names a single one was made on it.
    """
    if _WHEEL.search(path):
        native = [tag[0].decode(errors="replace") for tag in _TAG.finditer(text) if tag[3] != b"any"]
        return f"a wheel for one platform ({native[0].removeprefix('Tag:').strip()})" if native else ""
    if b"\0" in text or _AUTHORED.match(path):
        return ""
    words = {match[0].lower().decode() for match in _IN_TEXT.finditer(text)}
    if len({_ARCHITECTURE[word] for word in words}) != 1:
        return ""
    return f"its text states one architecture: {min(words)}"
