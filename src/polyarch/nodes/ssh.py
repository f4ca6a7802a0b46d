"""One SSH connection to a node: commands go out, bytes come back, and a node that is gone is noticed within seconds.

asyncssh speaks the protocol and reads the user's OpenSSH configuration (ssh_config(5)), keys and agent. One thing is
stricter than in OpenSSH: a host key that no known_hosts file has is refused, whatever the configuration says.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import asyncssh

from polyarch.errors import NodeError
from polyarch.nodes.link import Ended, Input, converse, each, lost
from polyarch.nodes.model import Node

CONNECT_LIMIT = 3.0  # seconds until a machine that does not answer counts as out of reach
_ALIVE_EVERY = 3  # seconds between questions whether the node is there; it is lost after as many without an answer
_CONFIGS = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")  # ssh_config(5), UserKnownHostsFile
_GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
_SSH_PORT = 22
_CHUNK = 1 << 16


class Connection:
    """A live connection; every method raises `NodeError` when the node is lost."""

    def __init__(self, node: Node, connection: asyncssh.SSHClientConnection) -> None:
        self.node = node
        self._connection = connection

    async def execute(
        self, argv: Sequence[str], *, stdin: Input = (), out: Callable[[bytes], None] = lambda _data: None
    ) -> Ended:
        """Run a command, see `Link`. A command ended by a signal has the code 128."""
        said: list[bytes] = []
        try:
            async with await self._connection.create_process(shlex.join(argv), encoding=None) as process:
                draining = asyncio.gather(_drain(process.stdout, out), _drain(process.stderr, said.append))
                await converse(_feed(process, stdin), draining)
                await process.wait_closed()
        except (asyncssh.Error, OSError) as error:
            raise lost(self.node, _said(error)) from error
        if process.exit_status is None and not process.exit_signal:
            raise lost(self.node, "the connection ended before the command did")
        code = 128 if process.exit_signal or process.exit_status is None else process.exit_status
        return Ended(code, b"".join(said).decode("utf-8", "replace").strip())


@contextlib.asynccontextmanager
async def connect(node: Node) -> AsyncIterator[Connection]:
    """Log in. Raises `NodeError` that says what is wrong and how to mend it."""
    try:
        options = _options(node)
        connection = await asyncssh.connect(node.address.host, options=options)
    except asyncssh.HostKeyNotVerifiable as error:
        raise _unknown_key(node, options) from error
    except (asyncssh.Error, asyncssh.KeyImportError, OSError, TimeoutError) as error:
        raise unreachable(node, error) from error
    async with connection:
        yield Connection(node, connection)


def unreachable(node: Node, error: Exception) -> NodeError:
    """The error of a node that no session could be had with."""
    login = f"ssh {node.address.login}"
    if isinstance(error, asyncssh.PermissionDenied):
        hint = f"let your key in: ssh-copy-id {node.address.login}; one with a passphrase goes to the agent: ssh-add"
        return NodeError(f"node {node.name} refuses the login: {error.reason}", hint=hint)
    if isinstance(error, asyncssh.ConfigParseError):
        return NodeError(f"node {node.name}: the OpenSSH configuration cannot be read: {error}", hint=f"try: {login}")
    if isinstance(error, TimeoutError):
        return NodeError(f"node {node.name} did not answer within {CONNECT_LIMIT:g} s", hint=f"try: {login}")
    return NodeError(f"node {node.name} cannot be reached: {_said(error)}", hint=f"try: {login}")


def _options(node: Node) -> asyncssh.SSHClientConnectionOptions:
    address = node.address
    given: dict[str, object] = {"host": address.host}
    given |= {"port": address.port} if address.port else {}
    given |= {"username": address.user} if address.user else {}
    config = [str(path.expanduser()) for path in _CONFIGS if path.expanduser().is_file()]
    limits = {
        "connect_timeout": CONNECT_LIMIT,
        "login_timeout": CONNECT_LIMIT,
        "keepalive_interval": _ALIVE_EVERY,
        "keepalive_count_max": _ALIVE_EVERY,
    }
    options = asyncssh.SSHClientConnectionOptions(config=config, **given, **limits)
    return asyncssh.SSHClientConnectionOptions(options, known_hosts=_known_hosts(options))


def _known_hosts(options: asyncssh.SSHClientConnectionOptions) -> list[str] | bytes:
    """The files that there are; none at all is an empty one, for asyncssh would take any key without."""
    stated = options.known_hosts
    files = [*(stated if isinstance(stated, list) and stated else _USER_KNOWN_HOSTS), _GLOBAL_KNOWN_HOSTS]
    there = [str(path) for name in files if (path := Path(str(name)).expanduser()).is_file()]
    return there or b""


def _unknown_key(node: Node, options: asyncssh.SSHClientConnectionOptions) -> NodeError:
    host = str(options.host)
    port = f"-p {options.port} " if options.port and options.port != _SSH_PORT else ""
    scan = f"ssh-keyscan {port}{host} >> ~/.ssh/known_hosts"
    return NodeError(
        f"node {node.name}: no known_hosts file has the host key that {host} shows",
        detail="either nobody has logged in there from here yet, or another machine answers in its place",
        hint=f"log in once and compare the fingerprint: ssh {node.address.login}; or, on a network you trust: {scan}",
    )


async def _feed(process: asyncssh.SSHClientProcess[bytes], stdin: Input) -> None:
    """Send and close; a command that ends without reading all of it is not told off here."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for chunk in each(stdin):
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.write_eof()


async def _drain(stream: asyncssh.SSHReader[bytes], out: Callable[[bytes], None]) -> None:
    while data := await stream.read(_CHUNK):
        out(data)


def _said(why: Exception | str) -> str:
    if isinstance(why, asyncssh.Error):
        return why.reason
    return str(why) or type(why).__name__
