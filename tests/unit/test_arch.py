"""Platform strings as containerd normalises them, and the table against what Debian's own packages say."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import ARCHES, Platform, by_elf, normalise, parse_platform, parse_platforms
from polyarch.errors import InputError


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("arm64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("arm/v6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("ppc64el", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("i386", "linux/386"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_every_usual_spelling_means_one_platform(text: str, platform: str) -> None:
    assert str(parse_platform(text)) == platform


@pytest.mark.parametrize("text", ["linux/amd46", "windows/amd64", "linux/arm64/v9/x", "", "/", "linux/"])
def test_an_unknown_platform_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_platform(text)
    assert "linux/amd64" in caught.value.detail
    assert caught.value.hint


def test_the_nearest_known_platform_is_named() -> None:
    with pytest.raises(InputError, match="unknown") as caught:
        parse_platform("linux/amd46")
    assert "linux/amd64" in caught.value.hint


def test_lists_keep_their_order_and_lose_duplicates() -> None:
    found = parse_platforms(["linux/s390x,amd64", "x86_64", "linux/arm64, "])
    assert [str(p) for p in found] == ["linux/s390x", "linux/amd64", "linux/arm64"]


@given(st.text())
def test_any_text_is_a_platform_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert parse_platform(text) in ARCHES


@given(st.sampled_from(sorted(ARCHES)))
def test_what_is_printed_is_read_back(platform: Platform) -> None:
    assert parse_platform(str(platform)) == platform
    assert normalise(platform.os, platform.architecture, platform.variant) == platform


def test_magic_and_mask_are_those_that_debian_registers() -> None:
    """Debian's `/usr/lib/binfmt.d/qemu-*.conf`; the OS ABI byte is looser here, and 32-bit x86 is stricter there."""
    checked = 0
    for arch in ARCHES.values():
        path = Path(f"/usr/lib/binfmt.d/qemu-{arch.qemu}.conf")
        if not path.exists() or arch.architecture in {"386", "mips64le"}:
            continue
        _, _, _, _, magic, mask, *_ = path.read_text().strip().encode().split(b":")
        theirs = [part.decode("unicode_escape").encode("latin-1") for part in (magic, mask)]
        ours = bytes(a & b for a, b in zip(arch.binfmt_magic, arch.binfmt_mask, strict=True))
        length = len(theirs[0])
        accepted = bytes(a & b for a, b in zip(ours[:length], theirs[1], strict=True))
        assert accepted == bytes(a & b for a, b in zip(*theirs, strict=True)), arch.qemu
        checked += 1
    assert checked >= 5


def test_elf_headers_lead_back_to_their_rows() -> None:
    for arch in ARCHES.values():
        assert arch in by_elf(arch.elf_machine, arch.elf_class, arch.byteorder)
