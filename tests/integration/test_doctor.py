"""The facts of the machine that runs the tests: found by trying, quick when known, and right for ordinary users too."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from users import PYTHON, User, ordinary_user

from polyarch.arch import host_platform, parse_platform
from polyarch.emulation import binfmt
from polyarch.facts.gather import gather

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


def facts_of(user: User) -> dict[str, Any]:
    found = json.loads(user.run([PYTHON, "-c", SCRIPT]).stdout)
    assert isinstance(found, dict)
    return found


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a user")
empty_table = pytest.mark.skipif(bool(binfmt.status()), reason="the host's table of binfmt_misc is in use")


@as_root
@empty_table
def test_an_ordinary_user_builds_and_emulates_with_an_empty_host_table() -> None:
    with ordinary_user(USER, subordinate_ids=True) as user:
        facts = facts_of(user)
    assert facts["uid"] != 0
    assert facts["handlers"] == []
    if not gather().namespace.own_binfmt:
        pytest.skip("this kernel has no binfmt_misc in user namespaces")
    assert facts["namespace"] == {"works": True, "own_binfmt": True, "obstacles": []}
    assert facts["isolation"] == gather().isolation
    assert facts["problems"] == gather().as_dict()["problems"]


@as_root
def test_an_ordinary_user_without_subordinate_ids_is_told_the_commands() -> None:
    with ordinary_user(USER, subordinate_ids=False) as user:
        facts = facts_of(user)
    assert facts["namespace"]["works"] is False
    for problem, kind in zip(facts["problems"], ("uid", "gid"), strict=False):
        assert problem["why"] == f"user {USER} has no line in /etc/sub{kind}"
        assert re.fullmatch(rf"sudo usermod --add-sub{kind}s \d+-\d+ {USER}", problem["fix"])


def test_a_platform_of_an_emulator_is_executed_in_a_namespace_of_its_own() -> None:
    facts, arm64 = gather(), parse_platform("linux/arm64")
    if not (facts.namespace.own_binfmt and facts.emulator(arm64)):
        pytest.skip("no emulator, or no binfmt_misc in user namespaces")
    assert facts.execution(arm64).way in {"namespace", "native"}
