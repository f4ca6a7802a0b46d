"""The dispatcher as an executable file: out of the package, or compiled once into the cache.

A wheel brings it (`hatch_build.py` calls `command` as well); an editable install has the source only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from polyarch import places, run
from polyarch.arch import host_platform
from polyarch.errors import BuildError, HostError

# Where the table is mounted. In every root that has a /proc, and leaves no trace in an image: polyarch's namespace
# keeps its real binfmt_misc elsewhere, and buildah binds /proc into a root with everything that is mounted in it.
TABLE = Path("/proc/sys/fs/binfmt_misc")
SOURCE = Path(__file__).with_name("dispatcher.c")
_FLAGS = (
    "-std=gnu11", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
)  # fmt: skip
_HOSTS = {"amd64": _FLAGS, "arm64": tuple(flag for flag in _FLAGS if not flag.startswith("-fcf"))}
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


def command(compiler: str, architecture: str, output: Path, table: Path = TABLE) -> list[str]:
    """How the dispatcher is compiled for a host of this architecture, with the table at this place."""
    return [compiler, *_HOSTS[architecture], f'-DTABLE="{table}"', "-o", str(output), str(SOURCE)]


def _compiled(architecture: str) -> Path:
    key = hashlib.sha256(SOURCE.read_bytes() + repr(command("", architecture, Path())).encode()).hexdigest()[:16]
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
