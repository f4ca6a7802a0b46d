"""The smallest program of each architecture: a static ELF file that exits with 42 and needs nothing but a kernel.

Trying is better than reading version numbers: whoever can run one of these can run programs of that architecture.
Sources: elf(5), `linux/arch/*/include/asm/unistd.h` (number of exit), syscall(2) (its registers).
"""

from __future__ import annotations

import struct
from pathlib import Path

from polyarch.arch import ARCHES, Platform

ANSWER = 42
_BASE = 0x400000
_PAGE = 0x10000  # the largest page size of these architectures

# qemu's name of the architecture -> exit(42), as bytes in memory.
_CODE = {
    "x86_64": "bf2a000000 b83c000000 0f05",  # mov edi,42; mov eax,60; syscall
    "i386": "bb2a000000 b801000000 cd80",  # mov ebx,42; mov eax,1; int 0x80
    "aarch64": "400580d2 a80b80d2 010000d4",  # mov x0,42; mov x8,93; svc 0
    "arm": "2a00a0e3 0170a0e3 000000ef",  # mov r0,42; mov r7,1; svc 0
    "riscv64": "1305a002 9308d005 73000000",  # li a0,42; li a7,93; ecall
    "s390x": "a729002a 0a01",  # lghi r2,42; svc 1
    "ppc64le": "01000038 2a006038 02000044",  # li r0,1; li r3,42; sc
    "mips64el": "c2130224 2a000424 0c000000",  # li v0,5058; li a0,42; syscall
    "loongarch64": "04a88003 0b748103 00002b00",  # li a0,42; li a7,93; syscall
}
# e_flags that the loader insists on: ELFv2, MIPS64r2, EABI5, LP64D.
_E_FLAGS = {"ppc64le": 2, "mips64el": 0x80000000, "arm": 0x05000000, "loongarch64": 0x43}


def smallest(platform: Platform) -> bytes:
    """An ELF executable for `platform` that exits with `ANSWER`."""
    return executable(platform, bytes.fromhex(_CODE[ARCHES[platform].qemu]))


def executable(platform: Platform, code: bytes) -> bytes:
    """An ELF executable for `platform` of one segment, which begins to run at the first byte of `code`."""
    arch = ARCHES[platform]
    wide = arch.elf_class == 64
    order = "<" if arch.byteorder == "little" else ">"
    head, segment = (64, 56) if wide else (52, 32)
    entry, size = _BASE + head + segment, head + segment + len(code)
    word = "Q" if wide else "I"
    header = arch.binfmt_magic + struct.pack(
        f"{order}I{word * 3}I6H", 1, entry, head, 0, _E_FLAGS.get(arch.qemu, 0), head, segment, 1, 0, 0, 0
    )
    load, read_execute = 1, 5
    fields = (load, read_execute, 0, _BASE, _BASE, size, size, _PAGE)
    if not wide:  # a 32-bit program header keeps its flags behind the sizes
        fields = (load, 0, _BASE, _BASE, size, size, read_execute, _PAGE)
    return header + struct.pack(f"{order}II6Q" if wide else f"{order}8I", *fields) + code


def write_all(folder: Path) -> None:
    """The smallest program of every architecture, executable, into `folder`."""
    for platform in ARCHES:
        path = program(folder, platform)
        path.write_bytes(smallest(platform))
        path.chmod(0o755)


def program(folder: Path, platform: Platform) -> Path:
    """Where `write_all` puts the program of `platform`."""
    return folder / f"smallest-{platform.slug}"
