"""The build context: which files of a folder a builder may copy, and one digest of them.

The patterns of `.dockerignore` are matched by `e2b_dockerfile_utils`, a port of `moby/patternmatcher` (last match wins,
a pattern that matches a folder takes all below it, `!` brings back); gitignore rules, as `pathspec` knows them, differ.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2b_dockerfile_utils import PatternMatcher

from polyarch.errors import InputError

_LINK = b"link "


@dataclass(frozen=True, slots=True)
class Ignore:
    """The patterns of one ignore file."""

    matcher: PatternMatcher | None

    def ignores(self, path: str) -> bool:
        """Whether builders must not see `path` (slashes, relative to the context)."""
        return self.matcher is not None and self.matcher.matches(path)

    def may_revive(self, folder: str) -> bool:
        """Whether a `!` pattern could bring back something below an ignored folder."""
        return self.matcher is not None and self.matcher.may_match_under(folder)


def ignore_file(root: Path, dockerfile: Path) -> Path | None:
    """The ignore file in force: `<Dockerfile>.dockerignore` beside the Dockerfile, else the context's, else None."""
    for path in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), root / ".dockerignore"):
        if path.is_file():
            return path
    return None


def load_ignore(path: Path | None) -> Ignore:
    """Read an ignore file. Raises `InputError` with the line of a pattern that is none, or when it cannot be read."""
    if path is None:
        return Ignore(None)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", detail=str(error)) from error
    return parse_ignore(text, str(path))


def parse_ignore(text: str, name: str) -> Ignore:
    """Read the text of an ignore file that messages call `name`. Raises `InputError` with the line."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            PatternMatcher([line])
        except ValueError as error:
            raise InputError(f"{name} is not valid", detail=f"{name}:{number}: {error}") from error
    matcher = PatternMatcher(lines)
    return Ignore(matcher if matcher.patterns else None)


def context_files(root: Path, ignore: Ignore) -> list[str]:
    """Relative paths of all files, links and folders that are not ignored, and the folders that lead to them, sorted.

    Links are not followed; sockets, pipes and devices are left out. Raises `InputError` with the path of a folder that
    cannot be read.
    """
    found: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _scan(root, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            ignored = ignore.ignores(path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and (not ignored or ignore.may_revive(path)):
                waiting.append(path)
            if not ignored and (is_folder or entry.is_symlink() or entry.is_file(follow_symlinks=False)):
                found.add(path)
    leading = {path[:end] for path in found for end in _slashes(path)}
    return sorted(found | leading)


def context_states(root: Path, dockerfile: Path) -> dict[str, bytes]:
    """Path -> type, permission bits, link target and digest of the content of everything that is not ignored, sorted.

    Times, owners (COPY gives files to root) and the order of folders do not count; neither does the Dockerfile where it
    is ignored itself. Raises `InputError` with the path of what cannot be read.
    """
    return {path: _state(root / path) for path in context_files(root, load_ignore(ignore_file(root, dockerfile)))}


def states_digest(states: Mapping[str, bytes], sources: Collection[str] = ("",)) -> str:
    """`sha256:…` over the states of what is at and below these paths ("" is all), of all where a link is among it."""
    wanted = [path for path in states if any(not s or path == s or path.startswith(f"{s}/") for s in sources)]
    above = {source[:end] for source in sources for end in _slashes(source)}
    if any(states[path].startswith(_LINK) for path in (*wanted, *(above & states.keys()))):
        wanted = list(states)
    total = hashlib.sha256()
    for path in wanted:
        name, state = os.fsencode(path), states[path]
        # Lengths in front: no two different trees may give the same bytes.
        total.update(b"%d:%s%d:%s" % (len(name), name, len(state), state))
    return f"sha256:{total.hexdigest()}"


def context_digest(root: Path, dockerfile: Path) -> str:
    """`states_digest` of the whole context."""
    return states_digest(context_states(root, dockerfile))


def folder_digest(root: Path) -> str:
    """`states_digest` of an additional context, of which buildah ignores nothing. Raises as `context_states`."""
    return states_digest({path: _state(root / path) for path in context_files(root, Ignore(None))})


def _scan(root: Path, folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as entries:
            yield from entries
    except OSError as error:
        raise _unreadable(root / folder, error) from error


def _slashes(path: str) -> Iterator[int]:
    end = path.rfind("/")
    while end > 0:
        yield end
        end = path.rfind("/", 0, end)


def _state(path: Path) -> bytes:
    """Everything about one entry that a COPY carries over."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return _LINK + os.fsencode(path.readlink())
        if stat.S_ISDIR(mode):
            return b"folder %o" % stat.S_IMODE(mode)
        with path.open("rb") as content:
            return b"file %o %s" % (stat.S_IMODE(mode), hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot read {path}", detail=error.strerror or str(error), hint="make it readable or name it in .dockerignore"
    )
