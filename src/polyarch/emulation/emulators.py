"""User-mode emulators: which there are, which version, and what is known to be wrong with them.

A handler that is registered with the flag F keeps its interpreter open, so that it also works inside a container's
root; but only a *static* interpreter can run there (its dynamic loader would be looked up in the foreign root). Hence
only statically linked emulators count here.
"""

from __future__ import annotations

import os
import platform as _host
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from polyarch import run
from polyarch.arch import ARCHES, Arch, Platform
from polyarch.errors import InputError

PACKAGE = "qemu-user-static"
_VERSION = re.compile(r"version (\d+(?:\.\d+)+)")
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is known to go wrong: `what` a user sees, `source` where it is documented, `fix` what helps.

    A `general` fault can hit every program; another one only those that `what` names.
    """

    what: str
    source: str
    fix: str
    general: bool = True


@dataclass(frozen=True, slots=True)
class Linkage:
    """How a program is linked: `static` (no PT_INTERP), `pie` (ET_DYN, loaded at a random address)."""

    static: bool
    pie: bool


@dataclass(frozen=True, slots=True)
class Emulator:
    """A statically linked program that runs programs of `platform`; `version` as in `(7, 2, 22)`, empty if unknown."""

    platform: Platform
    path: Path
    version: tuple[int, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A row of the table of faults: `applies` to version, linkage, kernel and architecture."""

    applies: Callable[[tuple[int, ...], Linkage, tuple[int, ...], Arch], bool]
    fault: Fault


_UPGRADE = f"apt-get install --only-upgrade {PACKAGE}"

_FAULTS: tuple[_Known, ...] = (
    _Known(
        # The kernel's wider randomness of brk (x86: 44c76825d6ee, Linux 6.9, carried back to 6.1 and 6.8 by
        # distributions) puts the heap of a non-PIE emulator where the guest's program goes. qemu 8.1 copes with it;
        # Debian mended 7.2 by linking it static-pie (1:7.2+dfsg-7+deb12u9), which is why linkage is asked.
        lambda version, link, kernel, _arch: version < (8, 1) and not link.pie and kernel >= (6, 1),
        Fault(
            "crashes at random (segmentation fault, often in ldconfig and in libc-bin's trigger)",
            "https://github.com/tonistiigi/binfmt/issues/215, https://bugs.debian.org/1087822",
            _UPGRADE,
        ),
    ),
    _Known(
        lambda version, _link, _kernel, _arch: version[:2] == (5, 2),
        Fault(
            "stops with `Unable to reserve … bytes of virtual address space`",
            "https://github.com/multiarch/alpine/issues/39, https://bugs.debian.org/988174",
            _UPGRADE,
        ),
    ),
    _Known(
        lambda version, _link, _kernel, arch: version < (5, 0) and arch.architecture == "arm64",
        Fault("ldconfig crashes in Debian images", "https://github.com/moby/moby/issues/43039", _UPGRADE),
    ),
    _Known(
        # linux-user reads AT_FLAGS_PRESERVE_ARGV0 since 6.0; an older one takes argv[0] for the program's path.
        lambda version, _link, _kernel, _arch: version < (6, 0),
        Fault(
            "does not know the flag P of binfmt_misc: programs are not found or see a wrong argv[0]",
            "https://wiki.qemu.org/ChangeLog/6.0",
            _UPGRADE,
        ),
    ),
    _Known(
        lambda _version, _link, _kernel, arch: arch.architecture == "arm",
        Fault(
            "Node.js 20 and newer (npm, yarn) hangs",
            "https://gitlab.com/qemu-project/qemu/-/issues/1729, https://github.com/nodejs/docker-node/issues/1798",
            "pin that stage to the build platform: FROM --platform=$BUILDPLATFORM",
            general=False,
        ),
    ),
)


def find(platform: Platform) -> Emulator | None:
    """The emulator for `platform`, or None.

    `POLYARCH_QEMU_<ARCH>` (qemu's name of the architecture, such as `POLYARCH_QEMU_AARCH64`) comes first, then
    `qemu-<arch>-static` and a static `qemu-<arch>` in PATH. Raises `InputError` when the variable names no static
    program.
    """
    path = locate(platform)
    return probe(platform, path) if path else None


def locate(platform: Platform) -> Path | None:
    """The path that `find` would take; costs no process. Raises `InputError` as `find` does."""
    arch = ARCHES[platform]
    if path := _override(arch):
        return path
    for name in (f"qemu-{arch.qemu}-static", f"qemu-{arch.qemu}"):
        path = run.which(name)
        if path and (link := linkage(path)) and link.static:
            return path
    return None


def probe(platform: Platform, path: Path) -> Emulator:
    """Ask the emulator at `path` for its version, and look up what is known to be wrong with it."""
    said = run.capture([str(path), "--version"], check=False, timeout=_PATIENCE).stdout
    version = parse_version(said)
    link = linkage(path) or Linkage(static=False, pie=False)
    return Emulator(platform, path, version, known_faults(ARCHES[platform], version, link, kernel_version()))


def parse_version(said: str) -> tuple[int, ...]:
    """`qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)` is `(7, 2, 22)`; anything else is `()`."""
    found = _VERSION.search(said)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def known_faults(arch: Arch, version: tuple[int, ...], link: Linkage, kernel: tuple[int, ...]) -> tuple[Fault, ...]:
    """What is known to go wrong with qemu `version`, linked like this, on `kernel`; nothing for an unknown version."""
    if not version:
        return ()
    return tuple(known.fault for known in _FAULTS if known.applies(version, link, kernel, arch))


def linkage(path: Path) -> Linkage | None:
    """How the program at `path` is linked (PT_INTERP, e_type); None when it is no readable ELF file."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            static = all(segment["p_type"] != "PT_INTERP" for segment in elf.iter_segments())
            return Linkage(static=static, pie=elf["e_type"] == "ET_DYN")
    except (OSError, ELFError):
        return None


def kernel_version() -> tuple[int, ...]:
    """The running kernel's version as numbers: `6.18.44-fc` is `(6, 18, 44)`."""
    found = re.match(r"\d+(?:\.\d+)*", _host.release())
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _override(arch: Arch) -> Path | None:
    variable = f"POLYARCH_QEMU_{arch.qemu.upper()}"
    value = os.environ.get(variable)
    if not value:
        return None
    path = Path(value)
    link = linkage(path)
    if link is None or not link.static or not os.access(path, os.X_OK):
        raise InputError(
            f"{variable} names no statically linked program",
            detail=f"{value} {'is dynamically linked' if link and not link.static else 'cannot be executed'}",
            hint=f"unset {variable}, or set it to a static qemu-{arch.qemu}",
        )
    return path.absolute()
