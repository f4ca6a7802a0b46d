"""Whether this user may have a user namespace with its own binfmt_misc, and if not, which of the known reasons it is.

The answer is found by trying; the reasons by reading what the kernel and the user's set-up say. Sources:
user_namespaces(7), newuidmap(1), subuid(5), `Documentation/admin-guide/binfmt-misc.rst` (Linux 6.7: "per user
namespace"), Debian's `kernel.unprivileged_userns_clone`, Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyarch import run
from polyarch.arch import ARCHES, Platform
from polyarch.emulation import binfmt, emulators
from polyarch.emulation.namespace import namespace
from polyarch.errors import PolyarchError
from polyarch.facts.model import Problem, UserNamespace
from polyarch.facts.programs import ANSWER, program

_SYSCTLS = (
    "kernel/unprivileged_userns_clone",
    "user/max_user_namespaces",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_FIRST_WITH_OWN_BINFMT = (6, 7)
_FIRST_ID, _COUNT = 100000, 65536  # as useradd(8) gives them (SUB_UID_MIN, SUB_UID_COUNT in login.defs(5))
_NO_NAMESPACE = "no user namespace for polyarch"
_NO_TABLE = "no binfmt_misc in user namespaces"
_HOST_TABLE = "sudo polyarch emulation install"
_OUTSIDE = "run polyarch outside of this container, or start it with --privileged"


@dataclass(frozen=True, slots=True)
class SetUp:
    """What decides over user namespaces; a sysctl that this kernel does not have is None.

    `free_ids` is the first subordinate id behind everybody's ranges.
    """

    user: str
    uid: int
    kernel: tuple[int, ...]
    newuidmap: bool
    subuid: bool
    subgid: bool
    unprivileged_userns_clone: int | None
    max_user_namespaces: int | None
    apparmor_restricts: int | None
    binfmt_known: bool
    free_ids: int


def files() -> tuple[Path, ...]:
    """The files whose change may change the answer."""
    programs = [path for name in ("newuidmap", "newgidmap", "nsenter") if (path := run.which(name))]
    return (*programs, Path("/etc/subuid"), Path("/etc/subgid"))


def sysctls() -> tuple[int | None, ...]:
    """`unprivileged_userns_clone`, `max_user_namespaces` and AppArmor's restriction, None where the kernel has none."""
    return tuple(map(_sysctl, _SYSCTLS))


def set_up() -> SetUp:
    """Read this machine and this user."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    clone, most, apparmor = sysctls()
    return SetUp(
        user=user,
        uid=uid,
        kernel=emulators.kernel_version(),
        newuidmap=bool(run.which("newuidmap") and run.which("newgidmap")),
        subuid=any(name in {user, str(uid)} for name, _end in _ranges("/etc/subuid")),
        subgid=any(name in {user, str(uid)} for name, _end in _ranges("/etc/subgid")),
        unprivileged_userns_clone=clone,
        max_user_namespaces=most,
        apparmor_restricts=apparmor,
        binfmt_known="binfmt_misc" in Path("/proc/filesystems").read_text(),
        free_ids=max([_FIRST_ID, *(end for file in ("/etc/subuid", "/etc/subgid") for _name, end in _ranges(file))]),
    )


def obstacles(found: SetUp) -> Iterator[Problem]:
    """The known reasons, those that forbid any user namespace first, each with its mending command."""
    if found.max_user_namespaces == 0:
        yield Problem(_NO_NAMESPACE, "user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=65536")
    if found.uid != 0:
        yield from _obstacles_of_users(found)
    if found.kernel < _FIRST_WITH_OWN_BINFMT:
        version = ".".join(map(str, found.kernel))
        why = f"Linux {version} has one table for all; one per user namespace came with 6.7"
        yield Problem(_NO_TABLE, why, _HOST_TABLE)
    elif not found.binfmt_known:
        why = "the kernel has not loaded the module binfmt_misc"
        yield Problem(_NO_TABLE, why, "sudo modprobe binfmt_misc")


def _obstacles_of_users(found: SetUp) -> Iterator[Problem]:
    if found.unprivileged_userns_clone == 0:
        why = "kernel.unprivileged_userns_clone is 0"
        yield Problem(_NO_NAMESPACE, why, "sudo sysctl -w kernel.unprivileged_userns_clone=1")
    if found.apparmor_restricts:
        why = "kernel.apparmor_restrict_unprivileged_userns is 1 (Ubuntu 24.04 and newer)"
        yield Problem(_NO_NAMESPACE, why, "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
    if not found.newuidmap:
        yield Problem(_NO_NAMESPACE, "newuidmap is not installed", "sudo apt-get install uidmap")
    for kind, present in (("uid", found.subuid), ("gid", found.subgid)):
        if not present:
            why = f"user {found.user} has no line in /etc/sub{kind}"
            ids = f"{found.free_ids}-{found.free_ids + _COUNT - 1}"
            yield Problem(_NO_NAMESPACE, why, f"sudo usermod --add-sub{kind}s {ids} {found.user}")


def probe(folder: Path, host: Platform) -> UserNamespace:
    """Really have a namespace, register a handler in it, and run a program that only this handler can run.

    `folder` holds what `programs.write_all` writes. The handler's interpreter is a program of the host that answers
    42, so that the outcome does not depend on any emulator.
    """
    foreign = next(p for p in ARCHES if ARCHES[p].elf_machine != ARCHES[host].elf_machine)
    interpreter, alien = program(folder, host), program(folder, foreign)
    said = ""
    for line in (binfmt.registration_line(ARCHES[foreign], interpreter, name="polyarch-probe"), None):
        try:
            with namespace([line] if line else []) as inside:
                argv = inside.enter([str(alien if line else interpreter)])
                done = run.capture(argv, check=False)
        except PolyarchError as error:
            said = said or error.detail or error.message
            continue
        if done.returncode == ANSWER:
            return UserNamespace(True, bool(line), () if line else _explained(_NO_TABLE, said, _HOST_TABLE))
        said = said or done.stderr.strip()
    return UserNamespace(False, False, _explained(_NO_NAMESPACE, said, _OUTSIDE))


def _explained(what: str, said: str, fix: str) -> tuple[Problem, ...]:
    """The known reasons, or what the kernel said when it is none of them."""
    return tuple(obstacles(set_up())) or (Problem(what, said, fix),)


def _sysctl(name: str) -> int | None:
    try:
        return int((Path("/proc/sys") / name).read_text())
    except (OSError, ValueError):
        return None


def _ranges(file: str) -> list[tuple[str, int]]:
    """Owner and end of each range in a file of subuid(5) (`ann:100000:65536`); lines that are none are left out."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return []
    rows = [line.split(":") for line in lines]
    return [(row[0], int(row[1]) + int(row[2])) for row in rows if len(row) == 3 and (row[1] + row[2]).isdecimal()]
