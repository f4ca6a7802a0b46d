"""Registration lines are what the kernel expects, entries are read as it shows them, serving is decided as it does."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import ARCHES, Arch, parse_platform
from polyarch.emulation import binfmt
from polyarch.emulation.binfmt import Handler
from polyarch.errors import HostError, InputError

ARM64 = ARCHES[parse_platform("linux/arm64")]
QEMU = Path("/usr/bin/qemu-aarch64-static")

# What Linux 6.18 shows for Debian's handler.
DEBIAN_ENTRY = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""

arches = st.sampled_from(list(ARCHES.values()))
paths = st.text("abcXYZ019-_./ äö", min_size=1, max_size=60).map(lambda text: Path("/" + text))
flags = st.sets(st.sampled_from("POCF")).map("".join)


def shown_by_kernel(registered: bytes) -> tuple[str, str]:
    """create_entry() and entry_status() of fs/binfmt_misc.c: a registration line to the name and text of its entry."""
    _, name, kind, offset, magic, mask, interpreter, given = registered.decode().split(":")
    assert kind == "M"
    kept = {"P": "P", "O": "O", "C": "CO", "F": "F"}
    present = "".join(kept[flag] for flag in given)
    shown = "".join(flag for flag in "POCF" if flag in present)
    magic, mask = (text.encode().decode("unicode_escape").encode("latin-1").hex() for text in (magic, mask))
    rows = ("enabled", f"interpreter {interpreter}", f"flags: {shown}", f"offset {offset}", f"magic {magic}")
    return name, "\n".join((*rows, f"mask {mask}")) + "\n"


@given(arches, paths, flags)
def test_an_entry_read_back_equals_what_was_registered(arch: Arch, interpreter: Path, given: str) -> None:
    wanted = binfmt.handler(arch, interpreter, given)
    assert binfmt.parse_entry(*shown_by_kernel(binfmt.line(wanted))) == wanted


@given(arches, paths)
def test_a_handler_serves_its_own_architecture_and_no_other(arch: Arch, interpreter: Path) -> None:
    entry = binfmt.handler(arch, interpreter)
    served = {ARCHES[platform].qemu for platform in ARCHES if entry.serves(platform)}
    assert served == {arch.qemu}


def test_the_line_is_the_one_of_the_manual() -> None:
    assert binfmt.registration_line(ARM64, QEMU, "PF", "mine") == (
        rb":mine:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
        rb":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
        rb":/usr/bin/qemu-aarch64-static:PF"
    )


def test_the_longest_line_fits_into_what_the_kernel_accepts() -> None:
    assert max(len(binfmt.registration_line(arch, Path("/" + "x" * 126))) for arch in ARCHES.values()) < 1920


def test_credentials_imply_opening_the_program() -> None:
    assert binfmt.handler(ARM64, QEMU, binfmt.CREDENTIALS).flags == "POCF"


@pytest.mark.parametrize("interpreter", ["relative", "/a:b", "/a\nb", "/a\\x41", "/" + "x" * 127])
def test_an_interpreter_that_the_kernel_would_misread_is_refused(interpreter: str) -> None:
    with pytest.raises(InputError, match="interpreter"):
        binfmt.handler(ARM64, Path(interpreter))


@pytest.mark.parametrize("name", ["a/b", "a:b", "..", "register", "status"])
def test_a_name_that_the_kernel_would_misread_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        binfmt.handler(ARM64, QEMU, name=name)


def test_debians_handler_is_read_and_serves() -> None:
    entry = binfmt.parse_entry("qemu-aarch64", DEBIAN_ENTRY)
    assert (entry.interpreter.name, entry.flags) == ("aarch64-binfmt-P", "POF")
    assert entry.serves(parse_platform("linux/arm64"))
    assert not entry.ours


@pytest.mark.parametrize(
    "text",
    [
        DEBIAN_ENTRY.replace("enabled", "disabled"),
        "enabled\ninterpreter /usr/bin/python3.11\nflags: \nextension .py\n",
        DEBIAN_ENTRY.replace("offset 0", "offset 120"),
        "enabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c4602010100000000000000000003\n",
    ],
    ids=["disabled", "by extension", "beyond the header", "only position-independent programs"],
)
def test_what_the_kernel_would_not_use_does_not_serve(text: str) -> None:
    assert not binfmt.parse_entry("other", text).serves(parse_platform("linux/arm64"))


def test_handlers_that_work_in_roots_come_first() -> None:
    plain, kept = binfmt.handler(ARM64, QEMU, "P", "plain"), binfmt.handler(ARM64, QEMU, "F", "kept")
    assert binfmt.serving([plain, kept], ARM64.platform) == (kept, plain)


def test_a_table_that_is_not_mounted_is_empty(tmp_path: Path) -> None:
    assert not binfmt.mounted(tmp_path)
    assert not binfmt.switched_on(tmp_path)
    assert binfmt.status(tmp_path) == []


def test_status_reads_every_entry_but_the_controls(tmp_path: Path) -> None:
    for name, text in (("register", ""), ("status", "enabled\n"), ("qemu-aarch64", DEBIAN_ENTRY)):
        (tmp_path / name).write_text(text)
    assert [entry.name for entry in binfmt.status(tmp_path)] == ["qemu-aarch64"]


def test_ordinary_users_are_told_the_exact_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HostError) as caught:
        binfmt.install([parse_platform("arm64"), parse_platform("linux/arm/v7")], credentials=True, mount=tmp_path)
    assert caught.value.hint == "sudo polyarch emulation install --credentials linux/arm64 linux/arm/v7"
    with pytest.raises(HostError) as caught:
        binfmt.remove(mount=tmp_path)
    assert caught.value.hint == "sudo polyarch emulation remove"


def test_a_refused_registration_says_which_handler(tmp_path: Path) -> None:
    entry: Handler = binfmt.handler(ARM64, QEMU)
    with pytest.raises(HostError, match="polyarch-aarch64"):
        binfmt.register(entry, tmp_path / "absent")
