"""The main job from packages to four answers: bases, build, proof, registry, pull by digest, run, ask.

Everything lives in a temporary folder but the bases, which are kept for the next time; a registry listens on loopback
while it lasts.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bases import cache, make_bases

EXAMPLE = Path(__file__).parents[1] / "examples" / "offering"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
PATIENCE = 120.0  # seconds


def main() -> None:
    """Show each command as a user would type it, and what it answers."""
    env = os.environ | {"POLYARCH_HOME": str(cache() / "home"), "POLYARCH_CACHE": str(cache() / "cache")}
    Path(env["POLYARCH_HOME"]).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="polyarch-demo-") as folder, registry(Path(folder)) as host:
        title("base images of Debian's packages, one index")
        make_bases(PLATFORMS, env)
        polyarch(env, "doctor")
        polyarch(env, "plan", str(EXAMPLE), "--platform", ",".join(PLATFORMS))
        polyarch(env, "build", str(EXAMPLE), "-t", "offering:demo", "--platform", ",".join(PLATFORMS))
        polyarch(env, "verify", "offering:demo")
        digest = polyarch(env, "push", "offering:demo", f"{host}/offering:demo").strip()
        other = env | {"POLYARCH_HOME": str(Path(folder) / "elsewhere")}
        name = f"{host}/offering@{digest}"
        polyarch(other, "pull", name)
        secret = Path(folder) / "db-password"
        secret.write_text("unused here\n")
        secret.chmod(0o644)
        title("every platform, run here, says what it is")
        for platform in PLATFORMS:
            with service(other, name, platform, secret) as address:
                print(f"{platform:<12} {json.dumps(ask(f'{address}/version'))}", flush=True)


def title(text: str) -> None:
    """A heading between steps."""
    print(f"\n== {text}", flush=True)


def polyarch(env: dict[str, str], *args: str) -> str:
    """Run a command with its progress shown; returns what it printed."""
    title(f"polyarch {' '.join(args)}")
    done = subprocess.run(
        [sys.executable, "-m", "polyarch", *args], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    print(done.stdout, end="", flush=True)
    return done.stdout


@contextmanager
def service(env: dict[str, str], image: str, platform: str, secret: Path) -> Iterator[str]:
    """The example on a free port; ended by SIGTERM."""
    port = free_port()
    settings = ("-e", f"OFFERING_PORT={port}", "-e", "DB_PASSWORD_FILE=/run/db", "-v", f"{secret}:/run/db:ro")
    command = [sys.executable, "-m", "polyarch", "run", image, "--platform", platform, *settings]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/healthz", process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry on loopback; yields HOST:PORT."""
    port = free_port()
    config = folder / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    config.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    env = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], env=env, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/v2/", process)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the address answers. Raises `TimeoutError`, or `RuntimeError` when the process ends first."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the process behind {url} ended with {process.returncode}")
        try:
            ask(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


def ask(url: str) -> object:
    """The JSON that an address answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read() or b"{}")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
