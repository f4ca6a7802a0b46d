"""The one table of architectures, and the platform strings made of it.

Sources: OCI image-spec `image-index.md` (platform strings, Go's GOOS/GOARCH), `/usr/include/elf.h` (machine numbers),
Debian's `dpkg-architecture -L` (names and triplets), `Documentation/admin-guide/binfmt-misc.rst` (magic and mask),
`rustc --print target-list`, Meson's reference tables ("CPU families").
Every other room takes its knowledge of an architecture from here.
"""

from __future__ import annotations

import difflib
import platform as _host
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from polyarch.errors import InputError

_ELF_MAGIC = b"\x7fELF"
_ET_EXEC = 2


@dataclass(frozen=True, slots=True)
class Arch:
    """One row: how each part of the world names one architecture."""

    architecture: str
    variant: str
    uname: str
    triplet: str
    debian: str
    elf_machine: int
    elf_class: Literal[32, 64]
    byteorder: Literal["little", "big"]
    qemu: str
    loader: str
    rust: str
    meson: str

    @property
    def platform(self) -> Platform:
        """The OCI platform of this row."""
        return Platform("linux", self.architecture, self.variant)

    @property
    def gnu_type(self) -> str:
        """What GNU tools call it (DEB_HOST_GNU_TYPE): the triplet of libraries' folders, but for x86 of 32 bits."""
        return "i686-linux-gnu" if self.triplet == "i386-linux-gnu" else self.triplet

    @property
    def binfmt_magic(self) -> bytes:
        """The first 20 bytes of an executable of this architecture (e_ident, e_type, e_machine)."""
        ident = _ELF_MAGIC + bytes([self.elf_class // 32, 1 if self.byteorder == "little" else 2, 1]) + bytes(9)
        return ident + _ET_EXEC.to_bytes(2, self.byteorder) + self.elf_machine.to_bytes(2, self.byteorder)

    @property
    def binfmt_mask(self) -> bytes:
        """Which bits of the magic count: any OS ABI, and ET_EXEC as well as ET_DYN (2 and 3)."""
        e_type = 0xFFFE.to_bytes(2, self.byteorder)
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + e_type + b"\xff\xff"


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An OCI platform, normalised as containerd does (`linux/arm64/v8` is `linux/arm64`)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def slug(self) -> str:
        """The platform as a part of a file name: `linux-arm-v7`."""
        return str(self).replace("/", "-")


# architecture, variant, uname, triplet, debian, EM_*, class, byteorder, qemu, loader, Rust's target, Meson's CPU family
_TABLE: tuple[Arch, ...] = (
    Arch(
        "amd64", "", "x86_64", "x86_64-linux-gnu", "amd64", 62, 64, "little", "x86_64",
        "/lib64/ld-linux-x86-64.so.2", "x86_64-unknown-linux-gnu", "x86_64",
    ),
    Arch(
        "arm64", "", "aarch64", "aarch64-linux-gnu", "arm64", 183, 64, "little", "aarch64",
        "/lib/ld-linux-aarch64.so.1", "aarch64-unknown-linux-gnu", "aarch64",
    ),
    Arch(
        "s390x", "", "s390x", "s390x-linux-gnu", "s390x", 22, 64, "big", "s390x",
        "/lib/ld64.so.1", "s390x-unknown-linux-gnu", "s390x",
    ),
    Arch(
        "ppc64le", "", "ppc64le", "powerpc64le-linux-gnu", "ppc64el", 21, 64, "little", "ppc64le",
        "/lib64/ld64.so.2", "powerpc64le-unknown-linux-gnu", "ppc64",
    ),
    Arch(
        "riscv64", "", "riscv64", "riscv64-linux-gnu", "riscv64", 243, 64, "little", "riscv64",
        "/lib/ld-linux-riscv64-lp64d.so.1", "riscv64gc-unknown-linux-gnu", "riscv64",
    ),
    Arch(
        "arm", "v7", "armv7l", "arm-linux-gnueabihf", "armhf", 40, 32, "little", "arm",
        "/lib/ld-linux-armhf.so.3", "armv7-unknown-linux-gnueabihf", "arm",
    ),
    Arch(
        "arm", "v6", "armv6l", "arm-linux-gnueabihf", "armhf", 40, 32, "little", "arm",
        "/lib/ld-linux-armhf.so.3", "arm-unknown-linux-gnueabihf", "arm",
    ),
    Arch(
        "arm", "v5", "armv5tel", "arm-linux-gnueabi", "armel", 40, 32, "little", "arm",
        "/lib/ld-linux.so.3", "armv5te-unknown-linux-gnueabi", "arm",
    ),
    Arch(
        "386", "", "i686", "i386-linux-gnu", "i386", 3, 32, "little", "i386",
        "/lib/ld-linux.so.2", "i686-unknown-linux-gnu", "x86",
    ),
    Arch(
        "mips64le", "", "mips64", "mips64el-linux-gnuabi64", "mips64el", 8, 64, "little", "mips64el",
        "/lib64/ld.so.1", "mips64el-unknown-linux-gnuabi64", "mips64",
    ),
    Arch(
        "loong64", "", "loongarch64", "loongarch64-linux-gnu", "loong64", 258, 64, "little", "loongarch64",
        "/lib64/ld-linux-loongarch-lp64d.so.1", "loongarch64-unknown-linux-gnu", "loongarch64",
    ),
)  # fmt: skip

ARCHES: dict[Platform, Arch] = {arch.platform: arch for arch in _TABLE}
_ARCHITECTURES = frozenset(arch.architecture for arch in _TABLE)

# What people write -> what the OCI calls it (containerd's `platforms/database.go`).
_SYNONYMS = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm/v7",
    "armv7l": "arm/v7",
    "armel": "arm/v6",
    "powerpc64le": "ppc64le",
    "ppc64el": "ppc64le",
    "mips64el": "mips64le",
    "loongarch64": "loong64",
}
_DEFAULT_VARIANTS = {
    ("amd64", "v1"): "",
    ("arm64", "v8"): "",
    ("arm64", "8"): "",
    ("arm", ""): "v7",
    ("arm", "7"): "v7",
    ("arm", "6"): "v6",
    ("arm", "5"): "v5",
}


def parse_platform(text: str) -> Platform:
    """Read `linux/arm64`, `linux/arm/v7`, or a bare architecture such as `aarch64`.

    Raises `InputError` naming the nearest known platforms when this one is not in the table.
    """
    parts = text.strip().lower().split("/")
    if len(parts) == 1 or parts[0] in _ARCHITECTURES:
        parts.insert(0, "linux")
    parts[1:2] = _SYNONYMS.get(parts[1], parts[1]).split("/")
    found = normalise(parts[0], parts[1], parts[2] if len(parts) > 2 else "")
    if found not in ARCHES or len(parts) > 3:
        raise InputError(
            f"unknown platform {text!r}",
            detail=f"known platforms: {', '.join(map(str, ARCHES))}",
            hint=_nearest(str(found)),
        )
    return found


def parse_platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Read repeated and comma-separated `--platform` values; order kept, duplicates dropped."""
    names = [name for text in texts for name in text.split(",") if name.strip()]
    return tuple(dict.fromkeys(parse_platform(name) for name in names))


def normalise(os: str, architecture: str, variant: str = "") -> Platform:
    """A platform as an image states it, with default variants dropped or filled in; never refuses."""
    return Platform(os, architecture, _DEFAULT_VARIANTS.get((architecture, variant), variant))


def host_platform() -> Platform:
    """The platform of the running kernel; raises `InputError` on one that the table does not know."""
    return parse_platform(_host.machine())


def by_elf(machine: int, elf_class: int, byteorder: str) -> tuple[Arch, ...]:
    """All rows whose programs carry this ELF header (variants of arm share one)."""
    return tuple(a for a in _TABLE if (a.elf_machine, a.elf_class, a.byteorder) == (machine, elf_class, byteorder))


def by_debian(name: str) -> Arch | None:
    """The first row that Debian calls `name`."""
    return next((arch for arch in _TABLE if arch.debian == name), None)


def _nearest(text: str) -> str:
    close = difflib.get_close_matches(text, [str(p) for p in ARCHES], n=2, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else "see `polyarch doctor` for what this machine can build"
