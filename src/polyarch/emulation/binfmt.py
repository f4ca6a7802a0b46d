"""Handlers in a table of binfmt_misc: the lines that register them, the entries that show them, and who serves whom.

Source: `Documentation/admin-guide/binfmt-misc.rst` and `fs/binfmt_misc.c` (`entry_status`, `create_entry`). Everything
takes the mount point, for there may be more than one table: the host's, and (Linux >= 6.7) one per user namespace.
`install` and `remove` are for the host's, and undo each other exactly.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyarch import run
from polyarch.arch import ARCHES, Arch, Platform, host_platform
from polyarch.emulation import emulators
from polyarch.errors import HostError, InputError

MOUNT = Path("/proc/sys/fs/binfmt_misc")
STATE = Path("/run/polyarch")
PREFIX = "polyarch-"
SAFE = "PF"  # preserve argv[0]; keep the interpreter open, so that it works in every root
CREDENTIALS = "PCF"  # also take setuid and file capabilities from the program: `sudo` works, at a risk

_CONTROL = ("register", "status")
_FLAG_ORDER = "POCF"  # as entry_status() prints them
_MAX_INTERPRETER = 127
_HEADER_SIZE = 128  # what the kernel reads of a program at the least (BINPRM_BUF_SIZE before 5.1)
_ET_EXEC, _ET_DYN = 2, 3


@dataclass(frozen=True, slots=True)
class Handler:
    """One entry of a table. `flags` are in the kernel's order; `magic` is empty where a file extension decides."""

    name: str
    enabled: bool
    interpreter: Path
    flags: str
    magic: bytes
    mask: bytes
    offset: int = 0

    @property
    def works_in_roots(self) -> bool:
        """Whether it works inside a container's root, where the interpreter's path does not exist (flag F)."""
        return "F" in self.flags

    @property
    def ours(self) -> bool:
        """Whether polyarch registered it."""
        return self.name.startswith(PREFIX)

    def serves(self, platform: Platform) -> bool:
        """Whether the kernel gives programs of `platform` (ET_EXEC and ET_DYN) to this handler."""
        return self.enabled and bool(self.magic) and all(map(self._matches, headers(ARCHES[platform])))

    def _matches(self, header: bytes) -> bool:
        mask = self.mask or b"\xff" * len(self.magic)
        part = header[self.offset : self.offset + len(self.magic)]
        return len(part) == len(self.magic) and all(
            (h ^ m) & k == 0 for h, m, k in zip(part, self.magic, mask, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What `install` or `remove` did to the table, and what it found as it should be."""

    mounted: bool = False
    unmounted: bool = False
    registered: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    served_by_others: tuple[tuple[Platform, str], ...] = ()

    def __bool__(self) -> bool:
        return self.mounted or self.unmounted or bool(self.registered or self.removed)


def handler(arch: Arch, interpreter: Path, flags: str = SAFE, name: str = "") -> Handler:
    """The entry that gives programs of `arch` to `interpreter`, named `polyarch-<qemu's name>` unless `name` is given.

    Raises `InputError` for what the kernel would refuse or misread.
    """
    name = name or PREFIX + arch.qemu
    if not re.fullmatch(r"[^/:\n]+", name) or name in (".", "..", *_CONTROL):
        raise InputError(f"{name!r} cannot name a binfmt_misc handler")
    text = str(interpreter)
    if not interpreter.is_absolute() or len(text.encode()) > _MAX_INTERPRETER or re.search(r"[:\n\\]", text):
        raise InputError(
            f"{text!r} cannot be the interpreter of a binfmt_misc handler",
            hint=f"give an absolute path of at most {_MAX_INTERPRETER} bytes without `:`",
        )
    return Handler(name, True, interpreter, _normal(flags), arch.binfmt_magic, arch.binfmt_mask)


def registration_line(arch: Arch, interpreter: Path, flags: str = SAFE, name: str = "") -> bytes:
    """What is written to `register`: `:name:M:offset:magic:mask:interpreter:flags`; raises as `handler` does."""
    return line(handler(arch, interpreter, flags, name))


def line(entry: Handler) -> bytes:
    """The registration line of an entry that goes by magic."""
    fields = ("", entry.name, "M", str(entry.offset), _escape(entry.magic), _escape(entry.mask), str(entry.interpreter))
    return ":".join((*fields, entry.flags)).encode()


def parse_entry(name: str, text: str) -> Handler:
    """Read the file of one entry: `enabled`, `interpreter …`, `flags: …`, `offset …`, `magic …`, `mask …`."""
    first, _, rest = text.partition("\n")
    fields: dict[str, str] = {}
    for row in rest.splitlines():
        key, _, value = row.partition(" ")
        fields[key.rstrip(":")] = value
    return Handler(
        name=name,
        enabled=first.strip() == "enabled",
        interpreter=Path(fields.get("interpreter", "")),
        flags=_normal(fields.get("flags", "").strip()),
        magic=bytes.fromhex(fields.get("magic", "")),
        mask=bytes.fromhex(fields.get("mask", "")),
        offset=int(fields.get("offset", "0")),
    )


def headers(arch: Arch) -> tuple[bytes, bytes]:
    """The beginnings (128 bytes) of a position-dependent and of a position-independent program of `arch`."""
    start = arch.binfmt_magic
    first, second = (
        (start[:16] + kind.to_bytes(2, arch.byteorder) + start[18:]).ljust(_HEADER_SIZE, b"\x00")
        for kind in (_ET_EXEC, _ET_DYN)
    )
    return first, second


def mounted(mount: Path = MOUNT) -> bool:
    """Whether a table is there; asking makes systemd's automount mount it."""
    return (mount / "register").exists()


def switched_on(mount: Path = MOUNT) -> bool:
    """Whether the table as a whole is in force (`status` says `enabled`)."""
    try:
        return (mount / "status").read_text().strip() == "enabled"
    except OSError:
        return False


def status(mount: Path = MOUNT) -> list[Handler]:
    """All entries of the table, by name; none when it is not mounted. Entries that vanish meanwhile are left out."""
    found = []
    for path in sorted(mount.iterdir()) if mounted(mount) else ():
        if path.name in _CONTROL:
            continue
        try:
            found.append(parse_entry(path.name, path.read_text()))
        except FileNotFoundError:
            continue
    return found


def serving(handlers: Iterable[Handler], platform: Platform) -> tuple[Handler, ...]:
    """Those that serve `platform`; what works in every root first."""
    return tuple(sorted((h for h in handlers if h.serves(platform)), key=lambda h: not h.works_in_roots))


def register(entry: Handler, mount: Path = MOUNT) -> None:
    """Put `entry` into the table, in place of one of the same name. Raises `HostError` when the kernel refuses."""
    if (mount / entry.name).exists():
        unregister(entry.name, mount)
    _write(mount / "register", line(entry), f"the kernel refused the handler {entry.name} for {entry.interpreter}")


def unregister(name: str, mount: Path = MOUNT) -> None:
    """Take the entry `name` out of the table; raises `HostError` when the kernel refuses."""
    _write(mount / name, b"-1", f"the kernel refused to remove the handler {name}")


def install(
    platforms: Sequence[Platform], credentials: bool = False, *, mount: Path = MOUNT, state: Path = STATE
) -> Changes:
    """Make the host run programs of `platforms`, in every root, until the next boot or `remove`.

    Mounts the table if it is not there. A handler of someone else that already does it is left alone. With
    `credentials` setuid programs keep their rights (flag C). Raises `HostError` without root's rights, without an
    emulator, or when binfmt_misc is switched off; nothing has changed in the first two cases.
    """
    _need_root("install", platforms, *(["--credentials"] if credentials else []))
    foreign = [p for p in dict.fromkeys(platforms) if p != host_platform()]
    wanted = {p: _wanted(p, CREDENTIALS if credentials else SAFE) for p in foreign}
    newly_mounted = _mount(mount, state)
    if not switched_on(mount):
        raise HostError("binfmt_misc is switched off", hint=f"echo 1 | sudo tee {mount}/status")
    registered, unchanged, others = [], [], []
    for platform, entry in wanted.items():
        present = status(mount)
        other = next((h for h in present if not h.ours and _suffices(h, entry, platform)), None)
        if other:
            others.append((platform, other.name))
        elif entry in present:
            unchanged.append(entry.name)
        else:
            register(entry, mount)
            registered.append(entry.name)
    # Variants of arm share one handler: the second one finds it as it should be, which is no news.
    rest = tuple(dict.fromkeys(name for name in unchanged if name not in registered))
    return Changes(
        mounted=newly_mounted, registered=tuple(registered), unchanged=rest, served_by_others=tuple(others)
    )  # fmt: skip


def remove(platforms: Sequence[Platform] = (), *, mount: Path = MOUNT, state: Path = STATE) -> Changes:
    """Undo `install` for `platforms` (all of them when none is named): only what polyarch registered and mounted.

    The table is unmounted when `install` mounted it and nothing of anyone is left in it. Raises `HostError` without
    root's rights.
    """
    _need_root("remove", platforms)
    names = {PREFIX + ARCHES[platform].qemu for platform in platforms}
    removed = tuple(h.name for h in status(mount) if h.ours and (not names or h.name in names))
    for name in removed:
        unregister(name, mount)
    unmounted = _note(state).exists() and mounted(mount) and not status(mount)
    if unmounted:
        run.capture(["umount", str(mount)])
        _note(state).unlink()
        if not any(state.iterdir()):
            state.rmdir()
    return Changes(unmounted=unmounted, removed=removed)


def _need_root(verb: str, platforms: Sequence[Platform], *options: str) -> None:
    if os.geteuid() != 0:
        command = ["sudo", "polyarch", "emulation", verb, *options, *map(str, platforms)]
        raise HostError("the host's table of binfmt_misc belongs to root", hint=run.show(command))


def _wanted(platform: Platform, flags: str) -> Handler:
    emulator = emulators.find(platform)
    if emulator is None:
        raise HostError(
            f"there is no statically linked emulator for {platform}", hint=f"apt-get install {emulators.PACKAGE}"
        )
    return handler(ARCHES[platform], emulator.path, flags)


def _suffices(other: Handler, entry: Handler, platform: Platform) -> bool:
    """Whether `other` gives programs of `platform` all that `entry` would."""
    return other.serves(platform) and other.works_in_roots and ("C" in other.flags or "C" not in entry.flags)


def _mount(mount: Path, state: Path) -> bool:
    """Mount the table unless it is there; note that we did, for `remove`. True when mounted now."""
    if mounted(mount):
        return False
    done = run.capture(["mount", "-t", "binfmt_misc", "binfmt_misc", str(mount)], check=False)
    if not done.ok:
        raise HostError(
            "binfmt_misc cannot be mounted", detail=done.stderr.strip(), hint="sudo modprobe binfmt_misc"
        )  # fmt: skip
    state.mkdir(parents=True, exist_ok=True)
    _note(state).write_text(json.dumps({"mounted": str(mount)}) + "\n")
    return True


def _note(state: Path) -> Path:
    return state / "binfmt.json"


def _write(path: Path, data: bytes, refused: str) -> None:
    """One unbuffered write(2), for the kernel takes each write as one command."""
    try:
        with path.open("wb", buffering=0) as file:
            file.write(data)
    except OSError as error:
        raise HostError(refused, detail=f"{path}: {error.strerror}") from error


def _normal(flags: str) -> str:
    """Flags in the kernel's order; C implies O."""
    present = set(flags) | ({"O"} if "C" in flags else set())
    return "".join(flag for flag in _FLAG_ORDER if flag in present)


def _escape(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
