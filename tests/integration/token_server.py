"""A token server after distribution's `docs/spec/auth/token.md` and `jwt.md`, which a real docker-registry trusts."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SERVICE = "polyarch-test-registry"
ISSUER = "polyarch-test-tokens"


@dataclass
class TokenServer:
    """`lifetime` is in seconds; `asked` are the scopes of each request, as they came."""

    root: Path
    user: str
    password: str
    lifetime: int = 300
    asked: list[tuple[str, ...]] = field(default_factory=list)
    port: int = 0

    @property
    def settings(self) -> dict[str, str]:
        """The registry's `auth.token`."""
        realm = f"http://localhost:{self.port}/token"
        return {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self.root / "token.crt")}

    def certify(self) -> None:
        new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2", "-subj", "/CN=tokens"]
        subprocess.run(
            [*new, "-keyout", "token.key", "-out", "token.crt"], cwd=self.root, check=True, capture_output=True
        )

    def token(self, scopes: tuple[str, ...]) -> str:
        """A JSON web token, RS256, whose certificate chain is in its header."""
        pem = (self.root / "token.crt").read_text().splitlines()
        head = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem[1:-1])]}
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": self.user, "aud": SERVICE, "nbf": now - 10, "iat": now, "exp": now + self.lifetime,
            "jti": str(time.monotonic_ns()), "access": [_access(scope) for scope in scopes],
        }  # fmt: skip
        signed = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(claims).encode())}"
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.root / "token.key")]
        signature = subprocess.run(command, input=signed.encode(), capture_output=True, check=True).stdout
        return f"{signed}.{_encode(signature)}"


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def token_server(root: Path, user: str, password: str, lifetime: int = 300) -> Iterator[TokenServer]:
    """A running server; it wants the password, and grants all that is asked for."""
    root.mkdir(parents=True, exist_ok=True)
    state = TokenServer(root, user, password, lifetime)
    state.certify()
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scopes = tuple(parse_qs(urlsplit(self.path).query).get("scope", ()))
            state.asked.append(scopes)
            good = self.headers.get("Authorization") == expected
            body = json.dumps({"token": state.token(scopes), "expires_in": lifetime} if good else {}).encode()
            self.send_response(200 if good else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
