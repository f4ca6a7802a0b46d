"""Which twin goes with which foreign file: the same path of the same source version, each as its package brought it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polyarch.arch import Arch
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.elf import Identity, identify
from polyarch.emulation.twins.stamp import stamped
from polyarch.emulation.twins.tree import Tree

# What glibc loads by itself when a thread is cancelled.
_ALWAYS = ("libgcc_s.so.1",)
_ARGV0 = b"--argv0"  # an option that ld.so has since glibc 2.33
_REDIRECT = Path(__file__).with_name("Polyarch.pm")
_FOLDERS = ("usr/lib/{}", "lib/{}", "usr/lib64", "lib64", "usr/lib", "lib")


@dataclass(frozen=True, slots=True)
class Twin:
    """A foreign file (`build_id`, `size`), the native one that stands in for it, and what that loads, by name."""

    tool: Tool
    build_id: str
    size: int
    program: Path
    loader: Path
    libraries: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What became of the tools: twins, and for each other tool why it has none."""

    twins: tuple[Twin, ...]
    missing: tuple[tuple[Tool, str], ...] = ()


def pair(native: Tree, foreign: Tree, tools: Iterable[Tool], host: Arch) -> Coverage:
    """Pair the tools of two trees; `host` is the native one's. Tools that the foreign tree lacks are left out.

    Twins with another architecture's stamp are written into the native tree's folder.
    """
    here, there = native.versions(), foreign.versions()
    twins, missing = [], []
    for tool in tools:
        file = foreign.find(tool.path)
        if file is None:
            continue
        found = _differs(tool, here, there) or _twin(tool, native, foreign, file, host)
        if isinstance(found, Twin):
            twins.append(found)
        else:
            missing.append((tool, found))
    return Coverage(tuple(twins), tuple(missing))


def _differs(tool: Tool, here: dict[str, str], there: dict[str, str]) -> str:
    if tool.package not in there:
        return f"not of package {tool.package}"
    if tool.package not in here:
        return f"no native package {tool.package}"
    if here[tool.package] != there[tool.package]:
        return f"{tool.package} is {there[tool.package]}, native {here[tool.package]}"
    return ""


def _twin(tool: Tool, native: Tree, foreign: Tree, file: Path, host: Arch) -> Twin | str:
    program = native.find(tool.twin or tool.path)
    extra = [native.find(path) for path in tool.files]
    original, other = identify(file), identify(program) if program else None
    if program is None or other is None or not other.loader or None in extra:
        return "no native program"
    if original is None or not original.build_id:
        return "it has no build id"
    changed = _changed(foreign, tool.package, tool.path, file) or _changed(
        native, tool.package, tool.twin or tool.path, program
    )
    if changed:
        return "it is not as its package brought it"
    modules = _modules(tool, native)
    if modules is None:
        return "its modules are not as their package brought them"
    files = {path.name: path for path in extra if path} | modules
    libraries = _closure(native, other, files, host.triplet)
    loader = native.find(other.loader)
    if libraries is None or loader is None:
        return "a library of the native program is missing"
    if _ARGV0 not in loader.read_bytes():
        return "its native loader is too old (glibc 2.33 is needed)"
    made = _stamped(tool, native, program, host) if tool.stamp else program
    if made is None:
        return f"it does not say {host.debian} in one place"
    return Twin(tool, original.build_id, original.size, made, loader, libraries)


def _stamped(tool: Tool, native: Tree, program: Path, host: Arch) -> Path | None:
    data = stamped(program.read_bytes(), host.debian, tool.stamp)
    made = native.path / "stamped" / tool.stamp / tool.name
    if data is not None:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(data)
    return made if data is not None else None


def _changed(tree: Tree, package: str, path: str, file: Path) -> bool:
    """Whether dpkg knows another sum of the file; links in the package (usr-merge) are tried both ways."""
    sums = tree.sums(package)
    known = sums.get(path) or sums.get(path.removeprefix("usr/"))
    return known is not None and known != hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _modules(tool: Tool, native: Tree) -> dict[str, Path] | None:
    """The shared objects of perl's modules and `Polyarch.pm`, by their place; None when one of them was changed."""
    if not tool.modules:
        return {}
    folder, found = native.path / tool.modules, {"perl/Polyarch.pm": _REDIRECT}
    for path in folder.rglob("*.so"):
        name = str(path.relative_to(folder))
        if _changed(native, tool.package, f"{tool.modules}/{name}", path):
            return None
        found[f"perl/{name}"] = path
    return found


def _closure(
    tree: Tree, program: Identity, files: Mapping[str, Path], triplet: str
) -> tuple[tuple[str, Path], ...] | None:
    """Everything that is loaded with the program, under the name that it is asked for by; None when one is missing."""
    found = dict(files)
    todo = [*program.needed, *(name for path in files.values() for name in _needed(path))]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        library = _library(tree, name, triplet)
        if library is None:
            return None
        found[name] = library
        todo += _needed(library)
    for name in _ALWAYS:
        library = _library(tree, name, triplet)
        if library is not None:
            found.setdefault(name, library)
    return tuple(sorted(found.items()))


def _needed(path: Path) -> tuple[str, ...]:
    identity = identify(path)
    return identity.needed if identity else ()


def _library(tree: Tree, name: str, triplet: str) -> Path | None:
    places = (tree.find(f"{folder.format(triplet)}/{name}") for folder in _FOLDERS)
    return next((path for path in places if path is not None), None)
