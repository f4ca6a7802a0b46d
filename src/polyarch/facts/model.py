"""What is known of this machine, as plain frozen values, and what follows from it.

Nothing here looks at the machine: `gather` does, the planner and `polyarch doctor` read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal

from polyarch.arch import ARCHES, Platform
from polyarch.emulation import binfmt, emulators
from polyarch.emulation.binfmt import Handler
from polyarch.emulation.emulators import Emulator

Way = Literal["native", "namespace", "host", "none"]
Cgroups = Literal["v1", "hybrid", "v2", "none"]

# Debian's packages, where they are not called like the program.
# A binary that does not even start is the usual cause; overlay and fuse-overlayfs need room outside of an overlay.
_REINSTALL = {
    "isolation": "apt-get install --reinstall buildah crun",
    "storage driver": "apt-get install --reinstall buildah fuse-overlayfs",
}
_PACKAGES = {"docker": "docker.io", "dockerd": "docker.io"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps this machine from its work: `fix` is a command (or a change) that mends it."""

    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that polyarch can use; without `path` it is not installed, without `version` it did not say."""

    name: str
    path: Path | None = None
    version: str = ""

    @property
    def fix(self) -> str:
        """The command that installs it; empty when it is there."""
        return "" if self.path else f"apt-get install {_PACKAGES.get(self.name, self.name)}"


@dataclass(frozen=True, slots=True)
class Tried:
    """A way of working (an isolation, a storage driver) that was tried out; `why` is what was said against it."""

    name: str
    works: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """Whether this user may have user namespaces (`works`), and binfmt_misc in them (`own_binfmt`); what is amiss."""

    works: bool
    own_binfmt: bool
    obstacles: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler that makes programs for `platforms` (the variants of arm share one)."""

    platforms: tuple[Platform, ...]
    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Execution:
    """How a program of `platform` is executed here; for `none`, `why` and the `fix`."""

    platform: Platform
    way: Way
    why: str
    emulator: Emulator | None = None
    handler: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on this machine. Lists of what was tried come with the preferred one first."""

    platform: Platform
    kernel: str
    uid: int
    distribution: str
    cgroups: Cgroups
    tools: tuple[Tool, ...]
    isolations: tuple[Tried, ...]
    storage_drivers: tuple[Tried, ...]
    binfmt_mounted: bool
    binfmt_on: bool
    handlers: tuple[Handler, ...]
    namespace: UserNamespace
    native: tuple[Platform, ...]
    emulators: tuple[Emulator, ...]
    compilers: tuple[Compiler, ...]

    def tool(self, name: str) -> Tool:
        """The tool of that name; one that is not installed has no path."""
        return next((tool for tool in self.tools if tool.name == name), Tool(name))

    @property
    def isolation(self) -> str:
        """The isolation to use with buildah (`chroot`, `oci+crun`, `oci+runc`); empty when none works."""
        return _first(self.isolations)

    @property
    def storage_driver(self) -> str:
        """The storage driver to use (`overlay`, `fuse-overlayfs`, `vfs`); empty when none works."""
        return _first(self.storage_drivers)

    def emulator(self, platform: Platform) -> Emulator | None:
        """The emulator that runs programs of `platform`, if there is one."""
        return next((emulator for emulator in self.emulators if emulator.platform == platform), None)

    def compiler(self, platform: Platform) -> Compiler | None:
        """The compiler that makes programs for `platform`, if there is one."""
        return next((compiler for compiler in self.compilers if platform in compiler.platforms), None)

    def serving(self, platform: Platform) -> tuple[Handler, ...]:
        """The host's handlers that serve `platform`; what works in every root first."""
        return binfmt.serving(self.handlers, platform) if self.binfmt_on else ()

    def execution(self, platform: Platform) -> Execution:
        """How a program of `platform` is executed here: natively, by a namespace's own handler, by the host's, or not.

        A namespace's own handler comes before the host's: it is ours to choose, and nobody else sees it.
        """
        if platform in self.native:
            return Execution(platform, "native", "this machine's own processor and kernel run it")
        emulator = self.emulator(platform)
        if emulator and self.namespace.own_binfmt:
            why = f"{emulator.path.name} {_dotted(emulator.version)} registered in a user namespace of its own"
            return Execution(platform, "namespace", why, emulator=emulator)
        handlers = self.serving(platform)
        if handlers and handlers[0].works_in_roots:
            why = f"the host's handler {handlers[0].name} calls {handlers[0].interpreter}"
            return Execution(platform, "host", why, emulator=emulator, handler=handlers[0].name)
        return self._impossible(platform, emulator, handlers)

    def registrations(self, platforms: Iterable[Platform]) -> list[bytes]:
        """The lines that make a namespace's own binfmt_misc execute `platforms`; none for what needs no handler."""
        executions = (self.execution(platform) for platform in platforms)
        return [
            binfmt.registration_line(ARCHES[execution.platform], execution.emulator.path)
            for execution in executions
            if execution.way == "namespace" and execution.emulator
        ]

    def _impossible(self, platform: Platform, emulator: Emulator | None, handlers: Sequence[Handler]) -> Execution:
        install = f"sudo polyarch emulation install {platform}"
        if emulator is None:
            why, fix = "no statically linked emulator for it is installed", f"apt-get install {emulators.PACKAGE}"
        elif self.namespace.obstacles:
            first = self.namespace.obstacles[0]
            why, fix = first.what, install if self.namespace.works else first.fix
        elif handlers:
            why, fix = f"the host's handler {handlers[0].name} lacks flag F, so it fails inside images", install
        else:
            why, fix = "no handler is registered for it", install
        return Execution(platform, "none", why, emulator=emulator, fix=fix)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps this machine from building, then from executing, then what will go wrong; each with its fix."""
        return tuple(dict.fromkeys([*self._of_building(), *self._of_executing(), *self._of_emulators()]))

    def _of_building(self) -> Iterable[Problem]:
        for name in ("buildah", "skopeo"):
            if self.tool(name).path is None:
                yield Problem(f"{name} is not installed", "images are built and copied with it", self.tool(name).fix)
        if not self.namespace.works:
            yield from self.namespace.obstacles
        elif self.tool("buildah").path:
            for kind, tried in (("isolation", self.isolations), ("storage driver", self.storage_drivers)):
                if not _first(tried):
                    said = "; ".join(f"{one.name}: {one.why}" for one in tried)
                    yield Problem(f"no {kind} of buildah works here", said, _REINSTALL[kind])

    def _of_executing(self) -> Iterable[Problem]:
        if not self.namespace.own_binfmt and any(self.execution(p).way == "none" for p in ARCHES):
            yield from self.namespace.obstacles
        by_fix: dict[tuple[str, str], list[str]] = {}
        for platform in ARCHES:
            execution = self.execution(platform)
            if execution.way == "none" and self.emulator(platform) is None:
                by_fix.setdefault((execution.why, execution.fix), []).append(str(platform))
        for (why, fix), platforms in by_fix.items():
            yield Problem(f"nothing executes programs of {', '.join(platforms)}", why, fix)

    def _of_emulators(self) -> Iterable[Problem]:
        for emulator in self.emulators:
            for fault in emulator.faults:
                if fault.general and self.execution(emulator.platform).way != "native":
                    name = f"{emulator.path.name} {_dotted(emulator.version)}"
                    yield Problem(f"{name} {fault.what}", f"known fault: {fault.source}", fault.fix)

    def as_dict(self) -> dict[str, object]:
        """Everything, and what follows from it, as `--json` prints it."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        follows = {
            "isolation": self.isolation,
            "storage_driver": self.storage_driver,
            "executions": tuple(self.execution(platform) for platform in ARCHES),
            "problems": self.problems,
        }
        return {name: _plain(value) for name, value in (found | follows).items()}


def _plain(value: object) -> object:
    """A value as JSON has it: platforms as their names, bytes in hexadecimal."""
    if isinstance(value, Platform | Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _first(tried: Sequence[Tried]) -> str:
    return next((one.name for one in tried if one.works), "")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version)) or "of unknown version"
