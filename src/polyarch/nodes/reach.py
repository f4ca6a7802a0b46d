"""The way to a node: SSH, or a pod of a cluster."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from polyarch.arch import Platform
from polyarch.nodes import ssh
from polyarch.nodes.link import Link
from polyarch.nodes.model import Node


def reach(node: Node, platform: Platform) -> AbstractAsyncContextManager[Link]:
    """A live link with the node, on which programs of `platform` run. Raises `NodeError` that says what is wrong."""
    if node.address.scheme == "kubernetes":
        from polyarch.nodes import pod  # its client library is an extra

        return pod.connect(node, platform)
    return ssh.connect(node)
