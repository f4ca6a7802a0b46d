"""The process that holds polyarch's own namespaces open; run as a script, standard library only (user_namespaces(7)).

It unshares user, mount and PID namespaces, waits until its parent has written the id maps, and becomes (through one
fork) PID 1 of the new PID namespace: when it goes, the kernel ends everything in there and every mount with it. It
goes when its standard input closes, so that nothing survives polyarch, whatever killed it.

Talk on stdin: one JSON line `{"scratch": PATH, "register": [LINE, …], "table": [FROM, TO]}` (bytes as latin-1; the
table is the dispatcher's, or empty), then `go`.
Talk on stdout: `unshared PID`, `init PID`, then `ready` or `failed WHAT: WHY`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MS_REC_PRIVATE = 0x44000  # linux/mount.h: MS_REC | MS_PRIVATE
MS_BIND = 0x1000
MS_REMOUNT_READ_ONLY = 0x21  # MS_REMOUNT | MS_RDONLY
# Flags of statvfs(3) and of mount(2): what a mount of the host's has, a bind of it must keep (mount_namespaces(7)).
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Unshare, have the ids mapped, start PID 1, and wait for it."""
    wishes = json.loads(sys.stdin.buffer.readline())
    try:
        _call("unshare", _libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID))
    except OSError as error:
        _say(f"failed {error}")
        return 1
    _say(f"unshared {os.getpid()}")
    if sys.stdin.buffer.readline() != b"go\n":
        return 1
    os.setgid(0)
    os.setuid(0)
    told, tell = os.pipe()
    init = os.fork()
    if init == 0:
        os.read(told, 1)  # the parent speaks first: two writers share one stdout
        return _init(wishes)
    _say(f"init {init}")
    os.write(tell, b"x")
    os.waitpid(init, 0)
    return 0


def _init(wishes: dict[str, object]) -> int:
    """PID 1: mount, register, and stay until stdin closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel
    scratch = str(wishes["scratch"])
    try:
        _mount("none", "/", None, MS_REC_PRIVATE)
        _mount("proc", "/proc", "proc")
        _mount("tmpfs", scratch, "tmpfs")
        lines = wishes["register"]
        if isinstance(lines, list) and lines:
            _register(f"{scratch}/binfmt_misc", [str(line).encode("latin-1") for line in lines])
        table = wishes["table"]
        if isinstance(table, list) and table:
            _show_table(str(table[0]), str(table[1]), Path(scratch, "count"))
    except OSError as error:
        _say(f"failed {error}")
        return 1
    _say("ready")
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    return 0


def _register(where: str, lines: list[bytes]) -> None:
    """A binfmt_misc instance of this user namespace (Linux 6.7), with one handler a line."""
    Path(where).mkdir()
    _mount("binfmt_misc", where, "binfmt_misc")
    for line in lines:
        Path(where, "register").write_bytes(line)


def _show_table(table: str, where: str, count: Path) -> None:
    """Bind the dispatcher's table, read-only, and in it a folder with the log that any user of a build may write."""
    count.mkdir()
    log = count / "log"
    log.touch()
    log.chmod(0o666)
    _mount(table, where, None, MS_BIND)
    flags = os.statvfs(where).f_flag
    kept = sum(mount for stat, mount in _KEPT.items() if flags & stat)
    _mount("none", where, None, MS_BIND | MS_REMOUNT_READ_ONLY | kept)
    _mount(str(count), f"{where}/count", None, MS_BIND)


def _mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    made = _libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, None)
    _call(f"mount {kind or 'private'}", made)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
