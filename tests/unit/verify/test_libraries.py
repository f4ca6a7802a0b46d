"""Where a program's libraries are looked for beside the loader's own folders: a foreign file is an error there, too."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verify_images import ARM, Entry, Shelf, Spec, elf, file, folder, image, layer, program, root, symlink

from polyarch.verify import verify
from polyarch.verify.elf import NotElfError, header_of, runpath_of


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real program with a RUNPATH of two folders."""
    work = tmp_path_factory.mktemp("linked")
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    flags = ["-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/../lib:/opt/more"]
    subprocess.run(["cc", "-o", "main", "main.c", *flags], cwd=work, check=True)
    return (work / "main").read_bytes()


def found(*entries: Entry, run: dict[str, object]) -> list[tuple[str, str, str]]:
    shelf: Shelf = image(Spec(layers=[layer(*root()), layer(*entries)], run=run))
    return [(v.code, v.severity, v.path) for v in verify(shelf).of("error") + verify(shelf).of("warning")]


def test_a_runpath_is_read_as_the_linker_wrote_it(linked: bytes) -> None:
    assert runpath_of(linked, header_of(linked[:64])) == ("$ORIGIN/../lib", "/opt/more")


def test_a_foreign_library_in_the_entrypoints_runpath_is_an_error(linked: bytes) -> None:
    entries = [program("opt/app/bin/server", linked), folder("opt/app/lib"), file("opt/app/lib/libx.so", ARM)]
    run = {"Entrypoint": ["/opt/app/bin/server"]}
    assert ("elf-machine", "error", "/opt/app/lib/libx.so") in found(*entries, run=run)


def test_a_runpath_of_a_program_that_is_not_run_makes_no_error(linked: bytes) -> None:
    entries = [program("opt/app/bin/server", linked), folder("opt/app/lib"), file("opt/app/lib/libx.so", ARM)]
    assert ("elf-machine", "warning", "/opt/app/lib/libx.so") in found(*entries, run={"Entrypoint": ["app"]})


def test_a_foreign_library_in_ld_library_path_is_an_error() -> None:
    run = {"Entrypoint": ["app"], "Env": ["LD_LIBRARY_PATH=/srv/lib:/none"]}
    entries = [folder("data/lib"), symlink("srv", "data"), file("data/lib/libx.so", ARM)]
    assert found(*entries, run=run) == [("elf-machine", "error", "/data/lib/libx.so")]


def test_a_foreign_library_in_a_folder_of_ld_so_conf_is_an_error() -> None:
    conf = file("etc/ld.so.conf.d/own.conf", b"# ours\n/srv/lib # here\ninclude /etc/other\n")
    entries = [conf, folder("srv/lib"), file("srv/lib/libx.so", ARM)]
    assert found(*entries, run={"Entrypoint": ["app"]}) == [("elf-machine", "error", "/srv/lib/libx.so")]


def test_what_a_later_layer_removed_from_ld_so_conf_is_not_looked_at() -> None:
    layers = [
        layer(*root(), file("etc/ld.so.conf.d/own.conf", b"/srv/lib\n")),
        layer(file("etc/ld.so.conf.d/.wh.own.conf"), folder("srv/lib"), file("srv/lib/libx.so", ARM)),
    ]
    report = verify(image(Spec(layers=layers, run={"Entrypoint": ["app"]})))
    assert [v.severity for v in report.violations] == ["warning"]


@given(st.data())
def test_a_damaged_dynamic_segment_states_nothing_or_something_short(data: st.DataObject) -> None:
    whole = bytearray(elf() + bytes(400))
    whole[32:40] = struct.pack("<Q", 64)
    whole[54:58] = struct.pack("<HH", 56, 3)
    at = data.draw(st.integers(0, len(whole) - 80))
    noise = data.draw(st.binary(max_size=80))
    whole[at : at + len(noise)] = noise
    for number, kind in enumerate((1, 2)):
        struct.pack_into("<I", whole, 64 + 56 * number, kind)
    try:
        kind_of = header_of(bytes(whole[:64]))
    except NotElfError:
        return
    assert all(len(text) <= 4096 for text in runpath_of(bytes(whole), kind_of))


def test_folders_are_kept_with_the_layer(tmp_path: Path, linked: bytes) -> None:
    from verify_images import pack, tar

    from polyarch.verify import LayerFacts, scan

    facts = scan([pack(tar(program("opt/server", linked)))])
    kept = LayerFacts.from_json(facts.to_json())
    assert kept is not None
    assert kept.searched == {"opt/server": "$ORIGIN/../lib:/opt/more"}


def test_a_program_that_a_link_in_path_leads_to_is_run_from_there() -> None:
    entries = [program("opt/j/bin/java", ARM), symlink("etc/alternatives/java", "/opt/j/bin/java")]
    link = symlink("usr/bin/java", "/etc/alternatives/java")
    wrong = ("elf-machine", "error", "/opt/j/bin/java")
    assert found(*entries, link, run={"Entrypoint": ["app"]}) == [wrong]
    assert found(*entries, run={"Entrypoint": ["app"]}) == [("elf-machine", "warning", "/opt/j/bin/java")]
