"""Find the facts of this machine: independent probes side by side, each remembered until what it depends on changes."""

from __future__ import annotations

import os
import platform as _host
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from polyarch import places, run
from polyarch.arch import ARCHES, Platform, host_platform
from polyarch.emulation import binfmt, emulators
from polyarch.emulation.binfmt import Handler
from polyarch.emulation.emulators import Emulator, Fault
from polyarch.errors import HostError, PolyarchError
from polyarch.facts import containers, namespaces
from polyarch.facts.memo import Memo, Rows, fingerprint
from polyarch.facts.model import Cgroups, Compiler, Facts, Problem, Tool, Tried, UserNamespace
from polyarch.facts.programs import ANSWER, program, write_all

_T = TypeVar("_T")

_TOOLS = ("buildah", "podman", "skopeo", "docker", "mmdebstrap", "crun", "runc", "fuse-overlayfs")
_NUMBER = re.compile(r"\d+(?:\.\d+)+[^\s,()]*")
_PATIENCE = 20.0
_DOCKER_SOCKET = Path("/var/run/docker.sock")


class Prober:
    """One round of probing: a memory, the key of this machine's state, and a folder with `write_all`'s programs."""

    def __init__(self, memo: Memo, folder: Path) -> None:
        self._memo = memo
        self._folder = folder
        self._host = host_platform()
        # Where builds work, who builds, under which kernel, since which boot.
        self._machine = f"{_boot_id()}:{_host.release()}:{os.getuid()}:{places.home()}"

    def tool(self, name: str) -> Tool:
        """Where the tool is, and the version that it states."""
        path = run.which(name)
        return Tool(name, path, self._version(path)) if path else Tool(name)

    def docker_daemon(self) -> Tool:
        """The daemon behind the docker client, if one listens; not remembered, for it comes and goes."""
        path = run.which("docker")
        if path is None or not os.access(_DOCKER_SOCKET, os.W_OK):
            return Tool("dockerd")
        argv = [str(path), "version", "--format", "{{.Server.Version}}"]
        done = run.capture(argv, check=False, timeout=_PATIENCE)
        return Tool("dockerd", _DOCKER_SOCKET, done.stdout.strip()) if done.ok else Tool("dockerd")

    def emulator(self, platform: Platform) -> Emulator | None:
        """The emulator, its version and faults; an override that is no emulator counts as none."""
        try:
            path = emulators.locate(platform)
        except PolyarchError:
            return None
        if path is None:
            return None
        key = f"emulator:{platform}:{_host.release()}:{fingerprint(path)}"
        version, *faults = self._memo.recall(key, lambda: _emulator_rows(emulators.probe(platform, path)))
        found = tuple(Fault(what, source, fix, general == "general") for what, source, fix, general in faults)
        return Emulator(platform, path, tuple(map(int, version)), found)

    def compilers(self) -> tuple[Compiler, ...]:
        """`<triplet>-gcc` of every architecture in the table."""
        found = []
        for triplet, arches in groupby(sorted(ARCHES.values(), key=lambda a: a.triplet), key=lambda a: a.triplet):
            path = run.which(f"{triplet}-gcc")
            if path:
                platforms = tuple(arch.platform for arch in arches)
                found.append(Compiler(platforms, path, self._version(path, "-dumpfullversion")))
        return tuple(found)

    def native(self, handlers: tuple[Handler, ...]) -> tuple[Platform, ...]:
        """Platforms whose programs run without a handler: tried, for a 64-bit kernel need not run its 32-bit ones."""
        free = [p for p in ARCHES if not binfmt.serving(handlers, p)]
        key = f"native:{_boot_id()}:{_host.release()}:{','.join(map(str, free))}"
        names = self._memo.recall(key, lambda: [[str(p)] for p in free if self._runs(p)])
        by_name = {str(platform): platform for platform in ARCHES}
        return tuple(by_name[name] for (name,) in names)

    def user_namespace(self) -> UserNamespace:
        """What `namespaces.probe` finds."""
        key = f"namespace:{self._machine}:{namespaces.sysctls()}:{fingerprint(*namespaces.files())}"

        def find_out() -> Rows:
            return _namespace_rows(namespaces.probe(self._folder, self._host))

        # A refusal is asked again each time: it ends with a sysctl, a module or a setting that no key can hold.
        rows = self._memo.recall(key, find_out, keep=lambda found: found[0] == ["yes", "yes"])
        state, *problems = rows
        works, own = (word == "yes" for word in state)
        return UserNamespace(works, own, tuple(Problem(*row) for row in problems))

    def containers(self) -> tuple[tuple[Tried, ...], tuple[Tried, ...]]:
        """Storage drivers and isolations, as `containers.probe` finds them."""
        changes = fingerprint(*containers.programs(), *namespaces.files())
        key = f"containers:{self._machine}:{namespaces.sysctls()}:{changes}"
        rows = self._memo.recall(key, self._try_containers, keep=_builds)
        tried = [(kind, Tried(name, works == "yes", why)) for kind, name, works, why in rows]
        drivers = tuple(one for kind, one in tried if kind == "driver")
        return drivers, tuple(one for kind, one in tried if kind == "isolation")

    def _try_containers(self) -> Rows:
        drivers, isolations = containers.probe(self._folder, program(self._folder, self._host))
        both = [("driver", one) for one in drivers] + [("isolation", one) for one in isolations]
        return [[kind, one.name, "yes" if one.works else "no", one.why] for kind, one in both]

    def _runs(self, platform: Platform) -> bool:
        # A 32-bit arm kernel runs what its own processor knows: v6 does not run v7, although both have one ELF header.
        if platform.architecture == self._host.architecture and platform.variant > self._host.variant:
            return False
        try:
            return run.capture([str(program(self._folder, platform))], check=False).returncode == ANSWER
        except OSError:
            return False

    def _version(self, path: Path, option: str = "--version") -> str:
        """The first thing in the program's answer that looks like a version."""

        def ask() -> Rows:
            try:
                done = run.capture([str(path), option], check=False, timeout=_PATIENCE)
            except (OSError, PolyarchError):
                return [[""]]
            found = _NUMBER.search(done.stdout)
            return [[found[0] if found else ""]]

        return self._memo.recall(f"version:{fingerprint(path.resolve())}", ask)[0][0]


def gather(refresh: bool = False) -> Facts:
    """The facts of this machine; `refresh` forgets what earlier runs found.

    Probes happen under `places.home()`, for what works depends on the file system that builds use. Raises `HostError`
    when nothing can be written there, `InputError` when the table has no row for this machine's architecture.
    """
    memo = Memo(places.cache() / "probes.json", forget=refresh)
    try:
        places.home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=places.home(), prefix="probe-") as folder:
            # All written before the first thread starts a process: a file that a fork holds open for writing cannot be
            # executed (ETXTBSY).
            write_all(Path(folder))
            facts = _gather(Prober(memo, Path(folder)))
    except PermissionError as error:
        hint = "set POLYARCH_HOME to a folder of yours"
        raise HostError(f"{places.home()} cannot be written", detail=str(error), hint=hint) from error
    memo.save()
    return facts


def _gather(prober: Prober) -> Facts:
    handlers = tuple(binfmt.status())
    with ThreadPoolExecutor(max_workers=16) as pool:

        def start(task: Callable[..., _T], *args: object) -> Future[_T]:
            return pool.submit(task, *args)

        containers_ = start(prober.containers)
        namespace = start(prober.user_namespace)
        tools = [start(prober.tool, name) for name in _TOOLS]
        daemon = start(prober.docker_daemon)
        found = [start(prober.emulator, platform) for platform in ARCHES]
        native = start(prober.native, handlers)
        compilers = start(prober.compilers)
        drivers, isolations = containers_.result()
        return Facts(
            platform=host_platform(),
            kernel=_host.release(),
            uid=os.getuid(),
            distribution=_distribution(),
            cgroups=_cgroups(),
            tools=(*(tool.result() for tool in tools), daemon.result()),
            isolations=isolations,
            storage_drivers=drivers,
            binfmt_mounted=binfmt.mounted(),
            binfmt_on=binfmt.switched_on(),
            handlers=handlers,
            namespace=namespace.result(),
            native=native.result(),
            emulators=tuple(emulator for each in found if (emulator := each.result())),
            compilers=compilers.result(),
        )


def _emulator_rows(emulator: Emulator) -> Rows:
    faults = [[f.what, f.source, f.fix, "general" if f.general else "particular"] for f in emulator.faults]
    return [list(map(str, emulator.version)), *faults]


def _namespace_rows(found: UserNamespace) -> Rows:
    state = ["yes" if word else "no" for word in (found.works, found.own_binfmt)]
    return [state, *([p.what, p.why, p.fix] for p in found.obstacles)]


def _builds(rows: Rows) -> bool:
    """Whether both a storage driver and an isolation work."""
    return {kind for kind, _name, works, _why in rows if works == "yes"} == {"driver", "isolation"}


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _distribution() -> str:
    try:
        return _host.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown"


def _cgroups() -> Cgroups:
    """Which hierarchies are mounted (cgroups(7)): v2 alone, v1 alone, or both."""
    kinds = set(re.findall(r" - (cgroup2?) ", Path("/proc/self/mountinfo").read_text()))
    if kinds == {"cgroup2"}:
        return "v2"
    if kinds == {"cgroup"}:
        return "v1"
    return "hybrid" if kinds else "none"
