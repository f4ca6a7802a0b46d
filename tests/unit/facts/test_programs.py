"""The smallest programs are valid ELF files of their architecture, and do what they are for."""

import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from polyarch import run
from polyarch.arch import ARCHES, Platform, by_elf
from polyarch.emulation import emulators
from polyarch.facts.programs import ANSWER, program, smallest, write_all


@pytest.mark.parametrize("platform", ARCHES, ids=str)
def test_each_is_an_elf_file_of_its_platform(platform: Platform) -> None:
    elf = ELFFile(io.BytesIO(smallest(platform)))
    order = "little" if elf.little_endian else "big"
    machine = int.from_bytes(smallest(platform)[18:20], ARCHES[platform].byteorder)
    assert ARCHES[platform] in by_elf(machine, elf.elfclass, order)
    (segment,) = elf.iter_segments()
    assert segment["p_type"] == "PT_LOAD"
    assert segment["p_filesz"] == len(smallest(platform))


@pytest.mark.parametrize("platform", ARCHES, ids=str)
def test_each_answers_under_its_emulator(platform: Platform, tmp_path: Path) -> None:
    emulator = emulators.locate(platform)
    if emulator is None:
        pytest.skip(f"no emulator for {platform}")
    write_all(tmp_path)
    assert run.capture([str(emulator), str(program(tmp_path, platform))], check=False).returncode == ANSWER
