"""What each instruction may look like: flags, number of arguments, mounts.

Source: BuildKit `frontend/dockerfile/instructions/parse.go`, `bflag.go` and `commands_runmount.go`.
Every function raises `GrammarError` that says what is wrong; `parse` adds where.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable

from polyarch.dockerfile.model import Argument, Instruction, Mount

_COPY_FLAGS = frozenset({"chown", "chmod", "link", "exclude"})
FLAGS: dict[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": _COPY_FLAGS | {"from", "parents"},
    "ADD": _COPY_FLAGS | {"keep-git-dir", "checksum", "unpack"},
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
_SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_REPEATABLE = frozenset({"mount", "exclude", "device"})
KEYWORDS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD",
    "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
# Least and most arguments (None: any number). ENV and LABEL are counted in pairs.
_COUNTS: dict[str, tuple[int, int | None]] = {
    "ADD": (2, None), "ARG": (1, None), "COPY": (2, None), "ENV": (2, None), "EXPOSE": (1, None), "FROM": (1, 3),
    "HEALTHCHECK": (1, None), "LABEL": (2, None), "MAINTAINER": (1, 1), "RUN": (1, None), "SHELL": (1, None),
    "STOPSIGNAL": (1, 1), "USER": (1, 1), "VOLUME": (1, None), "WORKDIR": (1, 1),
}  # fmt: skip
_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
MOUNT_TYPES = ("bind", "cache", "secret", "ssh", "tmpfs")
_MOUNT_KEYS = frozenset({
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw", "required",
    "size", "id", "sharing", "mode", "uid", "gid", "env",
})  # fmt: skip
_MOUNT_SWITCHES = frozenset({"readonly", "ro", "readwrite", "rw", "required"})
_NOT_PUT_OFF = frozenset({"ONBUILD", "FROM", "MAINTAINER"})


class GrammarError(ValueError):
    """What is wrong with one instruction, and perhaps what was meant."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def check(instruction: Instruction) -> None:
    """Raise `GrammarError` unless BuildKit would accept the instruction's flags and arguments."""
    _check_flags(instruction)
    _check_count(instruction)
    match instruction.keyword:
        case "FROM":
            stage_name(instruction)
        case "ONBUILD":
            _check_trigger(instruction.trigger)
        case "SHELL" if not instruction.json:
            raise GrammarError("SHELL requires its arguments in JSON form")
        case "HEALTHCHECK":
            _check_health(instruction.args)
        case "ENV" | "LABEL" if not all(instruction.args[::2]):
            raise GrammarError(f"{instruction.keyword} names can not be blank")
        case "ARG":
            arguments(instruction)
        case "RUN":
            mounts(instruction)
        case "COPY" if "$" in instruction.flag("from"):
            hint = "give the image a stage (FROM … AS name) and name that"
            raise GrammarError("'--from' takes no variables", hint)


def stage_name(instruction: Instruction) -> str:
    """The name that a FROM gives its stage, in lower case; "" for none."""
    if len(instruction.args) == 1:
        return ""
    if len(instruction.args) != 3 or instruction.args[1].lower() != "as":
        raise GrammarError("FROM requires either one argument, or three: FROM <image> [AS <name>]")
    name = instruction.args[2].lower()
    if not _STAGE_NAME.fullmatch(name):
        raise GrammarError(f"invalid name for a stage: {name!r} (a letter, then letters, digits, - _ .)")
    return name


def arguments(instruction: Instruction) -> tuple[Argument, ...]:
    """The names that an ARG declares, with their unexpanded defaults."""
    found = []
    for word in instruction.args:
        name, equals, default = word.partition("=")
        if not name:
            raise GrammarError("ARG names can not be blank")
        found.append(Argument(name, default if equals else None, instruction.line))
    return tuple(found)


def mounts(instruction: Instruction) -> tuple[Mount, ...]:
    """The mounts of a RUN."""
    values = (flag.partition("=")[2] for flag in instruction.flags if flag.partition("=")[0] == "--mount")
    return tuple(_mount(value) for value in values)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean …?` with the known word most like `word`, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}" if names else ""


def _mount(text: str) -> Mount:
    try:
        words = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise GrammarError(f"--mount={text} is not comma-separated: {error}") from error
    fields: dict[str, str] = {}
    for field in words:
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if key not in _MOUNT_KEYS:
            raise GrammarError(f"unexpected key {key!r} in --mount={text}", nearest(key, _MOUNT_KEYS))
        if not equals and key not in _MOUNT_SWITCHES:
            raise GrammarError(f"invalid field {field!r} in --mount={text}: must be key=value")
        fields[key] = value
    kind = fields.get("type", "bind").lower()
    # A variable may stand for the type only where BuildKit expands it, which is at build time.
    if kind not in MOUNT_TYPES and "$" not in kind:
        raise GrammarError(f"unsupported mount type {kind!r}", nearest(kind, MOUNT_TYPES))
    if "$" in fields.get("from", ""):
        hint = "give the image a stage (FROM … AS name) and name that"
        raise GrammarError("'from' of a mount takes no variables", hint)
    target = fields.get("target") or fields.get("dst") or fields.get("destination") or ""
    return Mount(kind, fields.get("from", ""), target)


def _check_flags(instruction: Instruction) -> None:
    known = FLAGS.get(instruction.keyword, frozenset())
    seen: set[str] = set()
    for flag in instruction.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in known:
            hint = nearest(f"--{name}", [f"--{flag}" for flag in known])
            raise GrammarError(f"unknown flag --{name} of {instruction.keyword}", hint)
        if name in seen and name not in _REPEATABLE:
            raise GrammarError(f"flag --{name} is given twice")
        seen.add(name)
        if name in _SWITCHES:
            if equals and value.lower() not in {"true", "false"}:
                raise GrammarError(f"flag --{name} is true or false, not {value!r}")
        elif not equals:
            raise GrammarError(f"missing a value on flag --{name}")


def _check_count(instruction: Instruction) -> None:
    least, most = _COUNTS.get(instruction.keyword, (0, None))
    count = len(instruction.args)
    if count < least:
        wanted = "two arguments" if least == 2 else "one argument"
        raise GrammarError(f"{instruction.keyword} requires at least {wanted}")
    if most is not None and count > most:
        raise GrammarError(f"{instruction.keyword} takes at most {most} argument{'s' if most > 1 else ''}")


def _check_trigger(trigger: Instruction | None) -> None:
    if trigger is None:
        raise GrammarError("ONBUILD requires at least one argument")
    if trigger.keyword in _NOT_PUT_OFF:
        raise GrammarError(f"{trigger.keyword} isn't allowed as an ONBUILD trigger")
    check(trigger)


def _check_health(args: tuple[str, ...]) -> None:
    kind = args[0].upper()
    if kind == "NONE" and len(args) > 1:
        raise GrammarError("HEALTHCHECK NONE takes no arguments")
    if kind == "CMD" and len(args) < 2:
        raise GrammarError("missing command after HEALTHCHECK CMD")
    if kind not in {"NONE", "CMD"}:
        raise GrammarError(f"unknown type {args[0]!r} of HEALTHCHECK (CMD or NONE)")
