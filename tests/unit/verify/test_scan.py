"""What one layer's bytes say: archives in all their dialects, limits, whiteouts, and facts that are kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from verify_images import (
    ARM,
    EXEC,
    Entry,
    Layer,
    Spec,
    ar,
    elf,
    file,
    folder,
    hardlink,
    image,
    layer,
    pack,
    program,
    root,
    special,
    symlink,
    tar,
)

from polyarch.errors import HostError
from polyarch.oci import model
from polyarch.verify import LayerFacts, Limits, scan, verify
from polyarch.verify.facts import Kind
from polyarch.verify.root import Root
from polyarch.verify.scan import clean


def facts(*entries: Entry, format: int = tarfile.PAX_FORMAT) -> LayerFacts:
    return scan([pack(tar(*entries, format=format))])


def codes(found: LayerFacts) -> list[str]:
    return [fault.code for fault in found.faults]


def test_digests_and_sizes_are_of_the_stored_and_of_the_plain_bytes() -> None:
    plain = tar(*root())
    found = scan([pack(plain)])
    assert found.digest == f"sha256:{hashlib.sha256(pack(plain)).hexdigest()}"
    assert found.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert (found.size, found.expanded) == (len(pack(plain)), len(plain))


def test_a_sha512_digest_is_taken_where_it_is_asked_for() -> None:
    plain = tar(*root())
    assert scan([plain], algorithm="sha512").digest == f"sha512:{hashlib.sha512(plain).hexdigest()}"


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 4096])
def test_the_facts_do_not_depend_on_how_the_bytes_are_cut(size: int) -> None:
    blob = pack(tar(*root(), file("usr/lib/x.a", ar(("a-very-long-name-of-a-member.o", ARM)))))
    cut = (blob[at : at + size] for at in range(0, len(blob), size))
    assert scan(cut) == scan([blob])


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_dialect_are_read(format: int) -> None:
    path = f"opt/{'d' * 90}/{'e' * 60}/prog"
    found = facts(program(path, ARM), format=format)
    assert list(found.elves) == [path]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_link_targets_beyond_ustar_are_read(format: int) -> None:
    path, target = "opt/" + "d" * 300, "t" * 300
    assert facts(symlink(path, target), format=format).symlinks == {path: target}


def test_names_that_are_no_utf8_are_kept_apart() -> None:
    found = facts(file("opt/\udcff.so", ARM), file("opt/\udcfe.so", ARM), format=tarfile.GNU_FORMAT)
    assert len(found.elves) == 2
    assert LayerFacts.from_json(found.to_json()) == found


def test_the_content_of_old_and_new_sparse_files_is_passed_over() -> None:
    after = tar(program("usr/bin/tool", ARM))
    old = tarfile.TarInfo("sparse")
    old.type, old.size = tarfile.GNUTYPE_SPARSE, 600
    header = bytearray(old.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    new = tarfile.TarInfo("GNUSparseFile.0/sparse")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "usr/bin/hidden"}
    new.size, new.mode = 512 + len(ARM), 0o755
    mapped = b"1\n0\n%d\n" % len(ARM)
    body = mapped.ljust(512, b"\0") + ARM
    modern = new.tobuf(tarfile.PAX_FORMAT) + body + bytes(-len(body) % 512)
    found = scan([bytes(header) + bytes(512) + bytes(1024) + modern + after])
    assert set(found.elves) == {"usr/bin/hidden", "usr/bin/tool"}
    assert found.faults == ()


def test_a_size_in_base_256_is_read() -> None:
    info = tarfile.TarInfo("big")
    info.size = 9 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)

    def chunks() -> Iterator[bytes]:
        yield header
        for _ in range(9):
            yield b"\0" * 1000

    assert codes(scan(chunks())) == ["tar-malformed"]


def test_a_path_that_comes_twice_is_what_came_last() -> None:
    assert facts(file("opt/x", ARM), file("opt/x", b"text")).elves == {}


def test_members_of_archives_are_named_in_gnu_and_bsd_manner() -> None:
    names = b"a-very-long-name-of-a-member.o/\n"
    table = f"{'//':<16}{'':<32}{len(names):<10}`\n".encode() + names + b"\n" * (len(names) & 1)
    gnu = f"{'/0':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(ARM):<10}`\n".encode() + ARM
    bsd = f"{'#1/8':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(ARM) + 8:<10}`\n".encode() + b"bsd.o\0\0\0" + ARM
    found = facts(file("gnu.a", b"!<arch>\n" + table + gnu), file("bsd.a", b"!<arch>\n" + bsd))
    assert [member for members in found.elves.values() for _, member in members] == [
        "a-very-long-name-of-a-member.o",
        "bsd.o",
    ]


def test_an_interpreter_that_patchelf_moved_to_the_end_is_found() -> None:
    plain = elf(interpreter="/lib64/ld-linux-x86-64.so.2")
    moved = bytearray(plain[:64] + bytes(1 << 16) + plain[64:])
    moved[32:40] = (64 + (1 << 16)).to_bytes(8, "little")
    at = 64 + (1 << 16) + 8
    moved[at : at + 8] = (64 + (1 << 16) + 56).to_bytes(8, "little")
    assert facts(program("app", bytes(moved))).interpreters == {"app": "/lib64/ld-linux-x86-64.so.2"}


def test_hard_links_are_the_file_that_they_link_to() -> None:
    found = facts(program("usr/bin/a", ARM), hardlink("usr/bin/b", "./usr/bin/a"))
    assert set(found.elves) == {"usr/bin/a", "usr/bin/b"}


def test_a_bomb_is_stopped_and_still_hashed() -> None:
    blob = gzip.compress(bytes(50 << 20), mtime=0)
    found = scan([blob], Limits(bomb_floor=1 << 20))
    assert codes(found) == ["layer-bomb"]
    assert found.expanded < 12 << 20
    assert found.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert not found.whole


@pytest.mark.parametrize("limits", [Limits(bomb_floor=1 << 20), Limits(entries=2), Limits()])
def test_no_thread_outlives_a_scan(limits: Limits) -> None:
    before = threading.active_count()
    scan([pack(tar(*root(), file("zeros", bytes(50 << 20))))], limits)
    assert threading.active_count() == before


def test_what_a_source_raises_in_mid_stream_is_raised() -> None:
    def broken() -> Iterator[bytes]:
        yield pack(tar(*root()))[:600]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        scan(broken())


def test_a_small_blob_of_zeros_is_no_bomb() -> None:
    assert codes(facts(file("zeros", bytes(20 << 20)))) == []


@pytest.mark.parametrize("limits", [Limits(entries=3), Limits(names=1000)])
def test_a_layer_with_too_much_in_it_is_said_to_be_unproved(limits: Limits) -> None:
    entries = [program(f"usr/bin/{number}", ARM) for number in range(20)]
    found = scan([pack(tar(*entries))], limits)
    assert codes(found) == ["layer-limit"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./usr/bin/x", "usr/bin/x"),
        ("/usr/bin/x", "usr/bin/x"),
        ("usr//bin/./x/", "usr/bin/x"),
        ("usr/../bin/x", "bin/x"),
        ("./", ""),
        ("../x", None),
        ("usr/../../x", None),
        ("/..", None),
        (".profile", ".profile"),
        ("usr/..x/y", "usr/..x/y"),
    ],
)
def test_names_are_cleaned(name: str, path: str | None) -> None:
    assert clean(name) == path


def test_facts_survive_being_kept() -> None:
    found = facts(*root(), special("opt/sda", tarfile.BLKTYPE), hardlink("x", "etc/passwd"), file("etc/.wh.y"))
    assert LayerFacts.from_json(found.to_json()) == found


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "0-little"}', '{"format": "1-little", "names": "!"}'])
def test_damaged_facts_are_not_used(text: str) -> None:
    assert LayerFacts.from_json(text) is None


class Kept(dict[str, str]):
    """A `LayerCache` in memory."""

    def put(self, digest: str, facts: str) -> None:
        self[digest] = facts


def test_a_known_layer_is_not_read_again_and_judged_the_same() -> None:
    shelf = image(Spec(layers=[layer(*root(), program("usr/bin/tool", ARM))]))
    kept = Kept()
    first = verify(shelf, known=kept)
    shelf.opened.clear()
    assert verify(shelf, known=kept) == first
    assert shelf.opened == {}


def test_facts_of_damaged_blobs_are_not_kept() -> None:
    shelf = image()
    digest = max(shelf.blobs, key=lambda one: len(shelf.blobs[one]))
    shelf.blobs[digest] += b"x"
    kept = Kept()
    verify(shelf, known=kept)
    assert kept == {}


def violations(*layers: list[Entry]) -> list[str]:
    report = verify(image(Spec(layers=[layer(*root()), *(layer(*entries) for entries in layers)])))
    return [violation.code for violation in report.violations]


@pytest.mark.parametrize(
    "above",
    [
        [file("opt/lib/.wh.x.so")],
        [file("opt/.wh.lib")],
        [file(".wh.opt")],
        [file("opt/lib/.wh..wh..opq")],
        [file("opt/.wh..wh..opq")],
        [file("opt/lib/x.so", b"replaced")],
        [folder("opt/lib/x.so")],
        [file("opt/lib", b"a file now")],
        [symlink("opt", "srv")],
    ],
)
def test_what_a_later_layer_removed_or_replaced_is_not_judged(above: list[Entry]) -> None:
    assert violations([file("opt/lib/x.so", ARM)], above) == []


@pytest.mark.parametrize(
    "above",
    [[folder("opt/lib")], [file("opt/lib/.wh.y.so")], [file("opt/lib/x.so.1")], [file("opt/lib/.wh..wh.plnk")]],
)
def test_what_a_later_layer_leaves_alone_is_judged(above: list[Entry]) -> None:
    assert violations([file("opt/lib/x.so", ARM)], above) == ["elf-machine"]


def test_a_whiteout_never_hides_what_its_own_layer_holds() -> None:
    assert violations([file("opt/.wh..wh..opq"), file("opt/x.so", ARM), file(".wh.opt")]) == ["elf-machine"]


def test_what_is_removed_and_added_again_is_judged() -> None:
    foreign = [file("opt/x.so", ARM)]
    assert violations(foreign, [file("opt/.wh.x.so")], foreign) == ["elf-machine"]


def test_links_are_followed_inside_of_the_root() -> None:
    below = facts(
        program("usr/bin/python3.13", elf(type=EXEC)), symlink("bin", "usr/bin"), symlink("up", "../../../bin")
    )
    above = facts(symlink("usr/bin/python3", "python3.13"), symlink("usr/bin/python", "/bin/python3"))
    found = Root([below, above]).resolve("/up/python")
    assert found is not None
    assert (found.path, found.layer, found.kind) == ("usr/bin/python3.13", 0, Kind.EXECUTABLE)


def test_a_file_is_no_folder() -> None:
    assert Root([facts(file("etc/passwd"))]).resolve("/etc/passwd/x") is None


def test_a_hard_link_into_a_lower_layer_is_followed() -> None:
    root_ = Root([facts(program("usr/bin/a", elf())), facts(hardlink("usr/bin/b", "usr/bin/a"))])
    found = root_.resolve("/usr/bin/b")
    assert found is not None
    assert found.path == "usr/bin/a"


def test_an_archive_without_its_end_mark_is_read_as_far_as_it_goes() -> None:
    whole = io.BytesIO(tar(program("usr/bin/a", ARM))).getvalue()
    cut = whole[: 512 + len(ARM) + -len(ARM) % 512]
    found = scan([cut])
    assert (list(found.elves), codes(found)) == (["usr/bin/a"], [])


def test_a_broken_note_is_no_statement() -> None:
    broken = elf(level=3).replace(b"\x05\0\0\0GNU\0", b"\x05\0\0\0GNUX")
    found = facts(program("usr/bin/a", broken))
    assert [kind.level for kind in found.kinds] == [0]


def test_attributes_that_go_round_in_a_circle_end() -> None:
    right = elf("linux/arm/v6", level=10)
    at = right.index(b"aeabi") - 4
    circle = right[:at] + bytes(4) + b"other" + right[at + 9 :]
    (kind,) = facts(program("usr/bin/a", circle)).kinds
    assert kind.level == 0


def test_section_headers_that_are_all_one_end() -> None:
    right = bytearray(elf("linux/arm/v6", level=10))
    right[46:48] = bytes(2)  # e_shentsize
    right[48:50] = b"\xff\xff"  # e_shnum
    (kind,) = facts(program("usr/bin/a", bytes(right))).kinds
    assert kind.level == 0


def test_links_that_lead_nowhere_fast_end() -> None:
    long = "/".join(["a"] * 2000)
    found = facts(symlink("a", long), symlink("b", "b/b"))
    assert Root([found] * 50).resolve(f"/{long}") is None
    assert Root([found]).resolve("/b") is None


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(("option", "level"), [("-Wl,-z,now", (0, 1)), ("-Wl,-z,x86-64-v3", (3,))])
def test_what_gcc_makes_is_understood(tmp_path: Path, option: str, level: tuple[int, ...]) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the option is for x86-64")
    source, out = tmp_path / "a.c", tmp_path / "a"
    source.write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", option, "-o", out, source], check=True)
    found = facts(program("a", out.read_bytes()))
    assert found.interpreters == {"a": "/lib64/ld-linux-x86-64.so.2"}
    (kind,) = found.kinds
    assert (kind.machine, kind.elf_class, kind.byteorder) == (62, 64, "little")
    assert kind.level in level


def test_the_facts_of_all_layers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyarch.verify.prove._MEMORY", 20_000)
    layers = [layer(*root())] + [
        layer(*(program(f"opt/{top}/{number}", elf()) for number in range(40))) for top in range(4)
    ]
    report = verify(image(Spec(layers=layers)))
    assert {violation.code for violation in report.violations} == {"layer-limit"}
    assert not report.ok


def test_a_zstd_stream_that_ends_early_is_found_by_what_is_missing() -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = tar(*root())
    stored = Layer(zstandard.ZstdCompressor().compress(plain)[:-40], plain, model.OCI_LAYER_ZSTD)
    found = {violation.code for violation in verify(image(Spec(layers=[stored]))).of("error")}
    assert found & {"tar-malformed", "diff-id-mismatch"}


def test_zstd_without_its_library_is_an_error_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(HostError, match="zstandard"):
        scan([b"\x28\xb5\x2f\xfd" + bytes(99)])


def test_zlib_does_where_isal_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = facts(*root())
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    monkeypatch.setitem(sys.modules, "isal", None)
    assert facts(*root()) == fast
    assert codes(scan([pack(tar(*root()))[:-30]])) == ["layer-corrupt"]
