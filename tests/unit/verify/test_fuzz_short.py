"""The fuzz target in short; a million inputs are fed by hand (see the target's docstring)."""

import subprocess
import sys
from pathlib import Path

import pytest

TARGET = Path(__file__).parents[2] / "fuzz" / "fuzz_verify.py"


@pytest.mark.slow
def test_mutated_images_never_crash_or_hang_the_proof() -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    done = subprocess.run([sys.executable, str(TARGET), "--short"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
