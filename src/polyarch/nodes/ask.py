"""Ask nodes what they can do: side by side, within seconds, and not again for a while."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import secrets
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from polyarch import places
from polyarch.arch import ARCHES, Platform, parse_platform
from polyarch.errors import InputError, NodeError
from polyarch.facts.programs import smallest
from polyarch.nodes.model import Abilities, Answer, Fault, Node
from polyarch.nodes.session import shell
from polyarch.nodes.ssh import connect

_FRESH = 60.0  # seconds for which an answer, or that there was none, is not asked for again
_CLUSTER_LIMIT = 3.0  # seconds for a cluster to say which machines it has
_LIMIT = 60.0  # seconds for trying what works there, after the connection stands; done once per boot
_ENGINES = ("buildah", "podman")
_TRIALS = frozenset({"executes", "isolation", "refused"})
_PACKAGES = {"timeout": "coreutils", "cp": "coreutils"}


async def ask_all(nodes: Iterable[Node], *, fresh: bool = False) -> tuple[Answer, ...]:
    """What each node answers; `fresh` asks even those that were asked within the last minute."""
    return tuple(await asyncio.gather(*(ask(node, fresh=fresh) for node in nodes)))


async def ask(node: Node, *, fresh: bool = False) -> Answer:
    """What a node answers. An unreachable one is an answer, too."""
    memory = _Memory(node)
    if not fresh and memory.fresh():
        return memory.answer()
    if node.address.scheme == "kubernetes":
        return await _ask_cluster(node, memory)
    known = "" if fresh else first(memory.lines, "key")
    slug = node.platforms[0].slug if node.platforms else ""
    said: list[bytes] = []
    try:
        async with asyncio.timeout(_LIMIT), connect(node) as connection:
            argv = shell("probe", node.address.folder, known, slug)
            ended = await connection.execute(argv, stdin=[_programs()], out=said.append)
    except NodeError as error:
        return memory.keep(why=error.message, hint=error.hint)
    except TimeoutError:
        return memory.keep(why=f"node {node.name} took longer than {_LIMIT:g} s to say what it can do")
    lines = b"".join(said).decode("utf-8", "replace").splitlines()
    if known and first(lines, "key") == known:
        lines += [line for line in memory.lines if line.partition(" ")[0] in _TRIALS]
    if not first(lines, "machine"):
        said_last = ended.stderr.splitlines()[-1:]
        return memory.keep(why=": ".join([f"node {node.name} runs no POSIX shell for this login", *said_last]))
    return memory.keep(lines)


async def _ask_cluster(node: Node, memory: _Memory) -> Answer:
    from polyarch.nodes import pod  # its client library is an extra

    try:
        async with asyncio.timeout(_CLUSTER_LIMIT):
            architectures = await pod.architectures(node)
    except NodeError as error:
        return memory.keep(why=error.message, hint=error.hint)
    except TimeoutError:
        return memory.keep(why=f"node {node.name}: the cluster did not answer within {_CLUSTER_LIMIT:g} s")
    # what runs in a pod is the image's, and was tried out by whoever made it
    slugs = [p.slug for p in ARCHES if p.os == "linux" and p.architecture in architectures]
    lines = ["machine cluster", "engine buildah", "isolation chroot", *(f"executes {slug}" for slug in slugs)]
    return memory.keep(lines)


def first(lines: Iterable[str], word: str) -> str:
    """What follows `word` in the first line that begins with it, or ""."""
    return next(iter(rests(lines, word)), "")


def rests(lines: Iterable[str], word: str) -> list[str]:
    """What follows `word` in every line that begins with it."""
    return [rest.strip() for found, _, rest in (line.partition(" ") for line in lines) if found == word]


def judge(node: Node, lines: Sequence[str]) -> Abilities:
    """What follows from the lines that `probe.sh` printed."""
    by_slug = {platform.slug: platform for platform in ARCHES}
    executes = tuple(by_slug[slug] for slug in rests(lines, "executes") if slug in by_slug)
    versions = tuple((name, said) for name, _, said in (line.partition(" ") for line in rests(lines, "version")))
    own = _own(first(lines, "machine"))
    return Abilities(
        machine=first(lines, "machine"),
        own=own,
        engine=first(lines, "engine"),
        versions=versions,
        isolation=first(lines, "isolation"),
        executes=executes,
        free=_number(first(lines, "free")) * 1024,
        busy=_number(first(lines, "busy")),
        faults=tuple(_faults(node, lines, own, executes)),
    )


def _faults(node: Node, lines: Sequence[str], own: Platform | None, executes: Sequence[Platform]) -> Iterator[Fault]:
    unwritable, long, engine = (first(lines, word) for word in ("unwritable", "long", "engine"))
    again = f"polyarch node rm {node.name}; polyarch node add {node.name} ssh://…/FOLDER"
    missing = [tool for tool in rests(lines, "missing") if tool not in _ENGINES]
    for tool in missing:
        yield Fault(f"{tool} is not installed", f"apt-get install {_PACKAGES.get(tool, tool)}")
    if unwritable:
        yield Fault(f"its folder cannot be written: {unwritable}", f"here, name another one: {again}")
    elif long:
        yield Fault(f"its folder's path has more than 46 characters, too many for podman: {long}", f"here: {again}")
    elif not engine:
        if set(_ENGINES) <= set(rests(lines, "missing")):
            yield Fault("neither buildah nor podman is installed", "apt-get install buildah")
    elif not missing:
        yield from _untried(node, lines, own, executes)


def _untried(node: Node, lines: Sequence[str], own: Platform | None, executes: Sequence[Platform]) -> Iterator[Fault]:
    """What did not work when it was tried."""
    if not node.platforms and own is None and not executes:
        machine = first(lines, "machine")
        yield Fault(f"polyarch does not know its architecture, {machine}", "add it with --platform")
    for platform in node.platforms or ((own,) if own else ()):
        if platform not in executes:
            yield Fault(f"it does not execute {platform}", "add it without that --platform, or install an emulator")
    if not first(lines, "isolation"):
        tried = "; ".join(rests(lines, "refused")) or "nothing was tried"
        fix = "apt-get install uidmap fuse-overlayfs; an ordinary user needs lines in /etc/subuid and /etc/subgid"
        yield Fault(f"{first(lines, 'engine')} cannot run a step in any isolation: {tried}", fix)


def _own(machine: str) -> Platform | None:
    try:
        return parse_platform(machine)
    except InputError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


@cache
def _programs() -> bytes:
    """A tar of the smallest program of every platform."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for platform in ARCHES:
            data = smallest(platform)
            info = tarfile.TarInfo(f"smallest-{platform.slug}")
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


class _Memory:
    """What a node last said, or why it said nothing, in a file of the cache."""

    def __init__(self, node: Node) -> None:
        self._node = node
        text = json.dumps(node.as_dict(), sort_keys=True)
        self._file = places.cache() / "nodes" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        self._at, self._why, self._hint = 0.0, "", ""
        self.lines: list[str] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file.read_text())
            self._at, self._why, self._hint = float(kept["at"]), str(kept["why"]), str(kept["hint"])
            self.lines = [str(line) for line in kept["lines"]]

    def fresh(self) -> bool:
        return 0 <= time.time() - self._at < _FRESH

    def answer(self) -> Answer:
        """The last answer. Where the node gave none, `lines` may still be what it said before."""
        if self._why:
            return Answer(self._node, None, self._why, self._hint)
        return Answer(self._node, judge(self._node, self.lines))

    def keep(self, lines: Sequence[str] | None = None, *, why: str = "", hint: str = "") -> Answer:
        """Keep an answer, and return it; a cache that cannot be written is only slow."""
        self._at, self._why, self._hint = time.time(), why, hint
        self.lines = self.lines if lines is None else list(lines)
        kept = {"at": self._at, "why": why, "hint": hint, "lines": self.lines}
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            beside = self._file.with_suffix(f".{secrets.token_hex(4)}")
            beside.write_text(json.dumps(kept))
            beside.rename(self._file)
        return self.answer()


def tell_lost(node: Node, why: str) -> None:
    """Let other builds know for a while that this node was lost."""
    _Memory(node).keep(why=why, hint=f"polyarch node check {node.name}")
