from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from polyarch.errors import InputError
from polyarch.registry import trust
from polyarch.registry.client import Registry


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000", "[::1]"])
def test_loopback_is_told(host: str) -> None:
    assert trust.is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "10.0.0.1:5000", "[::2]", "127.evil.example"])
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    assert not trust.is_loopback(host)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "CERTIFICATE_FOLDERS", (tmp_path,))
    (tmp_path / "r.example:5000").mkdir()
    (tmp_path / "r.example:5000/ca.crt").write_text("no certificate")
    with pytest.raises(InputError, match=r"ca\.crt"):
        trust.tls_context("r.example:5000", verify=True)
    trust.tls_context("other.example", verify=True)


def test_unreachable_hosts_are_explained_by_what_lies_below() -> None:
    def error(cause: Exception) -> BaseException:
        top = OSError("All connection attempts failed")
        top.__cause__ = ExceptionGroup("several addresses", [OSError("no route"), cause])
        return top

    certificate = ssl.SSLCertVerificationError("self-signed certificate")
    assert "certs.d/r.example" in trust.unreachable("r.example", error(certificate)).hint
    assert "no such host" in trust.unreachable("r.example", error(socket.gaierror(-2, "unknown"))).message
    assert "refused" in trust.unreachable("r.example", error(ConnectionRefusedError())).message
    assert "plain HTTP" in trust.unreachable("r.example", error(ssl.SSLError("wrong version"))).hint
    assert "cannot be reached" in trust.unreachable("r.example", error(OSError("?"))).message


def test_nobody_at_the_port_is_bad_input_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def ping() -> None:
        async with Registry(f"127.0.0.1:{port}") as client:
            await asyncio.wait_for(client.ping(), 2)

    with pytest.raises(InputError, match=f"127.0.0.1:{port}: connection refused"):
        asyncio.run(ping())


def test_a_name_that_no_dns_knows_is_bad_input() -> None:
    async def ping() -> None:
        async with Registry("registry.invalid") as client:
            await client.ping()

    with pytest.raises(InputError, match=r"registry\.invalid"):
        asyncio.run(ping())
