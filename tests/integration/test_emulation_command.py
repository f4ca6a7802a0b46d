"""`polyarch emulation`: the host's table gets our handlers, and is afterwards as it was."""

import os

import pytest
from harness import Polyarch

from polyarch.emulation import binfmt

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="changes the host's table"),
    pytest.mark.skipif(bool(binfmt.status()), reason="the host's table of binfmt_misc is in use"),
]


def test_handlers_are_installed_once_shown_and_removed_exactly(empty: Polyarch) -> None:
    mounted = binfmt.mounted()
    try:
        assert "registered" in empty.run("emulation", "install", "linux/arm64", "s390x").stdout
        assert "unchanged" in empty.run("emulation", "install", "linux/arm64").stdout
        status = empty.json("emulation", "status", "linux/arm64", "linux/riscv64")
        assert status["linux/arm64"][0]["name"] == "polyarch-aarch64"
        assert set(status["linux/arm64"][0]["flags"]) == {"P", "F"}
        assert status["linux/riscv64"] == []
    finally:
        empty.run("emulation", "remove")
    assert binfmt.status() == []
    assert binfmt.mounted() == mounted
    assert "nothing to change" in empty.run("emulation", "remove").stdout


def test_the_flag_for_credentials_is_the_users_own_word(empty: Polyarch) -> None:
    try:
        empty.run("emulation", "install", "linux/arm64", "--credentials")
        assert "C" in empty.json("emulation", "status", "linux/arm64")["linux/arm64"][0]["flags"]
    finally:
        empty.run("emulation", "remove")
