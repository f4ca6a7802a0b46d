"""A pure-Python image for several platforms, grafted and emulated, in one run on one machine.

    python benchmarks/graft.py [--image static-site|shell-tool|python-web] linux/arm64 linux/s390x

Every build is from nothing (`--no-cache`) in a store that holds the bases. `python-web` needs `python-base` there, and
reaches the package index.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from bases import apt_options, cache, make_bases  # noqa: E402

from polyarch.arch import host_platform  # noqa: E402

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Print seconds of each way, their ratio, and what each further platform costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="static-site", choices=("static-site", "shell-tool", "python-web"))
    parser.add_argument("platforms", nargs="*", default=["linux/arm64", "linux/s390x"])
    wanted = parser.parse_args()
    platforms = [str(host_platform()), *wanted.platforms]
    env = os.environ | {"POLYARCH_HOME": str(cache() / "home"), "POLYARCH_CACHE": str(cache() / "cache")}
    if wanted.image == "python-web":
        make_python(platforms, env)
    else:
        make_bases(platforms, env)
    native, _ = build(wanted.image, platforms[:1], env)
    build(wanted.image, platforms, env)  # what is known of the bases is kept: this is about the second build
    grafted, images = build(wanted.image, platforms, env)
    emulated, _ = build(wanted.image, platforms, env, "--strategy", "emulate")
    further = [image["seconds"] for image in images if image["grafted"]]
    print(f"{wanted.image} for {', '.join(platforms)}")
    print(f"native alone {native:6.1f} s\ngrafted      {grafted:6.1f} s\nemulated     {emulated:6.1f} s")
    print(
        f"emulated / grafted: {emulated / grafted:.1f}; of the further platforms alone, with their share of the proof:"
    )
    extra = max(grafted - native, sum(further), 0.01)
    print(
        f"{(emulated - native) / extra:.1f} ({extra / len(further):.2f} s each; the graft itself {max(further):.2f} s)"
    )


def build(image: str, platforms: list[str], env: dict[str, str], *options: str) -> tuple[float, list[Any]]:
    """Seconds of one build from nothing, proof and all, and what it says of each platform."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "polyarch", "build", str(ROOT / "examples" / image), "--no-cache", "--json"]
        command += ["--platform", ",".join(platforms), "-o", f"oci:{folder}/image", *options]
        command += ["--secret", f"id=ca,src={CERTIFICATES}"] if image == "python-web" else []
        started = time.monotonic()
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return time.monotonic() - started, json.loads(done.stdout)["images"]


def make_python(platforms: list[str], env: dict[str, str]) -> None:
    """`python-base` as `examples/python-web` has it; made before is kept."""
    command = [sys.executable, "-m", "polyarch", "base", "debian:stable", "--include", "python3,python3-pip"]
    subprocess.run(
        [*command, "-t", "python-base", "--platform", ",".join(platforms), *apt_options()], env=env, check=True
    )


if __name__ == "__main__":
    main()
