"""What ELF files say of the machine they are for, read by pyelftools from their first bytes.

Sources: System V gABI (headers), "Linux Extensions to gABI" (x86 ISA needed), Arm's "ABI Addenda" (Tag_CPU_arch), and
the psABI of each machine for `e_flags`. Full reading is slow, so it is kept for files where a cheap look says that it
could tell something: programs (for PT_INTERP), x86-64 files with the ISA property, 32-bit Arm files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE
from elftools.elf.notes import iter_notes
from elftools.elf.sections import ARMAttributesSection
from elftools.elf.structs import ELFStructs

from polyarch.verify.facts import ElfKind

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

MAGIC: Final = b"\x7fELF"
HEADER: Final = 64  # bytes of the longest ELF header
HEAD: Final = 1 << 12  # bytes in which program headers, interpreter and notes of linked files lie
EM_ARM: Final = 40
EM_X86_64: Final = 62
ET_EXEC: Final = 2
ET_DYN: Final = 3
_ISA_NEEDED: Final = (0xC0008002).to_bytes(4, "little")
# Distributions state the baseline in every file; only what says more is worth a full reading.
_MORE_THAN_BASELINE: Final = re.compile(re.escape(_ISA_NEEDED) + b"(?!\4\0\0\0\1\0\0\0)")
_MOST_SEGMENTS: Final = 256
_MOST_SECTIONS: Final = 10_000
_MOST_TEXT: Final = 1 << 12  # bytes of one RUNPATH
_MOST_SEARCHED: Final = 64  # folders of one RUNPATH
_MOST_PARTS: Final = 1000  # notes, properties and attributes looked at in one file
# Tag_CPU_arch -> version of the architecture (Arm ABI addenda); the microcontroller profiles are left out.
_ARM_ARCH: Final = {0: 3, 1: 4, 2: 4, 3: 5, 4: 5, 5: 5, 6: 6, 7: 6, 8: 6, 9: 6, 10: 7, 14: 8, 15: 8, 22: 9}
# What pyelftools is known to raise on bytes that are not ELF, beside its own errors.
_BROKEN: Final = (
    ELFError, ConstructError, ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error,
    AssertionError, RecursionError,
)  # fmt: skip


class NotElfError(Exception):
    """The magic is there, but no header that can be read; the message says why. Never leaves this room."""


def header_of(head: bytes) -> ElfKind:
    """The header in the first `HEADER` bytes. Raises `NotElfError`."""
    # Most files of a layer share all of these bytes, so pyelftools decodes each combination once.
    flags = head[36:40] if head[4:5] == b"\x01" else head[48:52]
    return _decode(head[:24], flags)


def interpreter_of(head: bytes, kind: ElfKind) -> str | None:
    """PT_INTERP of a linked file, "" when it has none, None when that lies behind the bytes of `head`.

    Linkers put it into the first `HEAD` bytes; patchelf moves it to the end. Raises `NotElfError`.
    """
    if kind.type not in (ET_EXEC, ET_DYN):
        return ""
    try:
        return _interpreter(head, _structs(kind.elf_class, kind.byteorder))
    except _BROKEN as problem:
        raise NotElfError(f"program headers: {problem}") from problem


def level_of(data: bytes, kind: ElfKind) -> int:
    """The instruction-set level that the file needs: N of x86-64-vN or of ARMvN; 0 where it does not say.

    `data` is the head for x86-64 (its notes are in front) and the whole file for Arm (its attributes are at the end).
    """
    try:
        if kind.machine == EM_X86_64 and kind.elf_class == 64 and _MORE_THAN_BASELINE.search(data):
            return _x86_level(data)
        if kind.machine == EM_ARM:
            return _arm_level(data)
    except _BROKEN:
        # A statement that cannot be read is no statement; the header was fine.
        return 0
    return 0


def runpath_of(data: bytes, kind: ElfKind) -> tuple[str, ...]:
    """The folders of DT_RUNPATH or DT_RPATH as written (`$ORIGIN/../lib`), where ld.so(8) looks first; often none.

    `data` is the whole file. What cannot be read states nothing: the header was fine.
    """
    try:
        text = _runpath(data, _structs(kind.elf_class, kind.byteorder))
    except _BROKEN:
        return ()
    return tuple(folder for folder in text.split(":")[:_MOST_SEARCHED] if folder)


@lru_cache(maxsize=4096)
def _decode(start: bytes, flags: bytes) -> ElfKind:
    elf_class, order = start[4:5], start[5:6]
    if elf_class not in (b"\x01", b"\x02") or order not in (b"\x01", b"\x02") or len(start) < 24 or len(flags) < 4:
        raise NotElfError("the header is cut off or states no known class and byte order")
    bits, byteorder = 32 * elf_class[0], "little" if order == b"\x01" else "big"
    full = start + bytes(12 if bits == 32 else 24) + flags  # e_entry, e_phoff and e_shoff left out
    try:
        header = struct_parse(_structs(bits, byteorder).Elf_Ehdr, BytesIO(full.ljust(HEADER, b"\0")))
        machine = _number(header["e_machine"], ENUM_E_MACHINE)
        return ElfKind(machine, bits, byteorder, _number(header["e_type"], ENUM_E_TYPE), int(header["e_flags"]))
    except _BROKEN as problem:
        raise NotElfError(str(problem)) from problem


def _number(value: int | str, names: Mapping[str, int]) -> int:
    """Enums of pyelftools decode to a name, or to the number itself where it knows none."""
    return names[value] if isinstance(value, str) else int(value)


@lru_cache(maxsize=4)
def _structs(elf_class: int, byteorder: str) -> Any:  # noqa: ANN401  # pyelftools has no types
    structs = ELFStructs(little_endian=byteorder == "little", elfclass=elf_class)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    return structs


def _segments(head: bytes, structs: Any) -> Iterator[Any]:  # noqa: ANN401  # pyelftools has no types
    """The program headers, None for one that lies behind the bytes; ELFFile's own way reads sections, too."""
    stream = BytesIO(head)
    header = struct_parse(structs.Elf_Ehdr, stream)
    for number in range(min(header["e_phnum"], _MOST_SEGMENTS)):
        at = header["e_phoff"] + number * header["e_phentsize"]
        yield struct_parse(structs.Elf_Phdr, stream, at) if at + structs.Elf_Phdr.sizeof() <= len(head) else None


def _interpreter(head: bytes, structs: Any) -> str | None:  # noqa: ANN401  # pyelftools has no types
    for segment in _segments(head, structs):
        if segment is None:
            return None
        if segment["p_type"] == "PT_INTERP":
            start, size = segment["p_offset"], min(segment["p_filesz"], 4096)
            path = head[start : start + size]
            return path.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") if len(path) == size else None
    return ""


def _runpath(data: bytes, structs: Any) -> str:  # noqa: ANN401  # pyelftools has no types
    segments = [segment for segment in _segments(data, structs) if segment is not None]
    dynamic = next((segment for segment in segments if segment["p_type"] == "PT_DYNAMIC"), None)
    if dynamic is None:
        return ""
    size = structs.Elf_Dyn.sizeof()
    count = min(dynamic["p_filesz"] // size, _MOST_PARTS)
    stream, start = BytesIO(data), dynamic["p_offset"]
    entries = [struct_parse(structs.Elf_Dyn, stream, start + number * size) for number in range(count)]
    values = {entry["d_tag"]: entry["d_val"] for entry in entries}
    name, table = values.get("DT_RUNPATH", values.get("DT_RPATH")), values.get("DT_STRTAB")
    home = [s for s in segments if table is not None and s["p_type"] == "PT_LOAD" and _maps(s, table)]
    if name is None or table is None or not home:
        return ""
    at = table - home[0]["p_vaddr"] + home[0]["p_offset"] + name
    return data[at : at + _MOST_TEXT].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _maps(segment: Any, address: int) -> bool:  # noqa: ANN401  # pyelftools has no types
    return bool(segment["p_vaddr"] <= address < segment["p_vaddr"] + segment["p_filesz"])


def _x86_level(head: bytes) -> int:
    from elftools.elf.elffile import ELFFile  # brings DWARF along: 60 ms that few images need

    file = ELFFile(BytesIO(head))
    for segment in _segments(head, _structs(64, "little")):
        if segment is not None and segment["p_type"] == "PT_NOTE":
            for prop in _properties(file, segment["p_offset"], segment["p_filesz"]):
                if prop["pr_type"] == "GNU_PROPERTY_X86_ISA_1_NEEDED":
                    # One bit for each level: baseline, v2, v3, v4.
                    return int(prop["pr_data"]).bit_length()
    return 0


def _properties(file: ELFFile, offset: int, size: int) -> Iterator[Any]:
    for note in islice(iter_notes(file, offset, size), _MOST_PARTS):
        if note["n_type"] == "NT_GNU_PROPERTY_TYPE_0" and note["n_name"] == "GNU":
            yield from note["n_desc"]


def _arm_level(data: bytes) -> int:
    from elftools.elf.elffile import ELFFile

    file = ELFFile(BytesIO(data))
    if file["e_shentsize"] < file.structs.Elf_Shdr.sizeof() or file.num_sections() > _MOST_SECTIONS:
        return 0
    section = file.get_section_by_name(".ARM.attributes")
    if not isinstance(section, ARMAttributesSection):
        return 0
    # pyelftools goes round for ever in damaged sections, and its own filters hide that: what it yields is counted here.
    for subsection in islice(section.iter_subsections(), _MOST_PARTS):
        if subsection["vendor_name"] != "aeabi":
            continue
        for part in islice(subsection.iter_subsubsections(), 1):
            for attribute in islice(part.iter_attributes(), _MOST_PARTS):
                if attribute.tag == "TAG_CPU_ARCH":
                    return _ARM_ARCH.get(attribute.value, 0)
    return 0
