"""The facts of the machine that runs the tests: found by trying, quick when known, and right for ordinary users too."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import elftools
import pytest

import polyarch
from polyarch import run
from polyarch.arch import host_platform, parse_platform
from polyarch.emulation import binfmt
from polyarch.facts.gather import gather

PYTHON = "/usr/bin/python3"  # the distribution's own: ordinary users may not read a pyenv in /root
USER = "polyarch-doctor"
SCRIPT = "import json; from polyarch.facts.gather import gather; print(json.dumps(gather().as_dict()))"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))


def test_the_host_runs_its_own_programs() -> None:
    assert gather().execution(host_platform()).way == "native"


def test_probing_leaves_nothing_behind_but_its_answers(tmp_path: Path) -> None:
    gather()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["probes.json"]
    assert [path for path in (tmp_path / "home").rglob("*") if path.name != "run"] == []


def test_known_facts_come_at_once_and_are_the_same() -> None:
    first = gather()
    if not first.isolation:
        pytest.skip("what does not work is tried again each time")
    start = time.monotonic()
    assert gather() == first
    assert time.monotonic() - start < 0.15


def test_refreshing_finds_the_same_again() -> None:
    first = gather()
    assert gather(refresh=True).as_dict().keys() == first.as_dict().keys()
    assert gather(refresh=True).native == first.native


@contextmanager
def ordinary_user(*, subordinate_ids: bool) -> Iterator[Path]:
    """A user with a home of their own; yields a folder that they can read, with polyarch and what it imports."""
    none = ["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]
    run.capture(["useradd", "--create-home", "--shell", "/bin/sh", *none, USER])
    packages = Path(tempfile.mkdtemp(prefix="polyarch-packages-"))
    try:
        for kind in ("uid", "gid") if subordinate_ids else ():
            run.capture(["usermod", f"--add-sub{kind}s", "300000-365535", USER])
        for module in (polyarch, elftools):
            source = Path(str(module.__file__)).parent
            shutil.copytree(source, packages / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        run.capture(["chmod", "-R", "a+rX", str(packages)])
        yield packages
    finally:
        shutil.rmtree(packages)
        run.capture(["userdel", "--remove", USER], check=False)


def facts_of(packages: Path) -> dict[str, Any]:
    settings = [f"HOME=/home/{USER}", f"PYTHONPATH={packages}"]
    found = json.loads(run.capture(["runuser", "-u", USER, "--", "env", "-i", *settings, PYTHON, "-c", SCRIPT]).stdout)
    assert isinstance(found, dict)
    return found


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a user")
empty_table = pytest.mark.skipif(bool(binfmt.status()), reason="the host's table of binfmt_misc is in use")


@as_root
@empty_table
def test_an_ordinary_user_builds_and_emulates_with_an_empty_host_table() -> None:
    with ordinary_user(subordinate_ids=True) as packages:
        facts = facts_of(packages)
    assert facts["uid"] != 0
    assert facts["handlers"] == []
    if not gather().namespace.own_binfmt:
        pytest.skip("this kernel has no binfmt_misc in user namespaces")
    assert facts["namespace"] == {"works": True, "own_binfmt": True, "obstacles": []}
    assert facts["isolation"] == gather().isolation
    assert facts["problems"] == gather().as_dict()["problems"]


@as_root
def test_an_ordinary_user_without_subordinate_ids_is_told_the_commands() -> None:
    with ordinary_user(subordinate_ids=False) as packages:
        facts = facts_of(packages)
    assert facts["namespace"]["works"] is False
    for problem, kind in zip(facts["problems"], ("uid", "gid"), strict=False):
        assert problem["why"] == f"user {USER} has no line in /etc/sub{kind}"
        assert re.fullmatch(rf"sudo usermod --add-sub{kind}s \d+-\d+ {USER}", problem["fix"])


def test_a_platform_of_an_emulator_is_executed_in_a_namespace_of_its_own() -> None:
    facts, arm64 = gather(), parse_platform("linux/arm64")
    if not (facts.namespace.own_binfmt and facts.emulator(arm64)):
        pytest.skip("no emulator, or no binfmt_misc in user namespaces")
    assert facts.execution(arm64).way in {"namespace", "native"}
