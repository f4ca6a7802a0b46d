"""The build context `polyarch-toolchain`: three scripts, and the files of every platform, for `COPY --from=… / /`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from polyarch.dockerfile.lower import GeneratedFile
from polyarch.errors import InputError
from polyarch.toolchain.write import SHARE, cmake_file, elf_file, env_file, meson_file, supported

NAME = "polyarch-toolchain"
_SCRIPTS = Path(__file__).with_name("scripts")
_PROGRAMS = ("cross-apt", "cross-env", "cross-verify")


@cache
def files() -> tuple[GeneratedFile, ...]:
    """Everything in the context; paths are relative to the root that it is copied over."""
    share = SHARE.removeprefix("/")
    found = [_script(f"usr/local/bin/{name}", name, 0o755) for name in _PROGRAMS]
    found.append(_script(f"{share}/target.sh", "target.sh", 0o644))
    for arch in supported():
        texts = {
            "env": env_file(arch),
            "toolchain.cmake": cmake_file(arch),
            "meson.ini": meson_file(arch),
            "elf": elf_file(arch),
        }
        found += [
            GeneratedFile(f"{share}/{arch.platform.slug}/{name}", 0o644, text.encode()) for name, text in texts.items()
        ]
    return tuple(found)


def digest(content: Sequence[GeneratedFile]) -> str:
    """A hash of paths, modes and contents."""
    total = hashlib.sha256()
    for file in content:
        total.update(f"{file.path}\0{file.mode:o}\0{hashlib.sha256(file.content).hexdigest()}\0".encode())
    return total.hexdigest()


def write(folder: Path) -> None:
    """Write the context into a folder, for builders that know nothing of it; what is there of an older one goes over.

    Raises `InputError` when the folder holds anything else.
    """
    content = files()
    own = {folder / file.path for file in content}
    strange = [path for path in folder.rglob("*") if not path.is_dir() and path not in own]
    if strange:
        hint = "give an empty or a new folder: all of it is copied into the stage"
        raise InputError(f"{folder} holds other files, such as {strange[0]}", hint=hint)
    for file in content:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)


def _script(path: str, name: str, mode: int) -> GeneratedFile:
    return GeneratedFile(path, mode, (_SCRIPTS / name).read_bytes())
