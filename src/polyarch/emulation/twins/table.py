"""The table that the dispatcher reads: a folder made once of the same twins, of links into a content-addressed store.

- `by-id/HEX`: one twin; its fields are in `dispatcher.c`
- `bin/SUM/NAME`: programs; `lib/SUM/NAME`: libraries, for all programs that need the same ones
- `ld/SUM/NAME`: a program's loader, under the program's name, for that is what `ps` shows
- `qemu/MACHINE-CLASS-DATA`: emulators
- `count`: where a build mounts its folder for the log
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from polyarch.arch import ARCHES, Arch
from polyarch.emulation.dispatcher.program import TABLE
from polyarch.emulation.emulators import Emulator
from polyarch.emulation.twins.pair import Twin
from polyarch.emulation.twins.store import Store, folder

_RECIPE = 2  # raised when the same twins make another table
_SHORT = 16
_MOST_FIELDS = 8000  # bytes, of one record; the dispatcher has room for 8192


def tables() -> Path:
    """All tables; `count` in there is where a namespace in which they are shown mounts its folder for the log."""
    found = folder() / "tables"
    (found / "count").mkdir(parents=True, exist_ok=True)
    return found


def make(twins: Iterable[Twin], emulators: Iterable[Emulator]) -> Path:
    """The table with these twins; one that was made before is taken as it is."""
    ordered = sorted({twin.build_id: twin for twin in twins}.values(), key=lambda twin: twin.build_id)
    store = Store()
    files = {f"by-id/{twin.build_id}": _record(twin, store) for twin in ordered if twin.build_id.isalnum()}
    links = {name: file for twin in ordered for name, file in _links(twin, store)}
    links |= {f"qemu/{_machine(ARCHES[e.platform])}": store.add(e.path) for e in emulators}
    said = json.dumps(
        [_RECIPE, sorted((k, v.hex()) for k, v in files.items()), sorted((k, v.name) for k, v in links.items())]
    )
    target = tables() / hashlib.sha256(said.encode()).hexdigest()
    if not target.exists():
        _write(target, files, links)
    return target


def _machine(arch: Arch) -> str:
    """How the dispatcher calls an emulator: e_machine, EI_CLASS, EI_DATA."""
    return f"{arch.elf_machine}-{arch.elf_class // 32}-{1 if arch.byteorder == 'little' else 2}"


def _group(twin: Twin, store: Store) -> str:
    """The folder of the twin's libraries: twins with the same libraries share one."""
    names = sorted((name, store.add(path).name) for name, path in twin.libraries)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:_SHORT]


def _paths(twin: Twin, store: Store) -> tuple[str, str, str]:
    """Loader, libraries and program, below the table."""
    loader, program = store.add(twin.loader).name[:_SHORT], store.add(twin.program).name[:_SHORT]
    return f"ld/{loader}/{twin.tool.name}", f"lib/{_group(twin, store)}", f"bin/{program}/{twin.tool.name}"


def _links(twin: Twin, store: Store) -> Sequence[tuple[str, Path]]:
    loader, libraries, program = _paths(twin, store)
    found = [(loader, store.add(twin.loader)), (program, store.add(twin.program))]
    return [*found, *((f"{libraries}/{name}", store.add(path)) for name, path in twin.libraries)]


def _record(twin: Twin, store: Store) -> bytes:
    tool = twin.tool
    loader, libraries, program = (f"{TABLE}/{path}" for path in _paths(twin, store))
    fields = [f"s{twin.size}", f"l{loader}", f"L{libraries}", f"p{program}"]
    fields += [f"+{arg}".replace("{libraries}", libraries) for arg in tool.front] + [f"&{arg}" for arg in tool.back]
    for old, new in tool.exchange:
        fields += [f"={old}", f">{libraries}/{new.rpartition('/')[2]}"]
    fields += [f"-{arg}" for arg in tool.refuse] + [f"e{name}" for name in tool.refuse_env]
    fields += [f"x{path}" for path in tool.refuse_paths] + [f"?{path}" for path in tool.scripts]
    data = b"".join(field.encode() + b"\0" for field in fields)
    if len(data) > _MOST_FIELDS:
        raise ValueError(f"the record of {tool.path} is too long for the dispatcher")
    return data


def _write(target: Path, files: dict[str, bytes], links: dict[str, Path]) -> None:
    beside = target.with_name(f".{secrets.token_hex(8)}")
    for name in ("by-id", "qemu", "count"):
        (beside / name).mkdir(parents=True)
    for name, data in files.items():
        (beside / name).write_bytes(data)
    for name, source in links.items():
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, beside / name)
    try:
        beside.rename(target)
    except OSError:  # another build made the same one meanwhile
        shutil.rmtree(beside)
