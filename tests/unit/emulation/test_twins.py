"""Twins are paired only when both files are what the same source version brought; roots are unpacked as layers say."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from polyarch.arch import ARCHES, host_platform, parse_platform
from polyarch.emulation.twins import catalogue, store, table, tree
from polyarch.emulation.twins.catalogue import Tool
from polyarch.emulation.twins.elf import identify
from polyarch.emulation.twins.pair import pair
from polyarch.emulation.twins.tree import Tree, source_version
from polyarch.errors import InputError

SED = Path(shutil.which("sed") or "/bin/sed").resolve()
TOOL = Tool("usr/bin/sed", "sed")
HOST = ARCHES[host_platform()]


def library(name: str) -> Path:
    """Where this machine has a library."""
    said = subprocess.run(["ldd", str(SED)], capture_output=True, text=True, check=True).stdout
    return next(Path(line.split("=> ")[1].split()[0]) for line in said.splitlines() if f"{name} => /" in line)


def root(folder: Path, version: str = "4.9-2", *, md5: str = "") -> Tree:
    """A root with sed, the libraries of this machine, and what dpkg says."""
    (folder / "usr/bin").mkdir(parents=True)
    shutil.copyfile(SED, folder / "usr/bin/sed")
    (folder / tree.INFO).mkdir(parents=True)
    md5 = md5 or hashlib.md5(SED.read_bytes()).hexdigest()
    (folder / tree.INFO / "sed.md5sums").write_text(f"{md5}  usr/bin/sed\n")
    status = f"Package: sed\nStatus: install ok installed\nVersion: {version}\n\n"
    (folder / tree.STATUS).write_text(status)
    needed, done = [SED], set[str]()
    while needed:
        identity = identify(needed.pop())
        for name in identity.needed if identity else ():
            if name not in done and not name.startswith("ld-"):
                found = library(name)
                done.add(name)
                needed.append(found.resolve())
                (folder / "usr/lib").mkdir(exist_ok=True)
                shutil.copyfile(found, folder / "usr/lib" / name)
    identity = identify(SED)
    assert identity is not None
    loader = folder / identity.loader[1:]
    loader.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(identity.loader, loader)
    return Tree(folder)


def test_a_build_id_is_read_as_readelf_shows_it() -> None:
    identity = identify(SED)
    assert identity is not None
    assert len(identity.build_id) == 40
    assert identity.size == SED.stat().st_size
    assert "libc.so.6" in identity.needed


def test_what_is_no_elf_file_has_no_identity(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "cut").write_bytes(SED.read_bytes()[:70])
    assert identify(tmp_path / "script") is None
    assert identify(tmp_path / "cut") is None
    assert identify(tmp_path / "missing") is None


def test_the_same_source_version_is_paired_with_its_whole_closure(tmp_path: Path) -> None:
    found = pair(root(tmp_path / "native", "4.9-2+b1"), root(tmp_path / "foreign"), [TOOL], HOST)
    (twin,) = found.twins
    assert found.missing == ()
    assert twin.size == SED.stat().st_size
    assert "libc.so.6" in dict(twin.libraries)


@pytest.mark.parametrize(
    ("version", "md5", "why"),
    [("4.9-3", "", "sed is 4.9-3, native 4.9-2"), ("4.9-2", "0" * 32, "it is not as its package brought it")],
)
def test_another_version_or_a_changed_file_is_no_twin(tmp_path: Path, version: str, md5: str, why: str) -> None:
    found = pair(root(tmp_path / "native"), root(tmp_path / "foreign", version, md5=md5), [TOOL], HOST)
    assert found.twins == ()
    assert found.missing == ((TOOL, why),)


def test_a_root_that_is_only_unpacked_is_paired_by_its_archives(tmp_path: Path) -> None:
    foreign = root(tmp_path / "foreign")
    (foreign.path / tree.STATUS).write_text("")
    archives = foreign.path / tree.ARCHIVES
    archives.mkdir(parents=True)
    (archives / "sed_1%3a4.9-2+b1_arm64.deb").touch()
    assert foreign.versions() == {"sed": "1:4.9-2"}
    assert len(pair(root(tmp_path / "native", "1:4.9-2"), foreign, [TOOL], HOST).twins) == 1


def test_modules_are_shown_in_their_places_unless_one_was_changed(tmp_path: Path) -> None:
    native, foreign = root(tmp_path / "native"), root(tmp_path / "foreign")
    module = native.path / "usr/lib/modules/auto/A/A.so"
    module.parent.mkdir(parents=True)
    shutil.copyfile(library("libc.so.6"), module)
    tool = replace(TOOL, modules="usr/lib/modules")
    (twin,) = pair(native, foreign, [tool], HOST).twins
    assert dict(twin.libraries)["perl/auto/A/A.so"] == module
    assert dict(twin.libraries)["perl/Polyarch.pm"].name == "Polyarch.pm"
    with (native.path / tree.INFO / "sed.md5sums").open("a") as sums:
        sums.write(f"{'0' * 32}  usr/lib/modules/auto/A/A.so\n")
    assert "modules" in pair(native, foreign, [tool], HOST).missing[0][1]


def test_a_missing_library_is_no_twin(tmp_path: Path) -> None:
    native = root(tmp_path / "native")
    shutil.rmtree(native.path / "usr/lib")
    assert pair(native, root(tmp_path / "foreign"), [TOOL], HOST).missing[0][1].startswith("a library")


def test_cross_builds_and_rebuilds_count_as_their_source() -> None:
    assert source_version("14.2.0-19cross1") == source_version("14.2.0-19")
    assert source_version("12.2.0-14cross1") != source_version("12.2.0-14+deb12u1")
    assert source_version("5.2.37-2+b10") == "5.2.37-2"


def test_a_pack_survives_the_roots_it_was_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))
    tool = Tool("usr/bin/sed", "sed", exchange=(("a", "b"),), refuse=("-x",))
    kept = store.save("key", pair(root(tmp_path / "native"), root(tmp_path / "foreign"), [tool], HOST))
    shutil.rmtree(tmp_path / "native")
    assert store.load("key") == kept
    assert json.loads(json.dumps(asdict(kept.twins[0].tool)))["refuse"] == ["-x"]
    made = table.make(kept.twins, [])
    assert made == table.make(reversed(kept.twins), [])
    record = (made / "by-id" / kept.twins[0].build_id).read_bytes().split(b"\0")
    assert record[0] == b"s%d" % SED.stat().st_size
    assert record[-2] == b"--x"
    kept.twins[0].program.unlink()
    assert store.load("key") is None
    assert store.load("key", days=0) is None


def layer(*entries: tuple[str, bytes | str | None]) -> io.BytesIO:
    """A gzipped layer: bytes are files, text is a link's target, None a folder."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.DIRTYPE if content is None else tarfile.SYMTYPE
                info.linkname = content or ""
                tar.addfile(info)
    return io.BytesIO(gzip.compress(data.getvalue()))


def test_upper_layers_replace_and_hide_what_lower_ones_brought(tmp_path: Path) -> None:
    lower = layer(("./usr/bin/a", b"1"), ("usr/bin/b", b"1"), ("bin", "usr/bin"), ("etc/c", b"1"))
    upper = layer(("usr/bin/a", b"2"), ("usr/bin/.wh.b", b""), ("etc/.wh..wh..opq", b""))
    found = tree.unpack([lower, upper], tmp_path / "root", lambda path: path.startswith(("usr/", "etc/")))
    assert (found.find("bin/a") or tmp_path).read_bytes() == b"2"
    assert found.find("usr/bin/b") is None
    assert found.find("etc/c") is None


def test_nothing_is_written_or_read_outside_the_root(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    hostile = layer(
        ("../escaped", b"x"), ("out", str(tmp_path)), ("out/planted", b"x"), ("up", "../outside"), ("loop", "loop")
    )
    found = tree.unpack([hostile], tmp_path / "root", lambda _path: True)
    assert not (tmp_path / "planted").exists()
    assert not (tmp_path / "escaped").exists()
    assert found.find("up") is None
    assert found.find("loop") is None


def test_a_broken_layer_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        tree.unpack([io.BytesIO(b"\x1f\x8bnonsense")], tmp_path / "root", lambda _path: True)


def test_the_catalogue_names_no_architecture_that_it_may_not() -> None:
    arm64, mips = ARCHES[parse_platform("linux/arm64")], ARCHES[parse_platform("linux/mips64le")]
    names = {tool.name for tool in catalogue.base_tools(arm64, HOST)}
    assert {"dash", "tar", "dpkg-deb", "apt-get"} <= names
    assert {tool.stamp for tool in catalogue.base_tools(arm64, HOST) if tool.name == "dpkg"} == {"arm64"}
    assert not names & {"uname", "arch", "bash", "printf", "od", "ldconfig", "stdbuf"}
    assert catalogue.base_tools(mips, HOST) == ()
    compilers = {tool.name: tool for tool in catalogue.compiler_tools(arm64, "14")}
    assert compilers["cc1"].path == "usr/libexec/gcc/aarch64-linux-gnu/14/cc1"
    assert not any(mark in repr(compilers) for mark in ("{triplet}", "{gcc}", "{package}", "{debian}"))
