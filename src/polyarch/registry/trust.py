"""Which registries we trust, and what to tell a user whose registry cannot be reached.

Sources: containers-certs.d(5) for extra authorities; docker's and podman's habit of allowing plain HTTP on loopback.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from polyarch.errors import InputError

CERTIFICATE_FOLDERS = (
    Path("~/.config/containers/certs.d"), Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"),
)  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether `HOST[:PORT]` is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def tls_context(host: str, *, verify: bool) -> ssl.SSLContext:
    """The system's authorities (or SSL_CERT_FILE's), and those of `certs.d/HOST[:PORT]/*.crt`.

    Raises `InputError` when such a file is no certificate.
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    for folder in CERTIFICATE_FOLDERS:
        for path in sorted((folder.expanduser() / host).glob("*.crt")):
            try:
                context.load_verify_locations(path)
            except (OSError, ssl.SSLError) as error:
                raise InputError(f"{path} is not a certificate", detail=str(error)) from error
    return context


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, all that it came from, and the members of groups among them."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def is_final(error: BaseException) -> bool:
    """Whether a first connection failed in a way that asking again will not change."""
    return _came_from(error, socket.gaierror, ConnectionRefusedError, ssl.SSLError, TimeoutError)


def speaks_something_else(error: BaseException) -> bool:
    """Whether a TLS handshake failed for another reason than the certificate: the peer may speak plain HTTP."""
    return _came_from(error, ssl.SSLError) and not _came_from(error, ssl.SSLCertVerificationError)


def _came_from(error: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes(error))


def unreachable(host: str, error: BaseException) -> InputError:
    """The error for a host that never answered, by what went wrong below HTTP."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return InputError(
                f"{host}: its TLS certificate cannot be trusted",
                detail=str(cause),
                hint=f"put its authority into /etc/containers/certs.d/{host}/ca.crt, or add --tls-verify=false",
            )
        if isinstance(cause, socket.gaierror):
            return InputError(f"{host}: no such host", detail=str(cause), hint="check the registry's name and the DNS")
        if isinstance(cause, ConnectionRefusedError):
            return InputError(f"{host}: connection refused", hint="is the registry running, and is this its port?")
    if _came_from(error, ssl.SSLError):
        return InputError(
            f"{host}: TLS failed", detail=str(error),
            hint="if this registry speaks plain HTTP, add --tls-verify=false",
        )  # fmt: skip
    return InputError(
        f"{host} cannot be reached", detail=str(error) or type(error).__name__,
        hint="check the network, the proxy settings and the registry's name",
    )  # fmt: skip
