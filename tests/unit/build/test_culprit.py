"""What shells, runtimes and emulators say of a program for another processor, and what its header says."""

import pytest

from polyarch.arch import ARCHES, parse_platform
from polyarch.build.culprit import Culprit, blamed, identified

AMD64, ARM64 = parse_platform("linux/amd64"), parse_platform("linux/arm64")


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("/bin/sh: 1: /out/app: Exec format error", "/out/app"),
        ("/bin/sh: 1: ./app: Exec format error\nmore", "./app"),
        ("/bin/bash: line 1: /out/app: cannot execute binary file: Exec format error", "/out/app"),
        ("error running container: exec /out/app: exec format error", "/out/app"),
        ("crun: exec container process `/out/app`: Exec format error", "/out/app"),
        ("container_linux.go:380: starting container process: exec format error", ""),
    ],
)
def test_the_program_is_named_as_the_shell_names_it(output: str, path: str) -> None:
    found = blamed(output, AMD64)
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize("name", ["qemu-aarch64-static", "183-2-1"])
def test_an_emulator_without_its_loader_tells_the_platform(name: str) -> None:
    output = f"{name}: Could not open '/lib/ld-linux-aarch64.so.1': No such file or directory"
    assert blamed(output, AMD64) == Culprit("", (ARM64,))
    assert blamed(output, ARM64) is None


def test_other_failures_blame_nobody() -> None:
    assert blamed("make: *** [all] Error 1\nformat error", AMD64) is None


def test_the_header_tells_the_platform() -> None:
    head = ARCHES[ARM64].binfmt_magic
    assert identified("/app", head) == Culprit("/app", (ARM64,))
    assert identified("/app", b"echo hello, I am a script\n") == Culprit("/app", text=True)
    assert identified("/app", b"") == Culprit("/app", text=True)
