"""Whether the programs in an image are for its platform, and how much it matters where they lie.

The psABIs' `e_flags`: Arm (EF_ARM_ABI_FLOAT_*), RISC-V (EF_RISCV_FLOAT_ABI), LoongArch (EF_LOONGARCH_ABI_MODIFIER),
Power (EF_PPC64_ABI).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from polyarch.arch import ARCHES, Arch, Platform, by_elf
from polyarch.verify.codes import Severity
from polyarch.verify.facts import ElfKind

# Machines whose code a processor of no platform executes: EM_CUDA, EM_AMDGPU, EM_BPF. They are data for a driver.
_DEVICE_CODE: Final = frozenset((190, 224, 247))
_NONE: Final = frozenset((0,))
_MASKS: Final[dict[str, tuple[int, dict[int, str]]]] = {
    "riscv64": (0x6, {0: "soft", 2: "single", 4: "double", 6: "quad"}),
    "loong64": (0x7, {1: "soft", 2: "single", 3: "double"}),
    "arm": (0x600, {0x200: "soft", 0x400: "hard"}),
}
_FLOATS: Final = {"riscv64": "double", "loong64": "double"}
_USR: Final = re.compile(r"^(bin|sbin|lib|lib32|lib64|libx32)(?=/|$)")
_LOADER_DIRS: Final = frozenset(("usr/lib", "usr/lib64", "usr/lib32", "usr/local/lib", "usr/local/lib64"))
_TRIPLETS: Final = frozenset(arch.triplet for arch in ARCHES.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one kind of ELF file on one platform."""

    code: str
    message: str
    compatible: bool = False


class Zones:
    """How much a foreign file matters where it lies: an error where the image runs it, a warning elsewhere."""

    def __init__(
        self, arch: Arch, search_path: Collection[str], closure: Collection[str], libraries: Collection[str] = ()
    ) -> None:
        self._programs = frozenset(merged(folder.strip("/")) for folder in search_path if folder.startswith("/"))
        self._closure = frozenset(merged(path) for path in closure)
        folders = {merged(folder.strip("/")) for folder in libraries if folder.startswith("/")}
        self._folders = frozenset({path.rpartition("/")[0] for path in self._closure} | folders) - {""}
        self._own = f"/{arch.triplet}"

    def severity(self, path: str) -> Severity:
        """Of a foreign ELF file at `path`, relative to the root."""
        where = merged(path)
        folder = where.rpartition("/")[0]
        if where in self._closure or folder in self._programs or folder in self._folders or folder in _LOADER_DIRS:
            return "error"
        return (
            "error"
            if any(f"{place}{self._own}/" in f"{folder}/" for place in ("usr/lib", "usr/local/lib"))
            else "warning"
        )


def merged(path: str) -> str:
    """The path in a merged /usr, so that `bin/sh` and `usr/bin/sh` are one."""
    return _USR.sub(r"usr/\1", path)


def foreign_folder(path: str, arch: Arch) -> str:
    """The multiarch folder of another architecture that `path` is in, or ""."""
    parts = merged(path).split("/", 3)
    if (
        len(parts) > 3
        and parts[0] == "usr"
        and parts[1] == "lib"
        and parts[2] in _TRIPLETS
        and parts[2] != arch.triplet
    ):
        return f"usr/lib/{parts[2]}"
    return ""


@lru_cache(maxsize=64)
def foreign_loaders(arch: Arch) -> dict[str, Arch]:
    """Where the loaders of all other architectures lie (relative to a root with a merged /usr), and whose they are."""
    own = {merged(path) for path in loaders(arch)}
    others = [other for other in ARCHES.values() if other.architecture != arch.architecture]
    return {where: other for other in others for path in loaders(other) if (where := merged(path)) not in own}


def loaders(arch: Arch) -> tuple[str, str]:
    """The dynamic loaders of glibc and of musl, relative to the root."""
    cpu = "armhf" if arch.triplet.endswith("hf") else arch.triplet.partition("-")[0]
    return arch.loader.lstrip("/"), f"lib/ld-musl-{cpu}.so.1"


@lru_cache(maxsize=4096)
def judge_kind(kind: ElfKind, platform: Platform, arch: Arch) -> Verdict | None:
    """What is wrong with such a file on this platform, or None."""
    if kind.machine in _DEVICE_CODE or kind.machine in _NONE:
        return None
    rows = by_elf(kind.machine, kind.elf_class, kind.byteorder)
    if not any(row.architecture == arch.architecture for row in rows):
        return _foreign(kind, rows, platform, arch)
    return _float(kind, arch, platform) or _abi(kind, arch, platform) or _level(kind, arch, platform)


def _foreign(kind: ElfKind, rows: tuple[Arch, ...], platform: Platform, arch: Arch) -> Verdict:
    what = f"for {rows[0].platform.os}/{rows[0].architecture}" if rows else f"for machine {kind.machine}"
    if kind.machine != arch.elf_machine:
        # Every amd64 kernel of a distribution runs i386 programs; what arm64 processors run of arm is their own affair.
        compatible = arch.architecture == "amd64" and any(row.architecture == "386" for row in rows)
        return Verdict("elf-machine", f"a file {what} in an image for {platform}", compatible)
    if kind.elf_class != arch.elf_class:
        return Verdict("elf-class", f"a {kind.elf_class}-bit file in an image for {platform}")
    return Verdict("elf-byteorder", f"a {kind.byteorder}-endian file in an image for {platform}")


def _float(kind: ElfKind, arch: Arch, platform: Platform) -> Verdict | None:
    if arch.architecture not in _MASKS or kind.static:
        # A static program calls no library, so its float ABI is its own affair.
        return None
    mask, names = _MASKS[arch.architecture]
    stated = names.get(kind.flags & mask)
    wanted = _FLOATS.get(arch.architecture) or ("soft" if arch.triplet.endswith("gnueabi") else "hard")
    if stated is None or stated == wanted:
        return None
    return Verdict("elf-float-abi", f"a file of the {stated}-float ABI in an image for {platform} ({wanted})")


def _abi(kind: ElfKind, arch: Arch, platform: Platform) -> Verdict | None:
    if arch.architecture == "ppc64le" and kind.flags & 3 == 1:
        return Verdict("elf-abi", f"a file of ELF ABI version 1 in an image for {platform} (version 2)")
    return None


def _level(kind: ElfKind, arch: Arch, platform: Platform) -> Verdict | None:
    variant = platform.variant or arch.variant
    promised = int(variant[1:]) if re.fullmatch(r"v\d", variant) else 1
    if arch.architecture not in ("amd64", "arm") or kind.level <= promised:
        return None
    name = f"x86-64-v{kind.level}" if arch.architecture == "amd64" else f"ARMv{kind.level}"
    return Verdict("elf-isa", f"a file that needs {name} in an image for {platform}")
