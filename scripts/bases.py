"""Make the example's base images; used by the demo, the benchmarks and the tests.

Debian trixie by its own name. Where the archive that is reached is torn (package lists that do not fit the Release
file of one name), the same release under its other name, `stable`. What the host's apt accepts of an archive's age,
the images accept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = "debian:trixie"
PYTHON = ("python-base", ("python3", "python3-pip"))  # what examples/python-web stands on
SUITES = ("debian:trixie", "debian:stable")


def make_bases(
    platforms: Sequence[str], env: Mapping[str, str] | None = None, name: str = NAME, include: Sequence[str] = ()
) -> None:
    """Make `debian:trixie` for the platforms in the store that `env` names; what was made before is kept.

    Under another name and with more packages, if given. Raises `CalledProcessError` when no suite can be bootstrapped.
    """
    command = [sys.executable, "-m", "polyarch", "base"]
    options = ["--platform", ",".join(platforms), "-t", name, *apt_options()]
    options += ["--include", ",".join(include)] if include else []
    for suite in SUITES[:-1]:
        if subprocess.run([*command, suite, *options], env=env, check=False).returncode == 0:
            return
        print(f"{suite} cannot be had from this archive today: the same release by its other name", file=sys.stderr)
    subprocess.run([*command, SUITES[-1], *options], env=env, check=True)


def cache() -> Path:
    """Where bases are kept between runs: outside the tree."""
    return Path(os.environ.get("POLYARCH_TEST_CACHE") or Path.home() / ".cache" / "polyarch-tests")


def apt_options() -> list[str]:
    """Options of `polyarch base` for an archive whose age the host's apt accepts."""
    name = "Acquire::Check-Valid-Until"
    said = subprocess.run(["apt-config", "dump", "--format=%v%n", name], capture_output=True, text=True, check=False)
    return ["--aptopt", f'{name} "false"'] if said.stdout.strip() in {"false", "0", "no"} else []


if __name__ == "__main__":
    make_bases(sys.argv[1:] or ["linux/amd64", "linux/arm64", "linux/s390x"])
