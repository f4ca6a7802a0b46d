"""One build's session with a node: a folder there that lives as long as the connection, trees sent into it, commands.

Everything lies below one folder of the node: `files` (contents, kept for the next session), `storage` (the engine's
images and steps), `work/ID` (this session's, removed at its end; `scripts/hold.sh` sees to it even when polyarch dies).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from polyarch.arch import Platform
from polyarch.errors import NodeError
from polyarch.nodes.link import Ended, Link, lost
from polyarch.nodes.model import Abilities, Node
from polyarch.nodes.reach import reach
from polyarch.nodes.tree import Entry, contents, stream

_SCRIPTS = Path(__file__).with_name("scripts")
_BEAT = 5.0  # seconds between two signs of life; the node gives up after 30


@cache
def script(name: str) -> str:
    """The text of one of our shell scripts: POSIX sh, and the usual tools."""
    return (_SCRIPTS / f"{name}.sh").read_text(encoding="utf-8")


def shell(name: str, *args: str) -> list[str]:
    """The command that runs a script there."""
    return ["sh", "-c", script(name), name, *args]


@dataclass
class Session:
    """A live session; paths are absolute and the node's. Every method raises `NodeError` when the node fails it."""

    node: Node
    abilities: Abilities
    link: Link
    id: str
    root: str
    memory: str
    _sent: set[str] = field(default_factory=set)

    @property
    def work(self) -> str:
        """The folder that is only this session's."""
        return f"{self.root}/work/{self.id}"

    def engine(self, *args: str) -> list[str]:
        """A command of the node's engine, with the storage that is ours there."""
        where = ["--root", f"{self.root}/storage", "--runroot", f"{self.root}/run"]
        return ["env", f"TMPDIR={self.root}/tmp", self.abilities.engine, *where, *args]  # noqa: S108 - there

    async def send(self, trees: Mapping[str, Sequence[Entry]]) -> int:
        """Put each tree into a folder of that name in `work`; returns how many bytes of files had to be sent."""
        wanted = contents(entry for entries in trees.values() for entry in entries)
        asked = "".join(f"{digest} {key}\n" for digest, key in wanted).encode()
        told = await self.check(shell("missing", self.root, self.id), stdin=asked)
        pairs = (line.split(" ") for line in told.decode().splitlines())
        missing = {(pair[0], pair[1]): None for pair in pairs if len(pair) == 2}
        work = f"work/{self.id}"
        tar = stream([(f"{work}/{name}", entries) for name, entries in trees.items()], missing, f"{work}/new")
        ended = await self.link.execute(shell("unpack", self.root, self.id), stdin=tar)
        if ended.code:
            raise NodeError(f"node {self.node.name} could not take files in", detail=ended.stderr, hint=self._look)
        return sum(wanted[key].size for key in missing if key in wanted)

    async def put_secret(self, name: str, data: bytes) -> str:
        """Put a secret where only memory holds it; returns its path. It goes with the build, or with the session."""
        if not self.memory:
            hint = "secrets are only ever put into memory there: mount a tmpfs at /dev/shm, or leave the node out"
            raise NodeError(f"node {self.node.name} has no tmpfs that may be written", hint=hint)
        await self.check(shell("secret", self.memory, name), stdin=data)
        return f"{self.memory}/{name}"

    async def holds(self, image: str) -> bool:
        """Whether the node's storage has an image of that name."""
        return (await self.link.execute(self.engine("inspect", "--type", "image", image))).code == 0

    async def load(self, folder: str, image: str) -> None:
        """Bring the image layout `folder` of `work` into the storage under a name; `folder` is a word of small letters.

        The engine makes a name of the path that it pulls from, so the path is a relative one.
        """
        pull = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "pull", self.work]
        found = (await self.check([*pull, *self.engine("pull", "--quiet", f"oci:{folder}")])).decode().split()
        await self.check(self.engine("tag", found[-1] if found else "", image))
        await self.link.execute(self.engine("rmi", f"localhost/{folder}"))  # that name alone; some make none

    async def build(self, argv: Sequence[str], on_line: Callable[[str], None]) -> Ended:
        """Run a build command and hand on each line of what it prints.

        A machine that goes down ends its commands before its connections: a build that failed when the session was over
        has not failed by itself.
        """
        lines = Lines(on_line)
        ended = await self.link.execute(shell("build", self.work, *argv), out=lines.take)
        lines.close()
        if ended.code and (await self.link.execute(["test", "-f", f"{self.work}/pid"])).code:
            raise lost(self.node, "it ended the build")
        return ended

    async def check(self, argv: Sequence[str], *, stdin: bytes = b"") -> bytes:
        """Run a command that must succeed; returns what it printed."""
        out = io.BytesIO()
        ended = await self.link.execute(argv, stdin=[stdin], out=_write(out))
        if ended.code:
            what = argv[3] if argv[:2] == ["sh", "-c"] else self.abilities.engine
            message = f"node {self.node.name}: {what} exited with {ended.code}"
            raise NodeError(message, detail=ended.stderr or out.getvalue().decode("utf-8", "replace"), hint=self._look)
        return out.getvalue()

    async def fetch(self, path: str, target: Path) -> None:
        """Copy a file of the node to here."""
        with target.open("wb") as file:
            ended = await self.link.execute(["cat", path], out=_write(file))
        if ended.code:
            raise NodeError(f"node {self.node.name}: {path} cannot be read", detail=ended.stderr, hint=self._look)

    @property
    def _look(self) -> str:
        return f"polyarch node check {self.node.name}"


class Lines:
    """Bytes as they come, turned into lines of text."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Take some bytes in; a carriage return ends a line, too."""
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            if line:
                self._on_line(line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._on_line(self._rest.decode("utf-8", "replace"))
            self._rest = b""


@contextlib.asynccontextmanager
async def open_session(node: Node, abilities: Abilities, platform: Platform) -> AsyncIterator[Session]:
    """A session; on the way out, and when this process dies, what is only this session's is removed there.

    `platform` is what will be built: a cluster looks for a machine of it.
    """
    name = secrets.token_hex(8)
    async with reach(node, platform) as link:
        holder = _Holder(link, shell("hold", link.node.address.folder, name, abilities.engine))
        try:
            root, memory = await holder.ready()
            yield Session(node, abilities, link, name, root, memory)
        finally:
            await holder.close()


class _Holder:
    """`hold.sh` at work: what it prints first, and a dot every few seconds until we close."""

    def __init__(self, link: Link, argv: Sequence[str]) -> None:
        self._link = link
        self._said = b""
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(link.execute(argv, stdin=self._beats(), out=self._hear))

    async def ready(self) -> tuple[str, str]:
        """Where our folder there is, and where secrets go ("" for nowhere)."""
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._ready.is_set():
            name, ended = self._link.node.name, await self._task
            raise NodeError(f"node {name} gives polyarch no folder", detail=ended.stderr, hint="polyarch node check")
        root, memory = self._said.decode().split("\n")[:2]
        return root, memory

    async def close(self) -> None:
        """Let it clean up; one that does not within seconds is left to do so alone."""
        self._over.set()
        with contextlib.suppress(NodeError, TimeoutError):
            await asyncio.wait_for(self._task, _BEAT)

    def _hear(self, data: bytes) -> None:
        self._said += data
        if self._said.count(b"\n") >= 2:
            self._ready.set()

    async def _beats(self) -> AsyncIterator[bytes]:
        while not self._over.is_set():
            yield b"."
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _BEAT)


def _write(file: Any) -> Callable[[bytes], None]:  # noqa: ANN401
    def write(data: bytes) -> None:
        file.write(data)

    return write
