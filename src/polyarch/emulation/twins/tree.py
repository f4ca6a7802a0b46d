"""The part of an image's root that twins are made of, as a plain folder in the cache.

Only what `wanted` names is unpacked: the package database, the tools of the catalogue and, of the native side, shared
libraries. Files belong to whoever runs polyarch; owners and devices play no part here.
Source: OCI image-spec `layer.md` (whiteouts).
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast
from urllib.parse import unquote

import zstandard

from polyarch.errors import InputError

STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info"
ARCHIVES = "var/cache/apt/archives"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MOST_LINKS = 16
# Builds of one source: Debian's rebuilds (+b1) and cross builds (cross1) carry the source's version and a suffix.
_REBUILT = re.compile(r"(?:cross\d+)?(?:\+b\d+)?$")

Wanted = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked part of a root."""

    path: Path

    def find(self, path: str) -> Path | None:
        """The regular file at `path`, links followed inside the tree; None when there is none."""
        parts, done = [part for part in reversed(path.split("/")) if part], list[str]()
        for _ in range(_MOST_LINKS * 16):
            if not parts:
                found = self.path.joinpath(*done)
                return found if found.is_file() else None
            part = parts.pop()
            if part in ("", ".", ".."):
                done = done[:-1] if part == ".." else done
                continue
            done.append(part)
            here = self.path.joinpath(*done)
            if here.is_symlink():
                target = str(here.readlink())
                done = [] if target.startswith("/") else done[:-1]
                parts += [part for part in reversed(target.split("/")) if part]
        return None

    def versions(self) -> dict[str, str]:
        """Packages and the version of the source they were built of.

        Installed ones (dpkg's status file); in a root that is only unpacked yet, those whose archives lie in apt's
        cache.
        """
        status = self.path / STATUS
        found = {}
        for entry in status.read_text(encoding="utf-8", errors="replace").split("\n\n") if status.exists() else ():
            fields = dict(line.partition(": ")[::2] for line in entry.splitlines() if not line.startswith(" "))
            if fields.get("Status", "").endswith(" installed"):
                found[fields.get("Package", "")] = source_version(fields.get("Version", ""))
        return found or self._archives()

    def _archives(self) -> dict[str, str]:
        """By their names, NAME_VERSION_ARCHITECTURE.deb, quoted as in a URL (apt-pkg/acquire-item.cc)."""
        names = (path.stem.split("_") for path in (self.path / ARCHIVES).glob("*_*_*.deb"))
        return {name: source_version(unquote(version)) for name, version, *_ in names}

    def sums(self, package: str) -> dict[str, str]:
        """Path and MD5 of each file as the package brought it (`<package>.md5sums` of dpkg)."""
        info = self.path / INFO
        found = {}
        for path in (*info.glob(f"{package}.md5sums"), *info.glob(f"{package}:*.md5sums")):
            for line in path.read_text(errors="replace").splitlines():
                value, _, name = line.partition("  ")
                found[name] = value
        return found


def source_version(version: str) -> str:
    """`14.2.0-19cross1` and `14.2.0-19` were built of one source, as `2.0-3+b1` and `2.0-3` were."""
    return _REBUILT.sub("", version)


def unpack(layers: Iterable[BinaryIO], target: Path, wanted: Wanted) -> Tree:
    """Unpack what is wanted of layers (tar, gzip or zstd; lowest first) into a new folder.

    Raises `InputError` for a layer that cannot be read.
    """
    target.mkdir(parents=True)
    for layer in layers:
        try:
            with decompressed(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                _unpack(tar, target, wanted)
        except (tarfile.TarError, OSError, EOFError, zstandard.ZstdError) as error:
            raise InputError("a layer cannot be unpacked", detail=str(error)) from error
    return Tree(target)


def _unpack(tar: tarfile.TarFile, target: Path, wanted: Wanted) -> None:
    for member in tar:
        path = str(PurePosixPath("/", member.name))[1:]
        folder, _, name = path.rpartition("/")
        if ".." in path.split("/") or not _inside(target, folder):
            continue
        if name == _OPAQUE:
            shutil.rmtree(target / folder, ignore_errors=True)
        elif name.startswith(_WHITEOUT):
            _remove(target / folder / name.removeprefix(_WHITEOUT))
        elif member.issym() or (wanted(path) and (member.isfile() or member.islnk())):
            _place(tar, member, target, path)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, path: str) -> None:
    here = target / path
    _remove(here)
    here.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        here.symlink_to(member.linkname)
    elif member.islnk():
        first = target / str(PurePosixPath("/", member.linkname))[1:]
        if first.is_file() and not first.is_symlink():
            here.hardlink_to(first)
    elif (source := tar.extractfile(member)) is not None:
        with here.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        here.chmod(0o755 if member.mode & 0o111 else 0o644)


def _inside(target: Path, folder: str) -> bool:
    """Whether nothing on the way is a link that an image could lead out of the folder with."""
    here = target
    for part in folder.split("/"):
        here = here / part
        if here.is_symlink() or here.is_file():
            return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def decompressed(layer: BinaryIO) -> Iterator[IO[bytes]]:
    """The tar stream in a layer, gzip, zstd or plain by its first bytes."""
    head = layer.read(4)
    layer.seek(0)
    if head[:2] == b"\x1f\x8b":
        with gzip.open(layer) as stream:
            yield cast("IO[bytes]", stream)
    elif head == b"\x28\xb5\x2f\xfd":
        with zstandard.ZstdDecompressor().stream_reader(layer, read_across_frames=True) as reader:
            yield cast("IO[bytes]", reader)
    else:
        yield layer
