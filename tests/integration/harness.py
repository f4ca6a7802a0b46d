"""polyarch as a user starts it: a process of its own, with a store of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Polyarch:
    """The command line with one store; `home` is its POLYARCH_HOME, `cache` its POLYARCH_CACHE."""

    home: Path
    cache: Path

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"POLYARCH_HOME": str(self.home), "POLYARCH_CACHE": str(self.cache)}

    def argv(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "polyarch", *map(str, args)]

    def run(
        self, *args: str | Path, code: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and demand the exit code."""
        done = subprocess.run(
            self.argv(*args), env=self.env | (env or {}), capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *args: str | Path) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def start(self, *args: str | Path, stderr: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*args), env=self.env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
        )


def events(stderr: str) -> list[dict[str, Any]]:
    """The progress of a `--json` command."""
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def dockerfile(folder: Path, *lines: str) -> Path:
    """A build context with this Dockerfile; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    return folder


def processes(word: str) -> Sequence[str]:
    """The command lines of living processes that contain `word`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if word in line:
                found.append(line)
    return found
