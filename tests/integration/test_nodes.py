"""Builds on nodes: real sshds in network namespaces, see `machines`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import Polyarch, dockerfile, events
from machines import ORDINARY, Client, Machine, machine, make_client

from conftest import copy_store
from polyarch.arch import parse_platform
from polyarch.build.compare import tree
from polyarch.build.graft import load
from polyarch.emulation.namespace import Namespace, namespace
from polyarch.facts.gather import gather
from polyarch.oci.layout import Layout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
ARM = "linux/arm64"
BOUND = ("ARG TARGETARCH",)  # no graft


@dataclass(frozen=True)
class User(Polyarch):
    """polyarch with a home of its own, for SSH."""

    user_home: Path

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"HOME": str(self.user_home), "SSH_AUTH_SOCK": ""}


@dataclass(frozen=True)
class Site:
    """The user, and two machines: `arm` executes arm64 programs, too; on `amd` an ordinary user logs in."""

    client: Client
    arm: Machine
    amd: Machine
    store: User
    inside: Namespace

    def user(self, folder: Path) -> User:
        """A store of a test's own, which knows the machines as nodes `arm` and `amd`."""
        copy_store(self.store, folder)
        shutil.copy(self.store.home / "nodes.json", folder / "nodes.json")
        return User(folder, self.store.cache, self.client.home)


@pytest.fixture(scope="module")
def site(kept: Polyarch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    client = make_client(folder / "user")
    handlers = gather().registrations([parse_platform(ARM)])
    with (
        namespace(handlers) as inside,
        machine(1, folder / "arm", client, inside.enter([])) as arm,
        machine(2, folder / "amd", client, user=ORDINARY) as amd,
    ):
        store = User(copy_store(kept, folder / "store").home, folder / "cache", client.home)
        client.know(arm)
        client.know(amd)
        store.run("node", "add", "arm", arm.address, "--platform", ARM)
        store.run("node", "add", "amd", amd.address)
        yield Site(client, arm, amd, store, inside)


def contents(user: Polyarch, name: str) -> dict[str, object]:
    """What the one image of an index holds above its base, by path; /run itself may have been mounted over."""
    layout = Layout(user.home / "images")
    index = layout.document(layout.names()[f"docker.io/library/{name}:latest"])
    (entry,) = index.value.manifests  # type: ignore[union-attr]
    return {path: found for path, found in tree(layout, load(layout, entry.digest), 1) if path != "run"}


def texts(stderr: str) -> str:
    return "\n".join(
        f"{event['kind']} {event['subject']}: {event['text']}" for event in events(stderr) if "kind" in event
    )


DOCKERFILE = (
    "FROM debian:trixie", "ARG WHO=nobody", "COPY . /app/",
    'RUN --mount=type=bind,target=/src cp /src/two "/app/to $WHO"',
    "RUN <<END", "uname -n >/dev/null; chmod 700 /app/one; echo done > /app/three", "END", 'SHELL ["/bin/sh", "-ec"]',
    "RUN mkdir /x; ln -s ../app /x/app", 'CMD ["/bin/true"]',
)  # fmt: skip


def context(folder: Path) -> Path:
    dockerfile(folder, *DOCKERFILE)
    (folder / "one").write_text("1")
    (folder / "two").write_text("2")
    (folder / "two").chmod(0o755)
    (folder / "skip").write_text("never")
    (folder / ".dockerignore").write_text("skip\nDockerfile\n.dockerignore\n")
    return folder


def test_an_image_that_a_node_builds_is_the_one_that_is_built_here(site: Site, tmp_path: Path) -> None:
    files = context(tmp_path / "c")
    arguments = ("build", files, "-t", "app", "--build-arg", "WHO=you and me", "--platform", "linux/amd64")
    there, here = site.user(tmp_path / "there"), site.user(tmp_path / "here")
    done = there.json(*arguments, "--strategy", "linux/amd64=node")
    assert [image["node"] for image in done["images"]] == ["amd"]
    assert here.json(*arguments)["images"][0]["node"] is None
    assert contents(there, "app") == contents(here, "app")
    assert "app/to you and me" in contents(there, "app")
    alone = site.user(tmp_path / "alone")
    # podman wants its folder to have a short name
    with (
        tempfile.TemporaryDirectory(prefix="pn") as folder,
        machine(5, Path(folder) / "m", site.client, lacks="buildah") as pod,
    ):
        site.client.know(pod)
        alone.run("node", "rm", "amd")
        alone.run("node", "add", "pod", f"{pod.address}{folder}/n")
        assert [found["engine"] for found in alone.json("node", "check", "pod")] == ["podman"]
        assert alone.json(*arguments, "--strategy", "linux/amd64=node")["images"][0]["node"] == "pod"
    assert contents(alone, "app") == contents(here, "app")


def test_a_pinned_stage_runs_here_for_an_image_that_a_node_builds(site: Site, tmp_path: Path) -> None:
    files = dockerfile(
        tmp_path / "c", "FROM --platform=$BUILDPLATFORM debian:trixie AS tools", "ARG TARGETARCH",
        "RUN echo $(uname -m)-$TARGETARCH > /made", "FROM debian:trixie", *BOUND, "COPY --from=tools /made /made",
        "RUN uname -m >> /made",
    )  # fmt: skip
    user = site.user(tmp_path / "user")
    arguments = (files, "-t", "app", "--platform", ARM, "--strategy", f"{ARM}=node")
    planned = user.json("plan", files, "--platform", ARM, "--strategy", f"{ARM}=node")["platforms"][0]["stages"]
    assert [stage["strategy"] for stage in planned] == ["cross", "node"]
    assert user.json("build", *arguments)["images"][0]["node"] == "arm"
    assert user.run("run", "app", "--platform", ARM, "--", "cat", "/made").stdout.split() == ["x86_64-arm64", "aarch64"]
    again = user.run("build", *arguments, "--no-cache", "--json")
    assert texts(again.stderr).count("tools: RUN") == 1


def test_the_planner_prefers_a_node_to_emulation_and_sends_only_what_is_new(site: Site, tmp_path: Path) -> None:
    user, files = site.user(tmp_path / "p"), tmp_path / "c"
    dockerfile(files, "FROM debian:trixie", "COPY big /", *BOUND, "RUN dpkg --print-architecture > /arch")
    (files / "big").write_bytes(os.urandom(1 << 20))
    planned = user.json("plan", files, "--platform", ARM)["platforms"][0]["stages"][0]
    assert (planned["strategy"], planned["otherwise"]) == ("node", "emulate")
    build = ("build", files, "-t", "arm", "--platform", ARM, "--json")
    assert "start linux/arm64: on node arm" in texts(user.run(*build).stderr)
    assert "arch" in contents(user, "arm")
    folder = site.arm.kept
    kept = set(folder.glob("files/*/*"))
    dockerfile(files, "FROM debian:trixie", "COPY big /", *BOUND, "RUN dpkg --print-architecture > /other")
    user.run(*build)
    added = {
        path for path in (site.arm.home / ".cache" / "polyarch-node" / "files").rglob("*") if path.is_file()
    } - kept
    assert sum(path.stat().st_size for path in added) < 10_000
    assert not list((folder / "work").iterdir())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def during(user: Polyarch, step: str, *args: str | Path) -> subprocess.Popen[str]:
    """A build that has come to the step."""
    process = user.start("build", *args, "--json", stderr=subprocess.PIPE)
    assert process.stderr
    for line in process.stderr:
        if step in line:
            return process
    raise AssertionError(f"the build ended before {step}")


def test_a_failed_step_on_a_node_is_the_dockerfiles_fault_and_tried_once(site: Site, tmp_path: Path) -> None:
    user = site.user(tmp_path / "p")
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN true", "RUN echo last words; exit 9")
    wish = ("--strategy", "linux/amd64=node")
    done = user.run("build", files, "-t", "x", "--platform", "linux/amd64", *wish, code=1)
    assert f"{files}/Dockerfile:3: RUN echo last words; exit 9" in done.stderr
    assert "is left" not in done.stderr


def test_a_node_that_dies_in_mid_build_is_left_for_another(site: Site, tmp_path: Path) -> None:
    user = site.user(tmp_path / "p")
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", "RUN echo begun; sleep 4; echo done > /done")
    with machine(3, tmp_path / "dying", site.client) as dying:
        site.client.know(dying)
        user.run("node", "rm", "amd")
        user.run("node", "add", "dying", dying.address)
        user.run("node", "add", "amd", site.amd.address)
        arguments = (files, "-t", "app", "--platform", "linux/amd64", "--strategy", "linux/amd64=node")
        build = during(user, "begun", *arguments)
        dying.die()
        killed = time.monotonic()
        out, told = build.communicate()
    assert build.returncode == 0, told
    assert "note linux/amd64: node dying is left: node dying is lost" in texts(told)
    assert json.loads(out)["images"][0]["node"] == "amd"
    assert "done" in contents(user, "app")
    assert time.monotonic() - killed < 60  # noticed at once, not by a timeout of TCP


def test_without_a_node_left_the_build_completes_by_emulation_unless_forced(site: Site, tmp_path: Path) -> None:
    user = site.user(tmp_path / "p")
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", *BOUND, "RUN echo begun; sleep 4; echo done > /done")
    with machine(4, tmp_path / "dying", site.client, site.inside.enter([])) as dying:
        site.client.know(dying)
        user.run("node", "rm", "arm")
        user.run("node", "add", "dying", dying.address, "--platform", ARM)
        build = during(user, "begun", files, "-t", "app", "--platform", ARM)
        dying.die()
        out, told = build.communicate()
    assert build.returncode == 0, told
    assert "note linux/arm64: no node is left for it, so it is built here" in texts(told)
    assert json.loads(out)["images"][0]["node"] is None
    # it is remembered for a minute that the node is gone: the next plan does not wait for it
    planned = user.json("plan", files, "--platform", ARM)["platforms"][0]["stages"][0]
    assert planned["strategy"] == "emulate"
    assert "no node: node dying is lost" in planned["reason"]
    refused = user.run("build", files, "--platform", ARM, "--strategy", f"{ARM}=node", code=4)
    assert "node dying is lost" in refused.stderr


def test_a_secret_is_only_ever_in_the_nodes_memory_and_goes_even_if_polyarch_is_killed(
    site: Site, tmp_path: Path
) -> None:
    user, secret = site.user(tmp_path / "p"), tmp_path / "token"
    secret.write_text("hunter2hunter2")
    run = "RUN --mount=type=secret,id=t test $(cat /run/secrets/t | wc -c) = 14; echo begun; sleep 60"
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", run)
    wish = ("--strategy", "linux/amd64=node")
    build = during(
        user, "begun", files, "-t", "x", "--platform", "linux/amd64", *wish, "--secret", f"id=t,src={secret}"
    )
    wait_until(lambda: any("sleep 60" in line for line in site.amd.processes()))
    (memory,) = (site.amd.kept / "work").glob("*/secrets")
    (kept,) = Path(memory.read_text().strip()).iterdir()
    assert kept.is_relative_to("/dev/shm")
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert kept.read_text() == "hunter2hunter2"
    assert not any("hunter2" in line for line in site.amd.processes())
    build.kill()
    build.communicate()
    wait_until(lambda: not kept.parent.exists())
    wait_until(lambda: not any("sleep 60" in line for line in site.amd.processes()))
    wait_until(lambda: not any("hold" in line for line in site.amd.processes()))
    # neither in a file of ours nor in a container that the killed build left
    found = subprocess.run(["grep", "-rl", "hunter2hunter2", str(site.amd.kept)], capture_output=True, text=True)
    assert not found.stdout


def test_a_host_key_that_nobody_knows_is_refused_whatever_the_configuration_says(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(site.client.home, home)
    (home / ".ssh" / "known_hosts").unlink()
    (home / ".ssh" / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile none\n")
    stranger = User(tmp_path / "p", site.store.cache, home)
    refused = stranger.run("node", "add", "amd", site.amd.address, code=4)
    assert "host key" in refused.stderr
    assert f"ssh-keyscan -p 2222 {site.amd.host}" in refused.stderr
    assert stranger.json("node", "ls") == []


def test_the_users_openssh_configuration_counts(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(
        f"Host Big\n HostName {site.amd.host}\n Port 2222\n User {site.amd.user}\n"
        f" IdentityFile {site.client.home}/.ssh/id_ed25519\n UserKnownHostsFile {site.client.home}/.ssh/known_hosts\n"
    )
    user = User(tmp_path / "p", tmp_path / "cache", home)
    user.run("node", "add", "one", f"ssh://Big{site.amd.home}/elsewhere")
    (checked,) = user.json("node", "check")
    assert checked["platforms"] == ["linux/amd64"]
    assert (site.amd.home / "elsewhere").is_dir()


def test_a_node_out_of_reach_is_told_and_costs_seconds(site: Site, tmp_path: Path) -> None:
    user = site.user(tmp_path / "p")
    listed = json.loads((user.home / "nodes.json").read_text())
    listed["nodes"] = [{"name": "gone", "address": f"ssh://root@{site.amd.host}:9", "platforms": [ARM], "slots": 1}]
    (user.home / "nodes.json").write_text(json.dumps(listed))
    assert "gone" in user.run("node", "check", code=4).stderr
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", *BOUND, "RUN true")
    planned = user.json("plan", files, "--platform", ARM)["platforms"][0]["stages"][0]
    assert planned["strategy"] == "emulate"
    assert "no node: node gone cannot be reached" in planned["reason"]
