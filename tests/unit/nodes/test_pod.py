"""A build's Job, and what a cluster says of pods and commands."""

import pytest

from polyarch.arch import parse_platform
from polyarch.errors import InputError
from polyarch.nodes.model import Node, parse_address
from polyarch.nodes.pod import exit_code, job, waiting

NODE = Node("cluster", parse_address("kubernetes://admin@prod/builds"), image="tools/buildah:1")


@pytest.mark.parametrize(
    ("text", "context"),
    [("kubernetes://prod/ns", "prod"), ("kubernetes://arn:aws:eks:1:cluster/big/ns", "arn:aws:eks:1:cluster/big")],
)
def test_the_namespace_follows_the_last_slash(text: str, context: str) -> None:
    found = parse_address(text)
    assert (found.host, found.namespace) == (context, "ns")
    assert str(found) == text


@pytest.mark.parametrize("text", ["kubernetes://", "kubernetes://prod", "kubernetes://prod/", "kubernetes://prod/N_S"])
def test_a_cluster_without_context_or_namespace_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


def test_the_pod_must_be_placed_by_architecture_and_is_no_root() -> None:
    made = job(NODE, parse_platform("arm/v7"), "polyarch-1")
    spec = made["spec"]["template"]["spec"]
    affinity = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (arch, _) = affinity["nodeSelectorTerms"][0]["matchExpressions"]
    assert (arch["key"], arch["values"]) == ("kubernetes.io/arch", ["arm"])
    (container,) = spec["containers"]
    assert container["image"] == "tools/buildah:1"
    assert container["securityContext"]["runAsUser"] != 0
    assert "privileged" not in container["securityContext"]
    assert made["spec"]["backoffLimit"] == 0


def test_the_exit_code_of_a_command() -> None:
    failure = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}
    assert (exit_code({"status": "Success"}), exit_code(failure), exit_code({"status": "Failure"})) == (0, 7, 128)


def test_why_a_pod_does_not_run() -> None:
    pulling = {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}
    assert waiting(pulling) == "ErrImagePull: no such image"
    alone = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    assert waiting({"conditions": [alone]}) == "Unschedulable: 0/2 nodes"
    assert waiting({}) == ""
