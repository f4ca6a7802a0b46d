"""Addresses and names of nodes, and what follows from what a node says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import parse_platform
from polyarch.errors import InputError
from polyarch.nodes.ask import judge
from polyarch.nodes.model import Address, Answer, Node, parse_address, parse_name

NODE = Node("one", Address("host"))
GOOD = (
    "machine aarch64", "version buildah 1.39", "missing podman", "free 2048", "busy 1", "engine buildah", "key 7",
    "executes linux-arm64", "executes linux-arm-v7", "isolation chroot",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://host", Address("host")),
        ("ssh://me@Host-1:2222/srv/poly arch", Address("Host-1", "me", 2222, "/srv/poly arch")),
        ("ssh://[fe80::1]:22", Address("fe80::1", "", 22)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["host", "http://host", "ssh://", "ssh://me:word@host", "ssh://host:x", "ssh://-oProxyCommand=x", "ssh://h?x=1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse_address(text)
    except InputError:
        return
    assert parse_address(str(found)) == found


def test_a_name_is_a_word() -> None:
    assert parse_name("big-arm.2") == "big-arm.2"
    for text in ("", "-x", "a b", "a/b", "../x"):
        with pytest.raises(InputError):
            parse_name(text)


def test_a_node_builds_for_its_own_processor_unless_told_otherwise() -> None:
    assert Answer(NODE, judge(NODE, GOOD)).platforms == (parse_platform("arm64"),)
    wider = Node("one", Address("host"), (parse_platform("arm/v7"), parse_platform("arm64")))
    assert Answer(wider, judge(wider, GOOD)).platforms == wider.platforms


def test_what_is_missing_comes_with_what_mends_it() -> None:
    def fixes(*lines: str, node: Node = NODE) -> list[str]:
        return [fault.fix for fault in judge(node, lines).faults]

    assert fixes("machine aarch64", "missing buildah", "missing podman") == ["apt-get install buildah"]
    assert fixes("machine aarch64", "missing tar", "missing buildah") == ["apt-get install tar"]
    assert "uidmap" in fixes(*GOOD[:-1], "refused chroot no newuidmap")[0]
    assert "--platform" in fixes("machine vax", "engine buildah", "isolation chroot")[0]
    foreign = Node("one", Address("host"), (parse_platform("s390x"),))
    assert "emulator" in fixes(*GOOD, node=foreign)[0]
    assert Answer(foreign, judge(foreign, GOOD)).platforms == ()
