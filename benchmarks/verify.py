"""`polyarch verify` against `skopeo copy` to a folder and `podman pull`, of the same image in a layout.

    python benchmarks/verify.py oci:DIR:TAG [--runs 5] [--platform linux/amd64]

The runs are interleaved, so that what else the machine does meets all alike; each starts with empty caches of its own
tool (the page cache is warm for all, since the first round is not counted). `verify` reads, decompresses, hashes and
judges everything; skopeo reads, hashes and writes the compressed blobs; podman reads, decompresses and unpacks one
platform, so it is compared with the proof of that platform alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from polyarch.arch import host_platform


@dataclass
class Contender:
    """A command to be timed; `argv` makes it for an empty folder that it may fill."""

    name: str
    argv: Callable[[Path], list[str]]
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # KiB

    def run(self, *, counted: bool) -> None:
        with tempfile.TemporaryDirectory(prefix="polyarch-bench-") as folder:
            work = Path(folder)
            env = {**os.environ, "POLYARCH_HOME": str(work / "home"), "POLYARCH_CACHE": str(work / "cache")}
            with (work / "log").open("w+") as log:
                start = time.perf_counter()
                process = subprocess.Popen(self.argv(work), stdout=log, stderr=log, env=env)
                _, status, usage = os.wait4(process.pid, 0)
                seconds = time.perf_counter() - start
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    log.seek(0)
                    raise SystemExit(f"{self.name} failed:\n{log.read()}")
            if counted:
                self.seconds.append(seconds)
                self.memory.append(usage.ru_maxrss)


def contenders(reference: str, platform: str) -> list[Contender]:
    verify = [sys.executable, "-m", "polyarch", "verify", reference]
    found = [Contender("polyarch verify, all platforms", lambda _: verify)]
    if shutil.which("skopeo"):
        copy = ["skopeo", "copy", "--quiet", "--all", reference]
        found.append(Contender("skopeo copy --all to dir:", lambda work: [*copy, f"dir:{work / 'copy'}"]))
    found.append(Contender(f"polyarch verify, {platform}", lambda _: [*verify, "--platform", platform]))
    if shutil.which("podman"):
        for driver in ("vfs", "overlay"):
            found.append(Contender(f"podman pull, {platform}, {driver}", _podman(reference, driver)))
    return found


def _podman(reference: str, driver: str) -> Callable[[Path], list[str]]:
    def argv(work: Path) -> list[str]:
        places = ["--root", str(work / "root"), "--runroot", str(work / "run"), "--storage-driver", driver]
        return ["podman", *places, "pull", "--quiet", reference]

    return argv


def main() -> None:
    parser = argparse.ArgumentParser(description="polyarch verify against skopeo and podman")
    parser.add_argument("reference", help="oci:DIR:TAG")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--platform", default=str(host_platform()), help="the one that podman pulls: this machine's")
    options = parser.parse_args()
    all_of_them = contenders(options.reference, options.platform)
    for number in range(options.runs + 1):
        for contender in all_of_them:
            contender.run(counted=number > 0)
    print(f"{'':<42}{'median':>9}{'min':>9}{'max':>9}{'memory':>10}  verify takes")
    proof = 0.0
    for contender in all_of_them:
        median = statistics.median(contender.seconds)
        verifies = contender.name.startswith("polyarch")
        proof = median if verifies else proof
        ratio = "" if verifies else f"  x {proof / median:.2f} of it"
        spread = f"{min(contender.seconds):>7.2f} s{max(contender.seconds):>7.2f} s"
        print(f"{contender.name:<42}{median:>7.2f} s{spread}{max(contender.memory) / 1024:>7.0f} MB{ratio}")


if __name__ == "__main__":
    main()
