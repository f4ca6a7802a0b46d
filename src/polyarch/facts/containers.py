"""Which storage drivers and isolations of buildah work here: tried with a container of one tiny program."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polyarch import run
from polyarch.emulation.namespace import namespace
from polyarch.errors import PolyarchError
from polyarch.facts.model import Tried
from polyarch.facts.programs import ANSWER

# Preferred first. `chroot` needs no runtime, cgroups or raised limits, and our namespace has its own PIDs anyway.
_ISOLATIONS = {
    "chroot": ("chroot",),
    "oci+crun": ("oci", "--runtime", "crun"),
    "oci+runc": ("oci", "--runtime", "runc"),
}
_DRIVERS = ("overlay", "fuse-overlayfs", "vfs")
_NAME = "polyarch-probe"
_PATIENCE = 60.0
_ENV = {"_CONTAINERS_USERNS_CONFIGURED": "done"}  # buildah is in a user namespace already

_Buildah = Callable[[Sequence[str]], run.Finished]


def programs() -> tuple[Path, ...]:
    """The programs whose upgrade may change the answer."""
    names = ("buildah", "crun", "runc", "fuse-overlayfs")
    return tuple(path for name in names if (path := run.which(name)))


def probe(folder: Path, program: Path) -> tuple[tuple[Tried, ...], tuple[Tried, ...]]:
    """Storage drivers and isolations, preferred first, tried in a namespace like the one that builds use.

    `folder` is on the file system that builds use, for what a driver can do depends on it; `program` is a static
    program of this machine that exits with 42.
    """
    if run.which("buildah") is None:
        return (), ()
    try:
        with namespace() as inside:
            return _probe(folder, program, inside.enter)
    except PolyarchError as error:
        return tuple(Tried(name, False, error.message) for name in _DRIVERS), ()


def _probe(
    folder: Path, program: Path, enter: Callable[[Sequence[str]], list[str]]
) -> tuple[tuple[Tried, ...], tuple[Tried, ...]]:
    drivers: list[Tried] = []
    isolations: tuple[Tried, ...] = ()
    for driver in _DRIVERS:
        with _container(folder, driver, program, enter) as (buildah, tried):
            drivers.append(tried)
            if tried.works and not isolations:
                isolations = tuple(_isolation(buildah, name) for name in _ISOLATIONS)
    return tuple(drivers), isolations


@contextlib.contextmanager
def _container(
    folder: Path, driver: str, program: Path, enter: Callable[[Sequence[str]], list[str]]
) -> Iterator[tuple[_Buildah, Tried]]:
    """A container with `program` as its only file, in a storage of its own; removed afterwards."""
    where = ["--root", str(folder / driver), "--runroot", str(folder / f"{driver}-run")]
    where += ["--storage-driver", driver if driver == "vfs" else "overlay"]
    if driver == "fuse-overlayfs":
        where += ["--storage-opt", f"overlay.mount_program={run.which(driver) or driver}"]

    def buildah(argv: Sequence[str]) -> run.Finished:
        return run.capture(enter(["buildah", *where, *argv]), env=_ENV, check=False, timeout=_PATIENCE)

    done = run.Finished((), 1, "", "fuse-overlayfs is not installed")
    if driver != "fuse-overlayfs" or run.which(driver):
        done = buildah(["from", "--name", _NAME, "scratch"])
        if done.ok:
            done = buildah(["copy", _NAME, str(program), "/probe"])
    yield buildah, Tried(driver, done.ok, "" if done.ok else _reason(done.stderr))
    # What is inside belongs to mapped users: only in the namespace may it be removed.
    buildah(["rm", "--all"])
    run.capture(enter(["rm", "-rf", str(folder / driver), str(folder / f"{driver}-run")]), check=False)


def _isolation(buildah: _Buildah, name: str) -> Tried:
    options = _ISOLATIONS[name]
    runtime = options[-1]
    if len(options) > 1 and run.which(runtime) is None:
        return Tried(name, False, f"{runtime} is not installed")
    done = buildah(["run", "--network", "host", "--isolation", *options, _NAME, "/probe"])
    works = done.returncode == ANSWER
    return Tried(name, works, "" if works else _reason(done.stderr))


def _reason(said: str) -> str:
    """The first line of a program's complaint that is no warning, without buildah's and the logger's preambles."""
    lines = [line for line in said.splitlines() if line.strip() and "level=warning" not in line]
    if not lines:
        return "it failed without a word"
    logged = re.search(r'msg="((?:[^"\\]|\\.)*)"', lines[0])
    line = logged[1].replace('\\"', '"') if logged else lines[0]
    return line.strip().rpartition("creating container for [/probe]: ")[2]
