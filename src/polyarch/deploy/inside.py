"""The last steps before a program of an image runs: a script inside polyarch's namespace, standard library only.

A mount namespace of its own with the container's root as its root (pivot_root(2)), /proc, /sys, /dev and the user's
volumes in it, the capabilities that docker leaves a container, the image's user; then the program takes this process
over, with the very stdin, stdout and stderr that polyarch was given.

The wish is one JSON argument: `root`, `argv`, `env` (object), `user`, `workdir`, `volumes` (list of [host, path, ro]).
Why a program does not start is said on the descriptor in POLYARCH_STATUS, and the exit code is a shell's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000  # linux/sched.h
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18  # linux/mount.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MNT_DETACH = 2
PR_CAPBSET_DROP = 24  # linux/prctl.h
# linux/capability.h: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
# sys_chroot, mknod, audit_write, setfcap: what docker and podman leave.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
_LAST_CAPABILITY = 40
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_MOST_LINKS = 40  # as the kernel (path_resolution(7))

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Prepare, and become the program; returns only when that fails."""
    wish = json.loads(sys.argv[1])
    status = int(os.environ["POLYARCH_STATUS"])
    os.set_inheritable(status, False)  # closed when the program starts
    try:
        _enter(Path(wish["root"]), wish["volumes"])
        uid, gid, groups, home = _user(wish["user"])
        env = {"HOME": home, **wish["env"]}
        _give_up_capabilities()
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        os.chdir(wish["workdir"] or "/")
    except (OSError, LookupError) as error:
        return _say(status, _NOT_EXECUTABLE, str(error))
    try:
        os.execvpe(wish["argv"][0], wish["argv"], env)  # noqa: S606 - a list, no shell
    except OSError as error:
        found = error.errno not in {errno.ENOENT, errno.ENOTDIR}
        return _say(status, _NOT_EXECUTABLE if found else _NOT_FOUND, os.strerror(error.errno or 0))


def _enter(root: Path, volumes: list[list[str]]) -> None:
    """Make `root` this process's root, with what a program expects to find mounted."""
    _check("unshare", _libc.unshare(CLONE_NEWNS))
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    _mount(str(root), str(root), flags=MS_BIND | MS_REC)
    _kernel_folders(root)
    for name in ("resolv.conf", "hosts"):
        if Path("/etc", name).exists():
            _bind(f"/etc/{name}", root, f"/etc/{name}", read_only=True)
    for host, path, read_only in volumes:
        _bind(host, root, path, read_only=bool(read_only))
    os.chdir(root)
    _check("pivot_root", _libc.pivot_root(b".", b"."))
    _check("umount", _libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def _kernel_folders(root: Path) -> None:
    for name in ("proc", "sys", "dev"):
        (root / name).mkdir(exist_ok=True)
    _mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _mount("/sys", f"{root}/sys", flags=MS_BIND | MS_REC)
    _mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", flags=MS_BIND)
    for name, target in _LINKS.items():
        (root / "dev" / name).symlink_to(target)
    for name, kind, options in (("shm", "tmpfs", "mode=1777"), ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620")):
        (root / "dev" / name).mkdir()
        _mount(kind, f"{root}/dev/{name}", kind, MS_NOSUID | MS_NOEXEC, options)
    (root / "dev" / "ptmx").symlink_to("pts/ptmx")


def _bind(host: str, root: Path, path: str, *, read_only: bool) -> None:
    """Mount a file or folder of the host; what it is mounted on is made, and never leads out of the root."""
    target = _within(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(host).is_dir():
        target.mkdir(exist_ok=True)
    elif not target.exists():
        target.touch()
    _mount(host, str(target), flags=MS_BIND | MS_REC)
    if read_only:
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)  # flags that a namespace may not take off
        _mount("none", str(target), flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def _within(root: Path, path: str) -> Path:
    """The path inside the root, symbolic links taken as the container would take them."""
    parts, found, hops = [part for part in reversed(path.split("/")) if part], root, 0
    while parts:
        part = parts.pop()
        if part == "..":
            found = found.parent if found != root else root
        elif (found / part).is_symlink() and hops < _MOST_LINKS:
            target = str((found / part).readlink())
            found, hops = (root if target.startswith("/") else found), hops + 1
            parts += [piece for piece in reversed(target.split("/")) if piece and piece != "."]
        elif part != ".":
            found /= part
    return found


def _user(text: str) -> tuple[int, int, list[int], str]:
    """Uid, gid, groups and home of `USER[:GROUP]`, names by the image's own files (passwd(5), group(5))."""
    name, _, group = text.partition(":")
    name = name or "0"
    users = [line for line in _entries("/etc/passwd") if len(line) > 5]
    known = next((line for line in users if line[0] == name or line[2] == name), None)
    if known is None and not name.isdigit():
        raise LookupError(f"the image has no user {name}")
    uid = int(known[2]) if known else int(name)
    home = known[5] if known else "/"
    teams = [line for line in _entries("/etc/group") if len(line) > 3]
    if group:
        found = next((line[2] for line in teams if group in line[:1] or group == line[2]), group)
        if not found.isdigit():
            raise LookupError(f"the image has no group {group}")
        return uid, int(found), [int(found)], home
    gid = int(known[3]) if known else 0
    also = [int(line[2]) for line in teams if known and known[0] in line[3].split(",")]
    return uid, gid, sorted({gid, *also}), home


def _entries(path: str) -> list[list[str]]:
    try:
        return [line.split(":") for line in Path(path).read_text(errors="replace").splitlines()]
    except OSError:
        return []


def _give_up_capabilities() -> None:
    for number in range(_LAST_CAPABILITY + 1):
        if number not in _KEPT_CAPABILITIES:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # one that this kernel does not know is no loss


def _mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    made = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, flags, options.encode() or None
    )
    _check(f"mount {source} on {target}", made)


def _check(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _say(status: int, code: int, why: str) -> int:
    os.write(status, why.encode())
    return code


if __name__ == "__main__":
    sys.exit(main())
