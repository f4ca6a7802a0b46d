"""The namespace: many at once, and nothing left when its owner dies."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyarch import run
from polyarch.emulation.namespace import namespace


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path))
    return tmp_path


def test_many_namespaces_open_at_once_without_mixing_their_words(own_home: Path) -> None:
    def one(_: int) -> int:
        with namespace() as inside:
            return inside.pid

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(one, range(100)))) == 100
    assert list((own_home / "run").iterdir()) == []


def test_inside_we_are_root_with_processes_of_our_own() -> None:
    with namespace() as inside:
        said = run.capture(inside.enter(["sh", "-c", "id -u; ls /proc | grep -c '^[0-9]'"])).stdout.split()
    assert said[0] == "0"
    assert int(said[1]) < 10


def test_a_file_inside_is_not_seen_outside() -> None:
    with namespace() as inside:
        path = inside.write("folder/file", b"content", 0o600)
        assert run.capture(inside.enter(["cat", str(path)])).stdout == "content"
        assert not path.exists()


SCRIPT = """
from polyarch.emulation.namespace import namespace
from polyarch import run

with namespace() as inside:
    print(inside.pid, flush=True)
    run.attach(inside.enter(["sleep", "5432.25"]))
"""


def test_when_the_owner_is_killed_everything_inside_ends() -> None:
    owner = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    init = int(owner.stdout.readline())
    time.sleep(0.3)
    owner.kill()
    owner.wait()
    end = time.monotonic() + 10
    while Path(f"/proc/{init}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{init}").exists()
    assert not [line for line in _lines() if "sleep\0005432.25" in line]


def _lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found
