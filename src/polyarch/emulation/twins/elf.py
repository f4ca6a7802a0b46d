"""What the table needs of an ELF file: its build id, its loader and the libraries that it names (pyelftools)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment, NoteSegment


@dataclass(frozen=True, slots=True)
class Identity:
    """A file of `size` bytes; `build_id` is hexadecimal and empty when the file has none."""

    build_id: str
    size: int
    machine: str
    loader: str
    needed: tuple[str, ...]


def identify(path: Path) -> Identity | None:
    """Read a file's identity; None when it is no readable ELF file."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            build_id = loader = ""
            needed: list[str] = []
            for segment in elf.iter_segments():
                if isinstance(segment, NoteSegment):
                    build_id = build_id or _build_id(segment)
                elif isinstance(segment, InterpSegment):
                    loader = segment.get_interp_name()
                elif isinstance(segment, DynamicSegment):
                    needed += [str(tag.needed) for tag in segment.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]  # set by name
            return Identity(build_id, path.stat().st_size, elf["e_machine"], loader, tuple(needed))
    except (OSError, ELFError, ConstructError, ValueError, UnicodeDecodeError):
        return None


def _build_id(segment: NoteSegment) -> str:
    notes = (note for note in segment.iter_notes() if note["n_type"] == "NT_GNU_BUILD_ID")
    return next((str(note["n_desc"]) for note in notes), "")
