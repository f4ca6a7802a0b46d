"""Whether what an image runs can be run: the program, and every interpreter behind it.

Sources: OCI image-spec `config.md` (Entrypoint, Cmd), execve(2) (`#!` and PT_INTERP), and the PATH that engines set
when an image sets none (containers/common `pkg/config`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from polyarch.oci.model import RunConfig
from polyarch.verify.facts import Kind
from polyarch.verify.root import Found, Root

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ORIGIN: Final = re.compile(r"\$(ORIGIN|\{ORIGIN\})")
_MOST_INTERPRETERS: Final = 4  # how deep Linux follows `#!`


@dataclass(frozen=True, slots=True)
class Problem:
    """A code, where and why."""

    code: str
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Closure:
    """The files that start the image, each where links lead to, and what keeps them from starting.

    `libraries` are the folders, absolute, in which the loader looks for theirs beside its own.
    """

    paths: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    libraries: tuple[str, ...] = ()


def search_path(config: RunConfig | None) -> tuple[str, ...]:
    """The folders of PATH that programs of this image are looked up in."""
    stated = [entry[5:] for entry in (config.env if config else None) or () if entry.startswith("PATH=")]
    return tuple((stated[-1] if stated else _PATH).split(":"))


def closure(root: Root, config: RunConfig | None) -> Closure:
    """Follow Entrypoint and Cmd through links and interpreters."""
    entry, command = tuple((config and config.entrypoint) or ()), tuple((config and config.cmd) or ())
    words = entry + command
    if config is None or not words or not words[0]:
        return Closure(problems=(Problem("entrypoint-none", "", "neither Entrypoint nor Cmd is set"),))
    walk = _Walk(root, search_path(config), config.working_dir or "/")
    walk.program(words[0], "entrypoint-missing", words[0])
    if entry and command and command[0].startswith("/"):
        # An entrypoint often ends up executing its argument; one that is not there may be no path at all.
        walk.perhaps(command[0])
    return Closure(tuple(walk.paths), tuple(walk.problems), tuple(_libraries(root, config, walk.paths)))


def _libraries(root: Root, config: RunConfig, programs: Sequence[str]) -> Iterator[str]:
    """LD_LIBRARY_PATH, the programs' own RUNPATH, and ld.so.conf(5), each folder where links lead to."""
    env = dict(entry.partition("=")[::2] for entry in config.env or ())
    stated = env.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    for number, layer in enumerate(root.layers):
        for path, folders in layer.searched.items():
            if not root.hidden(path, number) and (path in programs or path.startswith("etc/")):
                origin = "/" + path.rpartition("/")[0]
                stated += [_ORIGIN.sub(origin.replace("\\", r"\\"), folder) for folder in folders.split(":")]
    for folder in dict.fromkeys(stated):
        found = root.resolve(folder) if folder.startswith("/") else None
        if found is not None and found.kind is Kind.DIRECTORY:
            yield f"/{found.path}"


class _Walk:
    """One walk along a chain of interpreters."""

    def __init__(self, root: Root, folders: Sequence[str], working_dir: str) -> None:
        self._root = root
        self._folders = folders
        self._base = working_dir
        self.paths: list[str] = []
        self.problems: list[Problem] = []

    def perhaps(self, path: str) -> None:
        """Take a program into the closure if it is one."""
        found = self._root.resolve(path)
        if found is not None and found.kind is Kind.EXECUTABLE:
            self.paths.append(found.path)

    def program(self, name: str, missing: str, wanted_by: str, depth: int = 0) -> None:
        """Look a program up as execvp(3) does, and judge it with what it needs."""
        found = self._lookup(name)
        if found is None:
            where = "" if "/" in name else f" in {':'.join(self._folders)}"
            why = "" if wanted_by == name else f", which {wanted_by} needs"
            self._problem(missing, name if "/" in name else "", f"{name} is not in the image{where}{why}")
        elif found.kind is not Kind.EXECUTABLE:
            self._problem("entrypoint-not-executable", found.path, f"{name} is no executable file")
        elif depth > _MOST_INTERPRETERS:
            self._problem("interpreter-missing", found.path, "scripts that interpret each other without end")
        else:
            self.paths.append(found.path)
            self._needs(found, depth)

    def _needs(self, found: Found, depth: int) -> None:
        layer = self._root.layers[found.layer]
        script = layer.scripts.get(found.path)
        if script is not None:
            self._script(found.path, script, depth)
        elif found.path in layer.interpreters:
            self._loader(found.path, layer.interpreters[found.path])
        elif found.path not in layer.elves and not any(
            f.code == "elf-malformed" and f.path == found.path for f in layer.faults
        ):
            self._problem("entrypoint-format", found.path, "neither ELF nor a script with #!")

    def _script(self, path: str, line: str, depth: int) -> None:
        words = line.split(None, 1)
        if not words:
            self._problem("entrypoint-format", path, "#! names no interpreter")
            return
        self.program(words[0], "interpreter-missing", f"/{path}", depth + 1)
        if words[0].rpartition("/")[2] == "env" and len(words) > 1:
            command = _behind_env(words[1])
            if command:
                self.program(command, "interpreter-missing", f"/{path}", depth + 1)

    def _loader(self, path: str, loader: str) -> None:
        found = self._root.resolve(loader)
        if found is None or found.kind not in (Kind.EXECUTABLE, Kind.FILE):
            self._problem("interpreter-missing", path, f"{loader}, which /{path} needs, is not in the image")
        else:
            self.paths.append(found.path)

    def _lookup(self, name: str) -> Found | None:
        if "/" in name:
            return self._root.resolve(name, self._base)
        candidates = [self._root.resolve(f"{folder}/{name}", self._base) for folder in self._folders if folder]
        present = [found for found in candidates if found is not None and found.kind is not Kind.DIRECTORY]
        return next((found for found in present if found.kind is Kind.EXECUTABLE), present[0] if present else None)

    def _problem(self, code: str, path: str, message: str) -> None:
        self.problems.append(Problem(code, path, message))


def _behind_env(arguments: str) -> str:
    """The program in `#!/usr/bin/env [-S] [NAME=VALUE]… PROGRAM`."""
    try:
        words = shlex.split(arguments)
    except ValueError:
        return ""
    return next((word for word in words if not word.startswith("-") and "=" not in word), "")
