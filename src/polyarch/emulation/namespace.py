"""polyarch's own user namespace: root inside, nobody outside, with binfmt handlers that nobody else sees.

Everything that touches container storage runs in here, for root and for ordinary users alike, so that one storage
folder is only ever written in one way. Linux 6.7 gave each user namespace its own binfmt_misc
(Documentation/admin-guide/binfmt-misc.rst): emulation needs no privilege and no change to the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyarch import places, run
from polyarch.arch import Platform
from polyarch.emulation.dispatcher import counts, program
from polyarch.errors import HostError

_HOLDER = Path(__file__).with_name("holder.py")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A live namespace: the PID (outside) of its init, and a folder that is a fresh tmpfs inside."""

    pid: int
    scratch: Path

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` inside (nsenter(1)); paths must be absolute: the working folder becomes `/`."""
        return ["nsenter", "--target", str(self.pid), "--user", "--mount", "--pid", "--", *argv]

    def write(self, name: str, data: bytes, mode: int = 0o644) -> Path:
        """Put a file into the scratch folder inside; it goes when the namespace goes. Returns its path inside."""
        path = self.scratch / name
        run.capture(self.enter(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", str(path)]), stdin=data)
        return path

    def dispatched(self) -> dict[Platform, counts.Counts]:
        """How many programs of each platform the dispatcher has started until now, natively and emulated."""
        return counts.read(Path(f"/proc/{self.pid}/root{self.scratch}/count/log"))


@contextlib.contextmanager
def namespace(register: Sequence[bytes] = (), table: Path | None = None) -> Iterator[Namespace]:
    """Hold a namespace open, with one binfmt handler for each registration line, and the dispatcher's table in it.

    Raises `HostError` with the mending command when the kernel or the user's set-up refuses. On the way out, or when
    this process dies, every process and mount inside is gone.
    """
    scratch = _scratch()
    holder = run.spawn([sys.executable, "-I", "-S", str(_HOLDER)])
    try:
        yield Namespace(_start(holder, scratch, register, table), scratch)
    finally:
        if holder.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                holder.stdin.close()
        holder.wait()
        with contextlib.suppress(OSError):
            scratch.rmdir()


def _start(holder: subprocess.Popen[bytes], scratch: Path, register: Sequence[bytes], table: Path | None) -> int:
    """Drive the holder's protocol (see `holder.py`); returns the PID of the namespace's init."""
    lines = [line.decode("latin-1") for line in register]
    shown = [str(table), str(program.TABLE)] if table else []
    _tell(holder, json.dumps({"scratch": str(scratch), "register": lines, "table": shown}))
    map_ids(int(_expect(holder, "unshared")))
    _tell(holder, "go")
    init = int(_expect(holder, "init"))
    _expect(holder, "ready")
    return init


def map_ids(pid: int) -> None:
    """Map ids into the user namespace of `pid`: all of ours when we are root, else ours and our subordinate ranges.

    Raises `HostError` when newuidmap(1) or the ranges of subuid(5) are missing.
    """
    for kind in ("uid", "gid"):
        if os.geteuid() == 0:
            Path(f"/proc/{pid}/{kind}_map").write_text(_identity(kind))
        else:
            own = os.getuid() if kind == "uid" else os.getgid()
            start, count = subordinate_range(kind)
            mapper = str(run.need(f"new{kind}map", package="uidmap"))
            run.capture([mapper, str(pid), "0", str(own), "1", "1", str(start), str(count)])


def subordinate_range(kind: str) -> tuple[int, int]:
    """First id and count of this user's line in /etc/subuid or /etc/subgid. Raises `HostError` when there is none."""
    user = pwd.getpwuid(os.getuid()).pw_name
    file = Path(f"/etc/sub{kind}")
    for line in file.read_text().splitlines() if file.exists() else ():
        name, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if name in {user, str(os.getuid())} and start.isdigit() and count.isdigit():
            return int(start), int(count)
    raise HostError(
        f"user {user} has no line in {file}",
        detail="a build as an ordinary user maps its users into a range of subordinate ids",
        hint=f"sudo usermod --add-sub{kind}s 100000-165535 {user}",
    )


def _identity(kind: str) -> str:
    """Every id that this namespace knows, mapped to itself; in the initial namespace that is all of them."""
    lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in map(str.split, lines))


def _scratch() -> Path:
    """A new empty folder; folders that killed runs left behind are removed."""
    parent = places.home() / "run"
    parent.mkdir(parents=True, exist_ok=True)
    for stale in parent.iterdir():
        if not Path(f"/proc/{stale.name.partition('-')[0]}").exists():
            with contextlib.suppress(OSError):
                stale.rmdir()
    scratch = parent / f"{os.getpid()}-{secrets.token_hex(3)}"
    scratch.mkdir()
    return scratch


def _tell(holder: subprocess.Popen[bytes], line: str) -> None:
    if holder.stdin is not None:
        holder.stdin.write(line.encode() + b"\n")
        holder.stdin.flush()


def _expect(holder: subprocess.Popen[bytes], word: str) -> str:
    line = holder.stdout.readline().decode() if holder.stdout is not None else ""
    said, _, rest = line.strip().partition(" ")
    if said != word:
        raise HostError(
            "the kernel refuses polyarch a user namespace of its own",
            detail=rest or "the holder of the namespace ended without a word",
            hint="run `polyarch doctor`: it names what is missing and the command that mends it",
        )
    return rest
