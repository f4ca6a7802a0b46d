"""The command line's own rules."""

import signal
import subprocess
import sys

import pytest

from polyarch.cli import main
from polyarch.report import printable


def test_tls_verify_is_written_as_in_podman() -> None:
    written = ["push", "a", "--tls-verify=false", "--", "--tls-verify=false"]
    assert main._as_podman_writes_it(written) == ["push", "a", "--no-tls-verify", "--", "--tls-verify=false"]


def test_an_error_of_the_system_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/data/blob")

    monkeypatch.setattr(main, "app", full)
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 4
    said = capsys.readouterr().err
    assert "/data/blob: No space left on device" in said
    assert "POLYARCH_HOME" in said


def test_an_interrupt_while_polyarch_starts_just_ends_it() -> None:
    script = "import polyarch.cli, os, signal; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_foreign_text_moves_no_cursor_and_forges_no_line() -> None:
    text = "a\x1b[2J\n::error::b\u202ec\udcff é"
    assert printable(text) == r"a\x1b[2J\n::error::b\u202ec\udcff é"
