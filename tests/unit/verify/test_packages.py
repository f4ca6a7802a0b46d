"""Two platforms' bases are of one release when their packages are; what an architecture brings alone is told."""

import pytest
from verify_images import file, layer

from polyarch.errors import ProofError
from polyarch.verify.packages import Release, compare, dump, load, release, texts_of

OS = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'


def deb(name: str, version: str = "1", arch: str = "amd64", section: str = "utils", status: str = "installed") -> str:
    fields = {
        "Package": name, "Status": f"install ok {status}", "Section": section, "Version": version, "Architecture": arch,
    }  # fmt: skip
    return "\n".join(f"{key}: {value}" for key, value in fields.items()) + "\nDescription: x\n more: y\n"


def debian(*packages: str, os: str = OS) -> Release:
    return release([{"etc/os-release": os, "var/lib/dpkg/status": "\n".join(packages)}])


def test_the_same_packages_are_the_same_release() -> None:
    assert compare(debian(deb("a"), deb("b")), debian(deb("b", arch="arm64"), deb("a", arch="arm64"))) == ((), ())


def test_a_rebuild_for_one_architecture_is_the_same_source() -> None:
    assert compare(debian(deb("grep", "3.11-4")), debian(deb("grep", "3.11-4+b1"))) == ((), ())


def test_another_version_is_another_release() -> None:
    assert compare(debian(deb("a", "1")), debian(deb("a", "2"))) == (("a 1 and 2",), ())


def test_another_name_of_the_release_is_another_release() -> None:
    problems, _ = compare(debian(deb("a")), debian(deb("a"), os=OS.replace("13", "12")))
    assert "release debian 13 trixie and debian 12 trixie" in problems


def test_a_library_on_one_side_alone_is_told_and_a_program_is_refused() -> None:
    more = debian(deb("a"), deb("libx", section="libs"))
    assert compare(debian(deb("a")), more) == ((), ("libx is in the target's base only",))
    assert compare(debian(deb("a"), deb("python3")), debian(deb("a")))[0] == ("python3 is in the native base only",)
    independent = debian(deb("a"), deb("libdata", section="libs", arch="all"))
    assert compare(independent, debian(deb("a")))[0] == ("libdata is in the native base only",)


def test_removed_packages_do_not_count() -> None:
    assert compare(debian(deb("a"), deb("b", status="config-files")), debian(deb("a"))) == ((), ())


def test_alpine_and_distroless_lists_are_read() -> None:
    alpine = release([{"lib/apk/db/installed": "P:musl\nV:1.2.5-r0\nA:x86_64\n\nP:x\nV:2\nA:noarch\n"}])
    assert {p.name: (p.version, p.independent) for p in alpine.packages.values()} == {
        "musl": ("1.2.5-r0", False), "x": ("2", True),
    }  # fmt: skip
    distroless = release([{"var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 13\nArchitecture: amd64\n"}])
    assert distroless.packages["base-files"].version == "13"


def test_bases_that_cannot_be_compared_are_refused() -> None:
    rpm = release([{"usr/lib/sysimage/rpm/rpmdb.sqlite": "rpm"}])
    assert "cannot be compared" in compare(rpm, rpm)[0][0]
    assert "no list" in compare(release([{}]), release([{}]))[0][0]


def test_an_upper_layer_replaces_and_removes_what_a_lower_one_says() -> None:
    lower = texts_of([layer(file("var/lib/dpkg/status", deb("a").encode()), file("usr/bin/x", b"x")).blob])
    upper = texts_of([layer(file("var/lib/dpkg/status", deb("b").encode())).blob])
    gone = texts_of([layer(file("var/lib/dpkg/.wh.status")).blob])
    assert release([lower, upper]).packages.keys() == {"b"}
    assert not release([lower, gone]).packages
    assert load(dump(lower)) == lower


def test_a_damaged_base_is_told() -> None:
    whole = layer(file("var/lib/dpkg/status", deb("a").encode() * 500)).blob
    for damaged in (whole[: len(whole) // 2], b"no archive at all"):
        with pytest.raises(ProofError, match="cannot be read"):
            texts_of([damaged])
