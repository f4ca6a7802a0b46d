"""A cluster as a node: the real API server, controllers and scheduler; see `cluster` for what runs the pods."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import VOLUME, Cluster, build_servers, cluster, kubelet
from harness import Polyarch, dockerfile
from test_nodes import ARM, BOUND, User, contents, during, texts

from conftest import copy_store
from polyarch.arch import parse_platform
from polyarch.emulation.namespace import namespace
from polyarch.facts.gather import gather

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="our kubelet mounts volumes"),
]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of an amd64 and an arm64 machine."""
    build_servers()
    VOLUME.mkdir(exist_ok=True)
    handlers = gather().registrations([parse_platform(ARM)])
    with (
        namespace(handlers) as inside,
        cluster(tmp_path_factory.mktemp("kubernetes") / "c") as found,
        kubelet(found, "amd", "amd64"),
        kubelet(found, "arm", "arm64", inside.enter([])),
    ):
        yield found


@pytest.fixture
def user(kept: Polyarch, machines: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setenv("KUBECONFIG", str(machines.kubeconfig))
    store = copy_store(kept, tmp_path / "polyarch")
    return User(store.home, tmp_path / "cache", tmp_path)


def test_a_build_is_a_job_on_a_machine_of_the_platform_and_leaves_nothing(
    user: User, machines: Cluster, tmp_path: Path
) -> None:
    user.run("node", "add", "cluster", "kubernetes://admin@test/builds", "--image", "tools/buildah:1")
    (checked,) = user.json("node", "check")
    assert {"linux/amd64", ARM} <= set(checked["platforms"])
    run = "RUN --mount=type=secret,id=t dpkg --print-architecture > /arch; wc -c < /run/secrets/t > /size"
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", *BOUND, "COPY big /", run)
    (files / "big").write_bytes(os.urandom(300_000))
    (tmp_path / "t").write_text("1234567")
    arguments = ("build", files, "-t", "app", "--platform", ARM, "--secret", f"id=t,src={tmp_path / 't'}")
    told = texts(user.run(*arguments, "--json").stderr)
    assert "start linux/arm64: on node cluster" in told
    assert {"big", "arch", "size"} <= set(contents(user, "app"))
    (pod,) = machines.pods
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (wanted, _) = terms["nodeSelectorTerms"][0]["matchExpressions"]
    assert (wanted["key"], wanted["values"]) == ("kubernetes.io/arch", ["arm64"])
    assert pod["spec"]["nodeName"] == "arm"
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "Job"
    assert machines.names("/apis/batch/v1/namespaces/builds/jobs") == []


def test_a_failed_step_in_a_pod_is_told_as_one_here(user: User, tmp_path: Path) -> None:
    user.run("node", "add", "cluster", "kubernetes://admin@test/builds", "--image", "tools/buildah:1")
    files = dockerfile(tmp_path / "c", "FROM scratch", "COPY Dockerfile /x", 'RUN ["/nothing"]')
    done = user.run("build", files, "--platform", ARM, "--strategy", f"{ARM}=node", code=1)
    assert f"{files}/Dockerfile:3" in done.stderr


def test_a_context_that_there_is_not_is_told(user: User) -> None:
    refused = user.run("node", "add", "other", "kubernetes://nowhere/builds", "--image", "tools/buildah:1", code=4)
    assert "nowhere" in refused.stderr
    assert "kubectl config get-contexts" in refused.stderr


def test_a_cluster_out_of_reach_is_told(user: User, machines: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = user.home / "kubeconfig"
    config = json.loads(machines.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    elsewhere.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(elsewhere))
    refused = user.run("node", "add", "gone", "kubernetes://admin@test/builds", "--image", "tools/buildah:1", code=4)
    assert "node gone" in refused.stderr


def test_a_pod_that_is_deleted_in_mid_build_leaves_the_platform_to_emulation(
    user: User, machines: Cluster, tmp_path: Path
) -> None:
    user.run("node", "add", "cluster", "kubernetes://admin@test/builds", "--image", "tools/buildah:1")
    files = dockerfile(tmp_path / "c", "FROM debian:trixie", *BOUND, "RUN echo begun; sleep 4; echo done > /done")
    build = during(user, "begun", files, "-t", "app", "--platform", ARM)
    (name,) = machines.names("/api/v1/namespaces/builds/pods")
    machines.call("DELETE", f"/api/v1/namespaces/builds/pods/{name}")
    _, told = build.communicate()
    assert build.returncode == 0, told
    assert "node cluster is left" in texts(told)
    assert "done" in contents(user, "app")
