"""Native twins while a foreign root is bootstrapped: the same tools as in builds, paired once mmdebstrap unpacked them.

The root's files are there before the first of them is executed (mmdebstrap(1), `--extract-hook`). There mmdebstrap
waits until its tools are paired with those of the native root of the same wish, and mounts the table that came of it
over the root's own `/proc/sys/fs/binfmt_misc`. Until then, and when nothing comes of it, everything is emulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyarch.arch import ARCHES, Platform
from polyarch.emulation import binfmt
from polyarch.emulation.dispatcher import program
from polyarch.emulation.namespace import Namespace, namespace
from polyarch.emulation.twins import catalogue, packs, proofs, table
from polyarch.errors import PolyarchError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.report import Event, Sink

_MARK = "polyarch: unpacked "
_NONE = "-"
# $1 is the root. All tables are shown where the dispatcher looks for one, so none is in force there.
_SHOW = f"""
echo "{_MARK}$1"
{{ until read -r table <{{answer}}; do sleep 0.05; done; }} 2>/dev/null
[ "$table" = {_NONE} ] && exit 0
mount --bind "{program.TABLE}/$table" "$1{program.TABLE}"
mount --bind {program.TABLE}/count "$1{program.TABLE}/count"
"""
_HIDE = f"""
umount "$1{program.TABLE}/count" "$1{program.TABLE}" 2>/dev/null || :
"""


@dataclass(frozen=True, slots=True)
class Twins:
    """What accelerates bootstraps in one namespace: the digest of the native root's manifest, and where to tell."""

    native: str
    namespace: Namespace
    layout: Layout
    facts: Facts
    show: Sink
    _tasks: dict[Platform, asyncio.Task[None]] = field(default_factory=dict)

    def options(self, platform: Platform) -> list[str]:
        """What mmdebstrap is told in addition."""
        if not _accelerated(platform, self.facts):
            return []
        show = _SHOW.replace("{answer}", shlex.quote(str(self._answer(platform))))
        return [f"--extract-hook={show}", f"--customize-hook={_HIDE}"]

    def watch(self, platform: Platform, line: str) -> None:
        """Take one line of mmdebstrap's; when it waits for the table, make that."""
        if line.startswith(_MARK) and platform not in self._tasks:
            root = Path(f"/proc/{self.namespace.pid}/root{line.removeprefix(_MARK)}")
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._give, platform, root))
            self._tasks[platform] = task

    def _give(self, platform: Platform, root: Path) -> None:
        answer = _NONE
        try:
            host, arch = ARCHES[self.facts.platform], ARCHES[platform]
            twins = proofs.without_disproved(packs.of_root(self.layout, self.native, root, host, arch)).twins
            emulator = self.facts.emulator(platform)
            answer = table.make(twins, [emulator] if emulator else []).name if twins else _NONE
        except (PolyarchError, OSError) as error:
            self.show(Event("note", str(platform), f"not accelerated: {error}"))
        finally:
            self.namespace.write(self._answer(platform).name, f"{answer}\n".encode())

    def _answer(self, platform: Platform) -> Path:
        return self.namespace.scratch / f"table-{platform.slug}"


def worthwhile(platforms: Sequence[Platform], facts: Facts) -> bool:
    """Whether any of these roots has something to gain from a native one."""
    return any(_accelerated(platform, facts) for platform in platforms)


def handlers(platforms: Sequence[Platform], facts: Facts) -> list[bytes]:
    """The lines that register the dispatcher for `platforms`. Raises `HostError` when there is none to be had."""
    dispatcher = program.find()
    return [
        binfmt.registration_line(ARCHES[platform], program.with_emulator(dispatcher, emulator.path))
        for platform in platforms
        if facts.execution(platform).way == "namespace" and (emulator := facts.emulator(platform))
    ]


@contextlib.contextmanager
def opened(register: Sequence[bytes], native: str, layout: Layout, facts: Facts, show: Sink) -> Iterator[Twins]:
    """A namespace with these handlers in which roots may show tables."""
    with namespace(register, table.tables()) as inside:
        yield Twins(native, inside, layout, facts, show)


def _accelerated(platform: Platform, facts: Facts) -> bool:
    return facts.execution(platform).way == "namespace" and catalogue.accelerated(ARCHES[platform])
