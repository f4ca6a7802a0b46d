"""The dispatcher as an executable file: out of the package, or compiled once into the cache.

A wheel brings it (`hatch_build.py` calls `command` as well); an editable install has the source only.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from polyarch import places, run
from polyarch.arch import host_platform
from polyarch.errors import BuildError, HostError

# Where the table is mounted. In every root that has a /proc, and leaves no trace in an image: polyarch's namespace
# keeps its real binfmt_misc elsewhere, and buildah binds /proc into a root with everything that is mounted in it.
TABLE = Path("/proc/sys/fs/binfmt_misc")
SOURCE = Path(__file__).with_name("dispatcher.c")
_HEADER = SOURCE.with_name("bare.h")
_EMBEDDED = 0x20000000  # as in dispatcher.c
_PAGE = 1 << 16  # the largest page of the hosts
_FLAGS = (
    "-std=gnu11", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
)  # fmt: skip
_HOSTS = {"amd64": _FLAGS, "arm64": tuple(flag for flag in _FLAGS if not flag.startswith("-fcf"))}
_PT_LOAD, _PT_GNU_STACK, _READ = 1, 0x6474E551, 4  # elf.h
_COMPILERS = ("cc", "gcc", "clang")


def find() -> Path:
    """The dispatcher for this machine.

    Raises `HostError` on a processor that it is not written for, and without a C compiler when the package brings none.
    """
    architecture = host_platform().architecture
    if architecture not in _HOSTS:
        raise HostError(
            f"builds are not accelerated on {architecture}", hint="amd64 and arm64 machines can: build there"
        )
    shipped = SOURCE.with_name(f"dispatcher-{architecture}")
    return shipped if os.access(shipped, os.X_OK) else _compiled(architecture)


def with_emulator(dispatcher: Path, emulator: Path) -> Path:
    """The dispatcher with an emulator appended, mapped at a fixed address: it works where its table is not visible.

    The entry PT_GNU_STACK of its program headers becomes the PT_LOAD (System V gABI, "Program Header").
    """
    said, qemu = bytearray(dispatcher.read_bytes()), emulator.read_bytes()
    key = hashlib.sha256(said + qemu).hexdigest()[:16]
    program = places.cache() / "dispatcher" / f"{emulator.name}-{key}"
    if program.exists():
        return program
    table, size, count = *struct.unpack_from("<Q", said, 32), *struct.unpack_from("<HH", said, 54)
    for at in range(table, table + size * count, size):
        if struct.unpack_from("<I", said, at)[0] == _PT_GNU_STACK:
            said += bytes(-len(said) % _PAGE)
            numbers = (len(said), _EMBEDDED, _EMBEDDED, len(qemu), len(qemu), _PAGE)
            struct.pack_into("<II6Q", said, at, _PT_LOAD, _READ, *numbers)
    program.parent.mkdir(parents=True, exist_ok=True)
    beside = program.with_suffix(f".{os.getpid()}")
    beside.write_bytes(said + qemu)
    beside.chmod(0o755)
    beside.rename(program)
    return program


def command(compiler: str, architecture: str, output: Path, table: Path = TABLE) -> list[str]:
    """How the dispatcher is compiled for a host of this architecture, with the table at this place."""
    return [compiler, *_HOSTS[architecture], f'-DTABLE="{table}"', "-o", str(output), str(SOURCE)]


def _compiled(architecture: str) -> Path:
    key = hashlib.sha256(
        SOURCE.read_bytes() + _HEADER.read_bytes() + repr(command("", architecture, Path())).encode()
    ).hexdigest()[:16]
    program = places.cache() / "dispatcher" / f"{architecture}-{key}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        beside = program.with_suffix(f".{os.getpid()}")
        _compile(command(_compiler(_COMPILERS), architecture, beside))
        beside.rename(program)
    return program


def _compiler(names: Sequence[str]) -> str:
    for name in names:
        if found := run.which(name):
            return str(found)
    raise HostError(
        "there is no C compiler to make the dispatcher with", hint="apt-get install gcc libc6-dev linux-libc-dev"
    )


def _compile(argv: Sequence[str]) -> None:
    try:
        run.capture(argv)
    except BuildError as error:
        raise HostError(
            "the dispatcher cannot be compiled",
            detail=error.detail,
            hint="apt-get install gcc libc6-dev linux-libc-dev",
        ) from error
