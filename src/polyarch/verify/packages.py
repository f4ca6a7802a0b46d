"""Which release a base is, and of which packages: what two platforms' bases are compared by.

Sources: deb-control(5) as in `/var/lib/dpkg/status` (and `status.d/` of distroless images), apk's
`/lib/apk/db/installed`, os-release(5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from polyarch.errors import ProofError
from polyarch.verify.scan import clean
from polyarch.verify.streams import CorruptError, expand, sniff
from polyarch.verify.tape import MalformedError, Tape, walk

_WANTED: Final = re.compile(
    r"(etc/os-release|usr/lib/os-release|var/lib/dpkg/status|var/lib/dpkg/status\.d/[^/]+|(usr/)?lib/apk/db/installed)$"
)
_RPM: Final = re.compile(r"(var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/(rpmdb\.sqlite|Packages(\.db)?)$")
_FIELD: Final = re.compile(r"^([A-Za-z][A-Za-z-]*):[ ]?(.*)$", re.MULTILINE)
_REBUILT: Final = re.compile(r"\+b\d+$")  # Debian builds a package anew on one architecture: the same source
_IDENTITY: Final = ("ID", "VERSION_ID", "VERSION_CODENAME")
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package; `independent` of the architecture (`all`, `noarch`), `library` when others need it only.

    `version` is that of the source, without Debian's count of rebuilds.
    """

    name: str
    version: str
    independent: bool
    library: bool


@dataclass(frozen=True, slots=True)
class Release:
    """A base: its identity of os-release, and its packages by name. `unread`: a package database of another kind."""

    identity: tuple[str, ...]
    packages: Mapping[str, Package]
    unread: str = ""


def texts_of(chunks: Iterable[bytes]) -> dict[str, str]:
    """Path -> text of what one layer says of packages and release; a removed file is "".

    Raises `ProofError` for a damaged layer, `HostError` for a zstd layer without zstandard.
    """
    try:
        return _texts_of(chunks)
    except (CorruptError, MalformedError) as problem:
        raise ProofError(f"a layer of a base cannot be read to its end: {problem}") from problem


def _texts_of(chunks: Iterable[bytes]) -> dict[str, str]:
    blob = iter(chunks)
    head = next(blob, b"")
    found: dict[str, str] = {}
    for member, content in walk(Tape(expand(chain([head], blob), sniff(head[:512])))):
        path = clean(member.name) or ""
        visible = path.replace("/.wh.", "/")
        if _WANTED.match(visible):
            removed = visible != path
            found[visible] = "" if removed else content.take(content.left).decode("utf-8", "replace")
        elif _RPM.match(path):
            found[path] = "rpm"
    return found


def release(layers: Sequence[Mapping[str, str]]) -> Release:
    """What the layers of a base (`texts_of` each, lowest first) say together."""
    texts: dict[str, str] = {}
    for layer in layers:
        texts |= layer
    said = texts.get("etc/os-release") or texts.get("usr/lib/os-release", "")
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', said, re.MULTILINE))
    packages: dict[str, Package] = {}
    for path, text in texts.items():
        if path.startswith("var/lib/dpkg/"):
            packages |= {package.name: package for package in _debian(text)}
        elif path.endswith("apk/db/installed"):
            packages |= {package.name: package for package in _alpine(text)}
    unread = next((path for path, text in texts.items() if text == "rpm"), "")
    return Release(tuple(fields.get(name, "") for name in _IDENTITY), packages, unread)


def compare(native: Release, target: Release) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Two bases of one name on two platforms: what makes them two releases, and what differs by architecture alone.

    Only libraries may be on one side alone: what an architecture's own packages need.
    """
    if native.unread or target.unread:
        return (f"packages in {native.unread or target.unread} cannot be compared",), ()
    if not native.packages and not target.packages:
        return ("the bases have no list of packages to compare",), ()
    problems = []
    if native.identity != target.identity:
        problems.append(f"release {' '.join(native.identity)} and {' '.join(target.identity)}")
    common = native.packages.keys() & target.packages.keys()
    pairs = [(native.packages[name], target.packages[name]) for name in sorted(common)]
    problems += [
        f"{one.name} {one.version} and {other.version}" for one, other in pairs if one.version != other.version
    ]
    alone = [
        (package, side)
        for side, mine, theirs in (("the native base", native, target), ("the target's base", target, native))
        for package in mine.packages.values()
        if package.name not in theirs.packages
    ]
    problems += [f"{package.name} is in {side} only" for package, side in alone if not _by_architecture(package)]
    notes = [f"{package.name} is in {side} only" for package, side in alone if _by_architecture(package)]
    return _short(problems), _short(notes)


def dump(texts: Mapping[str, str]) -> str:
    """A text that `load` reads."""
    return json.dumps(texts)


def load(text: str) -> dict[str, str]:
    """What `dump` wrote. Raises `ValueError` for anything else."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not the texts of a layer")
    return found


def _by_architecture(package: Package) -> bool:
    return package.library and not package.independent


def _short(lines: Sequence[str]) -> tuple[str, ...]:
    over = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"{over} more") if over > 0 else tuple(lines)


def _debian(text: str) -> Iterable[Package]:
    for paragraph in text.split("\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        status = fields.get("Status", "install ok installed")  # files of status.d have none
        if fields.get("Package") and status.endswith(" installed"):
            version = _REBUILT.sub("", fields.get("Version", ""))
            library = fields.get("Section", "").rpartition("/")[2] in {"libs", "oldlibs"}
            yield Package(fields["Package"], version, fields.get("Architecture") == "all", library)


def _alpine(text: str) -> Iterable[Package]:
    for paragraph in text.split("\n\n"):
        fields = dict(_FIELD.findall(paragraph))
        if fields.get("P"):
            yield Package(fields["P"], fields.get("V", ""), fields.get("A") == "noarch", library=False)
