"""The door to processes."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polyarch import run
from polyarch.errors import BuildError, HostError


def test_a_failure_says_how_it_ended_and_what_it_said() -> None:
    with pytest.raises(BuildError, match="exited with 3") as caught:
        run.capture(["sh", "-c", "echo out; echo why >&2; exit 3"])
    assert caught.value.detail == "why"


def test_a_missing_program_is_told_with_the_package() -> None:
    with pytest.raises(HostError, match="is not installed") as caught:
        run.capture(["no-such-program"])
    assert "apt-get install" in caught.value.hint


def test_children_see_only_the_allowlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    assert "MY_TOKEN" not in run.capture(["env"]).stdout


def test_a_child_that_does_not_end_is_told_so() -> None:
    with pytest.raises(BuildError, match="did not end within"):
        run.capture(["sleep", "60"], timeout=0.1)


def test_lines_come_as_they_are_printed_and_in_order() -> None:
    lines: list[str] = []
    asyncio.run(run.stream(["sh", "-c", "echo one; echo two >&2; printf 'three\\rfour'"], lines.append))
    assert lines == ["one", "two", "three", "four"]


def test_cancelling_ends_the_whole_process_group() -> None:
    async def start_and_cancel() -> int:
        pids: list[str] = []
        task = asyncio.create_task(run.stream(["sh", "-c", "sleep 60 & echo $!; wait"], pids.append))
        while not pids:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(pids[0])

    pid = asyncio.run(start_and_cancel())
    end = time.monotonic() + 5
    while time.monotonic() < end and not _gone(pid):
        time.sleep(0.01)
    assert _gone(pid)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


ATTACH = """
import sys
from polyarch import run
done = run.attach(["sh", "-c", sys.argv[1]])
print("said", repr(done.stderr), flush=True)
sys.exit(done.returncode)
"""


def test_an_attached_program_has_our_very_streams_and_a_way_to_say_why_not() -> None:
    script = "cat; echo mine >&2; echo why >&$POLYARCH_STATUS; exit 7"
    done = subprocess.run([sys.executable, "-c", ATTACH, script], input="in\n", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\nsaid 'why\\n'\n", "mine\n")


def test_sigterm_is_passed_on_past_the_command_to_its_child() -> None:
    script = 'sleep 30 & child=$!; echo "pid $child"; wait $child; exit 5'
    process = subprocess.Popen([sys.executable, "-c", ATTACH, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert re.match(r"pid \d+", process.stdout.readline())
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 5, "the command lives on and tells how its child ended"
