"""`polyarch run`: the program's own exit code, signals, environment; and what never started is explained."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import Polyarch, dockerfile, processes
from registry_server import PASSWORD, registry_server

pytestmark = pytest.mark.slow
EMULATED = "linux/arm64"


@pytest.mark.parametrize("platform", ["linux/amd64", EMULATED])
def test_the_exit_code_is_the_programs(polyarch: Polyarch, platform: str) -> None:
    done = polyarch.run(
        "run", "debian:trixie", "--platform", platform, "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7
    )
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_missing_program_is_127_and_one_of_another_processor_126(polyarch: Polyarch, tmp_path: Path) -> None:
    from polyarch.arch import parse_platform
    from polyarch.facts.programs import smallest

    done = polyarch.run("run", "debian:trixie", "--platform", EMULATED, "--", "/bin/nope", code=127)
    assert "has no program /bin/nope" in done.stderr
    alien = tmp_path / "alien"
    alien.write_bytes(smallest(parse_platform("s390x")))
    alien.chmod(0o755)
    done = polyarch.run("run", "debian:trixie", "-v", f"{alien}:/alien:ro", "--", "/alien", code=126)
    assert "cannot be executed as a program of linux/amd64" in done.stderr
    assert "polyarch verify" in done.stderr


def test_environment_volume_user_and_folder_are_as_asked(polyarch: Polyarch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    said = polyarch.run(
        "run", "debian:trixie", "-e", "A=b c", "-v", f"{tmp_path}/file:/file:ro", "-u", "33", "-w", "/usr",
        "--", "sh", "-c", 'echo "$A"; cat /file; echo; id -u; pwd',
    )  # fmt: skip
    assert said.stdout.splitlines() == ["b c", "content", "33", "/usr"]


@pytest.mark.parametrize("platform", ["linux/amd64", EMULATED])
def test_sigterm_reaches_the_program(polyarch: Polyarch, platform: str) -> None:
    script = "trap 'echo stopped; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    process = polyarch.start("run", "debian:trixie", "--platform", platform, "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 3
    assert process.stdout.read() == "stopped\n"


def test_nothing_outlives_a_run_that_is_killed(polyarch: Polyarch) -> None:
    process = polyarch.start("run", "debian:trixie", "--", "sh", "-c", "echo up; sleep 4321.5")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while processes("sleep 4321.5") and time.monotonic() < end:
        time.sleep(0.1)
    assert processes("sleep 4321.5") == []
    polyarch.run("run", "debian:trixie", "--", "true")
    containers = polyarch.home / "storage" / "overlay-containers" / "containers.json"
    assert json.loads(containers.read_text() or "[]") == [], "the next run removes what the killed one left"


def test_ctrl_c_ends_a_build_with_130_and_the_old_tag(polyarch: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN sleep 71.25")
    process = polyarch.start("build", context, "-t", "x", "--platform", EMULATED, "--json", stderr=subprocess.PIPE)
    assert process.stderr is not None
    while "sleep 71.25" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(30) == 130
    assert "Traceback" not in said
    assert processes("sleep 71.25") == []
    assert "x:latest" not in polyarch.run("images").stdout


def test_a_push_with_a_wrong_password_says_how_to_log_in(polyarch: Polyarch, tmp_path: Path) -> None:
    with registry_server(tmp_path / "registry", auth=True) as server:
        target = f"{server.host}/base:1"
        done = polyarch.run("push", "debian:trixie", target, code=5)
        assert re.search(rf"(podman|skopeo|docker) login {re.escape(server.host)}", done.stderr)
        wrong = server.write_auth_file("wrong")
        done = polyarch.run("push", "debian:trixie", target, code=5, env={"REGISTRY_AUTH_FILE": str(wrong)})
        assert "wrong" not in done.stderr.replace(str(wrong), "")
        right = server.write_auth_file(PASSWORD)
        done = polyarch.run("push", "debian:trixie", target, env={"REGISTRY_AUTH_FILE": str(right)})
        assert PASSWORD not in done.stderr + done.stdout


def test_build_and_push_in_one_go(polyarch: Polyarch, empty: Polyarch, tmp_path: Path) -> None:
    context = dockerfile(tmp_path / "c", "FROM debian:trixie", "LABEL x=y")
    with registry_server(tmp_path / "registry") as server:
        name = f"{server.host}/app:1"
        digest = polyarch.json("build", context, "-t", name, "--platform", f"linux/amd64,{EMULATED}", "--push")[
            "digest"
        ]
        assert empty.json("pull", name)["digest"] == digest


def test_a_base_comes_from_a_registry_too(polyarch: Polyarch, empty: Polyarch, tmp_path: Path) -> None:
    with registry_server(tmp_path / "registry") as server:
        polyarch.run("push", "debian:trixie", f"{server.host}/library/debian:trixie")
        context = dockerfile(tmp_path / "c", f"FROM {server.host}/library/debian:trixie", "RUN uname -m > /arch")
        empty.run("build", context, "-t", "app", "--platform", EMULATED)
    assert empty.run("run", "app", "--platform", EMULATED, "--", "cat", "/arch").stdout == "aarch64\n"
