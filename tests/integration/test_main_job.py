"""The main job on the real example: built for three platforms, proved, pushed, pulled by digest, run."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import Polyarch, events, processes
from registry_server import registry_server

from conftest import EXAMPLE, PLATFORMS

pytestmark = pytest.mark.slow

UNAME = {"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/s390x": "s390x"}
PATIENCE = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@contextmanager
def service(polyarch: Polyarch, image: str, platform: str, secret: Path, **settings: str) -> Iterator[tuple[str, Any]]:
    """The example running; yields its address and the process, and ends it by SIGTERM."""
    port = free_port()
    env = {"OFFERING_PORT": str(port), "OFFERING_BIND": "127.0.0.1", "DB_PASSWORD_FILE": "/run/db-password"} | settings
    options = [part for name, value in env.items() for part in ("-e", f"{name}={value}")]
    options += ["-v", f"{secret}:/run/db-password:ro"]
    process = polyarch.start("run", image, "--platform", platform, *options)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: ask(f"{address}/healthz")[0] == 200, process)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def wait_until(ready: Any, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail("not ready in time")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "db-password"
    path.write_text("opensesame\n")
    path.chmod(0o644)
    return path


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real mariadbd with the example's schema; yields its port."""
    root = tmp_path_factory.mktemp("mariadb")
    root.chmod(0o755)
    data, port, socket_path = root / "data", free_port(), root / "sock"
    user = ["--user=root"] if os.geteuid() == 0 else []
    init = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        *user,
    ]
    subprocess.run(init, check=True, capture_output=True)
    server = subprocess.Popen(
        [
            *("mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket_path}", f"--pid-file={root}/pid"),
            # names are not resolved: an account of anybody at localhost would come before ours
            *("--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve", *user),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = ["mariadb", "--no-defaults", f"--socket={socket_path}", "-uroot"]
    try:
        wait_until(lambda: subprocess.run([*client, "-e", "SELECT 1"], capture_output=True).returncode == 0, server)  # type: ignore[arg-type]
        setup = (
            "CREATE DATABASE offering CHARACTER SET utf8mb4; CREATE USER offering@'%' IDENTIFIED BY 'opensesame';"
            "GRANT SELECT ON offering.* TO offering@'%'; USE offering;\n" + (EXAMPLE / "schema.sql").read_text()
        )
        subprocess.run(client, input=setup, text=True, check=True)
        yield port
    finally:
        server.terminate()
        server.wait()


def test_every_platform_is_proved_to_be_what_it_says(built: tuple[Polyarch, str]) -> None:
    polyarch, digest = built
    report = polyarch.json("verify", "offering:test")
    assert report["ok"]
    assert report["digest"] == digest
    images = {entry["platform"]: entry for entry in report["entries"] if entry["kind"] == "image"}
    assert set(images) == set(PLATFORMS)
    assert all(entry["elves"] > 300 and entry["errors"] == 0 and entry["warnings"] == 0 for entry in images.values())


def test_the_same_build_again_keeps_everything(built: tuple[Polyarch, str]) -> None:
    polyarch, digest = built
    again = polyarch.json("build", EXAMPLE, "-t", "offering:test", "--platform", ",".join(PLATFORMS))
    assert again["digest"] == digest
    assert all(image["reused"] for image in again["images"])


def test_the_final_image_has_no_compiler_and_no_root(built: tuple[Polyarch, str]) -> None:
    polyarch, _ = built
    for platform in PLATFORMS:
        said = polyarch.run(
            "run", "offering:test", "--platform", platform, "--entrypoint", "/bin/sh", "--", "-c",
            "id -u; uname -m; command -v gcc cc make ld || echo none",
        )  # fmt: skip
        assert said.stdout.split() == ["10001", UNAME[platform], "none"]


def test_pushed_pulled_by_digest_and_run_on_every_platform(
    built: tuple[Polyarch, str], empty: Polyarch, tmp_path: Path, secret: Path
) -> None:
    polyarch, digest = built
    with registry_server(tmp_path / "registry") as server:
        name = f"{server.host}/team/offering"
        assert polyarch.json("push", "offering:test", f"{name}:1")["digest"] == digest
        pulled = empty.json("pull", f"{name}@{digest}")
        assert pulled["digest"] == digest
        for platform in PLATFORMS:
            with service(empty, f"{name}@{digest}", platform, secret) as (address, process):
                status, version = ask(f"{address}/version")
                assert status == 200
                assert (version["architecture"], version["platform"]) == (UNAME[platform], platform)
                assert ask(f"{address}/readyz")[0] == 503
            assert process.returncode == 0, "SIGTERM ends it cleanly"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_rows_of_a_real_database_come_from_every_architecture(
    built: tuple[Polyarch, str], database: int, secret: Path, platform: str
) -> None:
    polyarch, _ = built
    settings = {"DB_HOST": "127.0.0.1", "DB_PORT": str(database)}
    with service(polyarch, "offering:test", platform, secret, **settings) as (address, _):
        assert ask(f"{address}/readyz")[0] == 200
        status, rows = ask(f"{address}/offering")
        assert status == 200
        assert [row["offering_id"] for row in rows] == list(range(1, 11))
        assert rows[7]["L30_"] == "Cyber Vault “Größe L”"
        assert rows[8]["Theme"] is None


def handlers_and_mounts() -> tuple[list[str], list[str]]:
    """What the host shows of handlers and of tables of twins."""
    handlers = sorted(path.name for path in Path("/proc/sys/fs/binfmt_misc").glob("*"))
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return handlers, [line for line in mounts if "binfmt_misc" in line or "twins" in line]


def test_a_build_killed_in_its_middle_leaves_no_name_and_goes_on_from_what_was_done(
    polyarch: Polyarch, tmp_path: Path
) -> None:
    before = handlers_and_mounts()
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM debian:trixie\nRUN echo first > /first\nRUN sleep 71.5; echo second > /second\n"
    )
    both = ("--platform", "linux/arm64,linux/amd64", "--strategy", "linux/arm64=emulate")
    arguments = ("build", context, "-t", "slow", *both, "--json")
    process = polyarch.start(*arguments, stderr=subprocess.PIPE)
    assert process.stderr is not None
    reached = set()
    for line in process.stderr:
        event = json.loads(line)
        if event["kind"] == "step" and "sleep" in event["text"]:
            reached.add(event["subject"])
        if len(reached) == 2:
            break
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while processes("sleep 71.5") and time.monotonic() < end:
        time.sleep(0.1)
    assert processes("sleep 71.5") == [], "nothing outlives the build"
    assert handlers_and_mounts() == before
    assert "slow" not in polyarch.run("images").stdout
    text = (context / "Dockerfile").read_text().replace("sleep 71.5; ", "")
    (context / "Dockerfile").write_text(text)
    again = polyarch.run(*arguments)
    cached = [event["subject"] for event in events(again.stderr) if event["text"] == "cached"]
    assert sorted(cached) == ["linux/amd64", "linux/arm64"], "the first step was done before"
    assert not list((polyarch.home / "images" / "incoming").iterdir())
    assert not list((polyarch.home / "run").iterdir())
    containers = polyarch.home / "storage" / "overlay-containers" / "containers.json"
    assert json.loads(containers.read_text() or "[]") == [], "no working container is left behind"


def test_logs_of_each_platform_are_kept(built: tuple[Polyarch, str]) -> None:
    polyarch, _ = built
    newest = max((polyarch.home / "logs").iterdir())
    assert {path.name for path in newest.iterdir()} == {"linux-amd64.log", "linux-arm64.log", "linux-s390x.log"}
    assert re.search(r"STEP 2/6: RUN apt-get", (newest / "linux-arm64.log").read_text())


def test_podman_understands_the_pushed_index(built: tuple[Polyarch, str], tmp_path: Path) -> None:
    polyarch, _ = built
    if shutil.which("skopeo") is None:
        pytest.fail("skopeo is needed by polyarch itself")
    with registry_server(tmp_path / "registry") as server:
        polyarch.run("push", "offering:test", f"{server.host}/offering:1")
        raw = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", "--override-arch", "s390x", f"docker://{server.host}/offering:1"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    assert json.loads(raw.stdout)["Architecture"] == "s390x"
