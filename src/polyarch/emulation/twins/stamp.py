"""A native program that takes itself for one of another architecture: its compiled-in name is exchanged.

dpkg has the name of its architecture as a string of its own, to which one pointer of a table points (lib/dpkg/arch.c,
`arch_item_native`). A name that fits is written over the old one; a longer one goes where the build id was, which
would be wrong in a changed file anyway, and the pointer is turned there. What else the program would say of itself
(`--version`) must be emulated.

Source: System V gABI, "Note Section", "Relocation" (the pointer is an addend, or in place, or, as ld writes it, both).
"""

from __future__ import annotations

import io

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

_POINTER = 8
_NOTE_HEAD, _NOTE_NAME = 12, 4  # n_namesz, n_descsz, n_type; "GNU\0"


def stamped(program: bytes, old: str, new: str) -> bytes | None:
    """The program with its own name `old` exchanged; None when it is not there exactly once."""
    name, said = b"\0%s\0" % old.encode(), new.encode() + b"\0"
    if program.count(name) != 1:
        return None
    at = program.index(name) + 1
    if len(said) <= len(name) - 1:
        return _written(program, at, said.ljust(len(name) - 1, b"\0"))
    try:
        elf = ELFFile(io.BytesIO(program))
        note, room = _build_id(elf)
        pointer, target = (_address(elf, offset).to_bytes(_POINTER, "little") for offset in (at, note))
    except (ELFError, LookupError):
        return None
    places = [i for i in range(0, len(program) - _POINTER + 1, _POINTER) if program[i : i + _POINTER] == pointer]
    if len(places) not in (1, 2) or len(said) > room or not elf.little_endian:
        return None
    for place in places:
        program = _written(program, place, target)
    return _written(program, note, said.ljust(room, b"\0"))


def _written(program: bytes, at: int, data: bytes) -> bytes:
    return program[:at] + data + program[at + len(data) :]


def _build_id(elf: ELFFile) -> tuple[int, int]:
    """Offset and size of the build id. Raises `LookupError` when there is none."""
    for segment in elf.iter_segments():
        for note in segment.iter_notes() if isinstance(segment, NoteSegment) else ():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                return note["n_offset"] + _NOTE_HEAD + _NOTE_NAME, note["n_descsz"]
    raise LookupError


def _address(elf: ELFFile, offset: int) -> int:
    """Where a byte of the file is loaded. Raises `LookupError` for one that is not."""
    for segment in elf.iter_segments("PT_LOAD"):
        if segment["p_offset"] <= offset < segment["p_offset"] + segment["p_filesz"]:
            return int(segment["p_vaddr"] + offset - segment["p_offset"])
    raise LookupError
