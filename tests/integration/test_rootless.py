"""An ordinary user builds and runs a foreign platform; the host's binfmt table is empty before and after."""

import json
import os
import shutil
from pathlib import Path

import pytest
from harness import Polyarch
from users import User, ordinary_user

from conftest import copy_store
from polyarch import run
from polyarch.emulation import binfmt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a user"),
    pytest.mark.skipif(bool(binfmt.status()), reason="the host's table of binfmt_misc is in use"),
]
NAME = "polyarch-builder"


def hand_over(kept: Polyarch, user: User) -> None:
    """Give the user a store with the bases in it, as `polyarch base` would have made it."""
    folder = user.home / ".local" / "share" / "polyarch"
    shutil.copytree(kept.home / "images", folder / "images")
    run.capture(["chown", "-R", f"{user.name}:", str(user.home)])


def test_an_ordinary_user_builds_and_runs_what_this_machine_cannot_execute(kept: Polyarch, tmp_path: Path) -> None:
    with ordinary_user(NAME, subordinate_ids=True) as user:
        hand_over(kept, user)
        context = user.home / "app"
        context.mkdir()
        (context / "Dockerfile").write_text(
            "FROM debian:trixie\n"
            "RUN useradd --system --uid 4242 app && install -o app -m 600 /dev/null /owned && uname -m > /arch\n"
            "USER app\n"
            'CMD ["sh", "-c", "id -u; stat -c %U /owned; cat /arch"]\n'
        )
        done = user.polyarch("build", str(context), "-t", "app", "--platform", "linux/arm64,linux/s390x", "--json")
        assert len(json.loads(done.stdout)["images"]) == 2
        assert binfmt.status() == []
        for platform, machine in (("linux/arm64", "aarch64"), ("linux/s390x", "s390x")):
            said = user.polyarch("run", "app", "--platform", platform)
            assert said.stdout.split() == ["4242", "app", machine]
    assert binfmt.status() == []


def test_root_and_user_build_the_same_layers_of_files(kept: Polyarch, tmp_path: Path) -> None:
    """Owners are those of the image, whatever ids they are mapped to outside."""
    root = copy_store(kept, tmp_path / "root")
    lines = "FROM debian:trixie\nCOPY file /file\nUSER 7\n"
    with ordinary_user(NAME, subordinate_ids=True) as user:
        hand_over(kept, user)
        for context in (tmp_path / "app", user.home / "app"):
            context.mkdir()
            (context / "Dockerfile").write_text(lines)
            (context / "file").write_text("x")
        user.polyarch("build", str(user.home / "app"), "-t", "app", "--platform", "linux/arm64")
        owned = user.polyarch(
            "run", "app", "--platform", "linux/arm64", "--", "stat", "-c", "%u:%g %a", "/file", "/etc"
        )
    root.run("build", tmp_path / "app", "-t", "app", "--platform", "linux/arm64")
    also = root.run("run", "app", "--platform", "linux/arm64", "--", "stat", "-c", "%u:%g %a", "/file", "/etc")
    assert owned.stdout == also.stdout
