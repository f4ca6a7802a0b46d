"""A program whose compiled-in architecture is exchanged says the other one, wherever the name has room."""

import shutil
import subprocess
from pathlib import Path

import pytest

from polyarch.emulation.twins.stamp import stamped

SOURCE = """
#include <stdio.h>
static struct { int kind; const char *name; } table[] = {{1, "amd64"}, {2, "other"}};
int main(int argc, char **argv) { return printf("%s %s\\n", table[argc - 1].name, table[argc].name) < 0; }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A position-independent program with a build id, as distributions make them."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("stamp")
    (folder / "says.c").write_text(SOURCE)
    options = ["-O2", "-fPIE", "-pie", "-Wl,--build-id"]
    subprocess.run([compiler, *options, "-o", folder / "says", folder / "says.c"], check=True)
    return (folder / "says").read_bytes()


@pytest.mark.parametrize("name", ["arm64", "s390x", "ppc64el", "riscv64"])
def test_a_program_says_the_other_name(program: bytes, tmp_path: Path, name: str) -> None:
    made = stamped(program, "amd64", name)
    assert made is not None
    assert len(made) == len(program)
    (tmp_path / "says").write_bytes(made)
    (tmp_path / "says").chmod(0o755)
    said = subprocess.run([tmp_path / "says"], capture_output=True, text=True, check=True)
    assert said.stdout == f"{name} other\n"


def test_a_name_that_is_not_there_or_has_no_room_is_not_exchanged(program: bytes) -> None:
    assert stamped(program, "x32", "arm64") is None
    assert stamped(program + b"\0amd64\0", "amd64", "arm64") is None
    assert stamped(program, "amd64", "x" * 40) is None
    assert stamped(b"no program \0amd64\0", "amd64", "ppc64el") is None
