"""Handlers in the host's own table: what is installed works, and is undone exactly.

Needs root's rights and a host whose table is not in use, for these tests mount it and fill it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyarch import run
from polyarch.arch import ARCHES, parse_platform, parse_platforms
from polyarch.emulation import binfmt, emulators
from polyarch.emulation.namespace import namespace
from polyarch.errors import HostError
from polyarch.facts.programs import ANSWER, executable, program, write_all

ARM64, S390X = parse_platforms(["linux/arm64,linux/s390x"])

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="changes the host's table of binfmt_misc"),
    pytest.mark.skipif(binfmt.mounted(), reason="the host's table of binfmt_misc is in use"),
    pytest.mark.skipif(emulators.locate(ARM64) is None, reason="no emulator is installed"),
]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Where install notes what it did; whatever a test leaves in the host's table is taken out."""
    yield tmp_path / "state"
    if binfmt.mounted():
        for entry in binfmt.status():
            binfmt.unregister(entry.name)
        run.capture(["umount", str(binfmt.MOUNT)])


def answers(path: Path, root: str = "/") -> bool:
    argv = ["chroot", root, f"/{path.relative_to(root)}"] if root != "/" else [str(path)]
    try:
        return run.capture(argv, check=False).returncode == ANSWER
    except OSError:
        return False


def test_installed_platforms_run_even_in_an_empty_root_and_removal_leaves_nothing(tmp_path: Path, state: Path) -> None:
    write_all(tmp_path)
    alien = program(tmp_path, ARM64)
    assert not answers(alien)
    changes = binfmt.install([ARM64, S390X], state=state)
    assert changes.mounted
    assert changes.registered == ("polyarch-aarch64", "polyarch-s390x")
    assert {entry.flags for entry in binfmt.status()} == {"PF"}
    assert answers(alien)
    assert answers(alien, root=str(tmp_path))
    changes = binfmt.remove(state=state)
    assert changes.unmounted
    assert changes.removed == ("polyarch-aarch64", "polyarch-s390x")
    assert not answers(alien)
    assert not binfmt.mounted()
    assert not state.exists()


def test_installing_twice_changes_nothing(state: Path) -> None:
    assert binfmt.install([ARM64], state=state)
    again = binfmt.install([ARM64], state=state)
    assert not again
    assert again.unchanged == ("polyarch-aarch64",)


def test_variants_of_arm_share_one_handler(state: Path) -> None:
    changes = binfmt.install(parse_platforms(["linux/arm/v7,linux/arm/v6"]), state=state)
    assert (changes.registered, changes.unchanged) == (("polyarch-arm",), ())


def test_credentials_replace_the_safe_handler(state: Path) -> None:
    binfmt.install([ARM64], state=state)
    changes = binfmt.install([ARM64], credentials=True, state=state)
    assert changes.registered == ("polyarch-aarch64",)
    assert [entry.flags for entry in binfmt.status()] == ["POCF"]


def test_removing_one_platform_keeps_the_others_and_the_mount(state: Path) -> None:
    binfmt.install([ARM64, S390X], state=state)
    changes = binfmt.remove([ARM64], state=state)
    assert (changes.removed, changes.unmounted) == (("polyarch-aarch64",), False)
    assert [entry.name for entry in binfmt.status()] == ["polyarch-s390x"]


def test_a_handler_of_someone_else_is_left_alone_in_both_directions(state: Path) -> None:
    run.capture(["mount", "-t", "binfmt_misc", "binfmt_misc", str(binfmt.MOUNT)])
    emulator = emulators.find(ARM64)
    assert emulator
    debians = binfmt.handler(ARCHES[ARM64], emulator.path, "OPF", "qemu-aarch64")
    binfmt.register(debians)
    changes = binfmt.install([ARM64], state=state)
    assert not changes
    assert changes.served_by_others == ((ARM64, "qemu-aarch64"),)
    assert not binfmt.remove(state=state)
    assert binfmt.status() == [debians]


def test_a_handler_that_fails_inside_roots_is_not_enough(state: Path) -> None:
    run.capture(["mount", "-t", "binfmt_misc", "binfmt_misc", str(binfmt.MOUNT)])
    emulator = emulators.find(ARM64)
    assert emulator
    plain = binfmt.handler(ARCHES[ARM64], emulator.path, "P", "qemu-aarch64")
    binfmt.register(plain)
    assert binfmt.install([ARM64], state=state).registered == ("polyarch-aarch64",)
    binfmt.remove(state=state)
    assert binfmt.status() == [plain]


def test_without_an_emulator_nothing_is_touched(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyarch.emulation.emulators.find", lambda _platform: None)
    with pytest.raises(HostError) as caught:
        binfmt.install([ARM64], state=state)
    assert caught.value.hint == "apt-get install qemu-user-static"
    assert not binfmt.mounted()


def test_the_hosts_own_platform_needs_no_handler(state: Path) -> None:
    assert binfmt.install([parse_platform(os.uname().machine)], state=state).registered == ()


# write(1, argv[0], strlen(argv[0])); exit(42) for arm64.
_PRINT_ARGV0 = bytes.fromhex(
    "e10740f9 020080d2 23686238 63000034 42040091 fdffff17 200080d2 080880d2 010000d4 400580d2 a80b80d2 010000d4"
)


@pytest.mark.parametrize(("flags", "seen"), [("PF", "another-name"), ("F", "program")])
def test_flag_p_is_what_keeps_argv0(flags: str, seen: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(executable(ARM64, _PRINT_ARGV0))
    path.chmod(0o755)
    emulator = emulators.find(ARM64)
    assert emulator
    with namespace([binfmt.registration_line(ARCHES[ARM64], emulator.path, flags)]) as inside:
        done = run.capture(inside.enter(["/bin/bash", "-c", f"exec -a another-name {path}"]), check=False)
    assert done.returncode == ANSWER
    assert done.stdout.endswith(seen)
