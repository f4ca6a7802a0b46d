"""What a session needs of a way to reach a node: one method, that runs a command there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from polyarch.errors import NodeError
from polyarch.nodes.model import Node

Input = Iterable[bytes] | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended by itself: its exit code, and what it said on standard error."""

    code: int
    stderr: str


class Link(Protocol):
    """A live connection with a node."""

    @property
    def node(self) -> Node:
        """Who is at the other end."""

    async def execute(
        self, argv: Sequence[str], *, stdin: Input = (), out: Callable[[bytes], None] = lambda _data: None
    ) -> Ended:
        """Run a command there to its end; `stdin` is sent, and then closed, while `out` gets what it prints.

        Raises `NodeError` when the node is lost.
        """


def lost(node: Node, why: str) -> NodeError:
    """The error of a node that was there and is no more."""
    return NodeError(f"node {node.name} is lost: {why}", hint=f"polyarch node check {node.name}")


async def each(stdin: Input) -> AsyncIterable[bytes]:
    """The chunks of either kind of input."""
    if isinstance(stdin, AsyncIterable):
        async for chunk in stdin:
            yield chunk
    else:
        for chunk in stdin:
            yield chunk


async def converse(feeding: Coroutine[None, None, None], draining: Awaitable[object]) -> None:
    """Send and listen until there is nothing more to hear; raises what reading our own input raises."""
    sender, listener = asyncio.ensure_future(feeding), asyncio.ensure_future(draining)
    try:
        done, _ = await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
        if sender in done:
            sender.result()
        await listener
    finally:
        sender.cancel()
        listener.cancel()
