"""Only what can really work as an interpreter counts as an emulator, and each version's faults are known."""

import os
import shutil
from pathlib import Path

import pytest

from polyarch.arch import ARCHES, parse_platform
from polyarch.emulation import emulators
from polyarch.emulation.emulators import Linkage
from polyarch.errors import InputError
from polyarch.facts.programs import smallest

S390X = parse_platform("linux/s390x")
ARM64 = ARCHES[parse_platform("linux/arm64")]
STATIC_PIE = Linkage(static=True, pie=True)
STATIC = Linkage(static=True, pie=False)


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", (7, 2, 22)),
        ("qemu-s390x version 10.0.2", (10, 0, 2)),
        ("usage: something else", ()),
    ],
)
def test_versions_are_read(said: str, version: tuple[int, ...]) -> None:
    assert emulators.parse_version(said) == version


@pytest.mark.parametrize(
    ("version", "link", "kernel", "word"),
    [
        ((7, 2, 0), STATIC, (6, 8, 0), "at random"),
        ((5, 2, 0), STATIC_PIE, (5, 10), "Unable to reserve"),
        ((4, 2, 1), STATIC_PIE, (5, 10), "ldconfig"),
        ((5, 0, 0), STATIC_PIE, (5, 10), "flag P"),
    ],
)
def test_faulty_versions_are_known(version: tuple[int, ...], link: Linkage, kernel: tuple[int, ...], word: str) -> None:
    assert any(word in fault.what for fault in emulators.known_faults(ARM64, version, link, kernel))


@pytest.mark.parametrize(
    ("version", "link", "kernel"),
    [
        ((7, 2, 22), STATIC_PIE, (6, 18)),
        ((9, 2, 2), STATIC, (6, 18)),
        ((7, 2, 0), STATIC, (5, 15)),
        ((), STATIC, (6, 18)),
    ],
    ids=["debian links 7.2 static-pie", "8.1 and newer cope", "older kernels", "unknown version"],
)
def test_sound_versions_are_not_accused(version: tuple[int, ...], link: Linkage, kernel: tuple[int, ...]) -> None:
    assert emulators.known_faults(ARM64, version, link, kernel) == ()


def test_nodes_hang_on_arm_is_known_and_not_general() -> None:
    faults = emulators.known_faults(ARCHES[parse_platform("linux/arm/v7")], (9, 0, 0), STATIC_PIE, (6, 18))
    assert [fault.general for fault in faults] == [False]


def test_a_dynamically_linked_emulator_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyarch.run.environment", lambda: {"PATH": str(tmp_path)})
    shutil.copy(Path("/bin/true").resolve(), tmp_path / "qemu-s390x")
    assert emulators.locate(S390X) is None
    static = put(tmp_path, "qemu-s390x", smallest(parse_platform("amd64")))
    assert emulators.locate(S390X) == static
    preferred = put(tmp_path, "qemu-s390x-static", smallest(parse_platform("amd64")))
    assert emulators.locate(S390X) == preferred


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = put(tmp_path, "mine", smallest(parse_platform("amd64")))
    monkeypatch.setenv("POLYARCH_QEMU_S390X", str(mine))
    assert emulators.locate(S390X) == mine


@pytest.mark.parametrize("path", ["/absent", "/etc/passwd", str(Path("/bin/true").resolve())])
def test_a_variable_that_names_no_static_program_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_QEMU_S390X", path)
    with pytest.raises(InputError, match="POLYARCH_QEMU_S390X"):
        emulators.find(S390X)


def test_linkage_tells_static_from_dynamic(tmp_path: Path) -> None:
    assert emulators.linkage(put(tmp_path, "s", smallest(S390X))) == STATIC
    dynamic = emulators.linkage(Path("/bin/true").resolve())
    assert dynamic is not None
    assert not dynamic.static
    assert emulators.linkage(Path(__file__)) is None


def test_the_kernels_version_is_numbers() -> None:
    assert emulators.kernel_version() >= (3,)
    assert os.uname().release.startswith(".".join(map(str, emulators.kernel_version()[:2])))
