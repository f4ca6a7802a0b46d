"""Debian's `docker-registry` on a free loopback port, for tests: with a password, with TLS, and mortal."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

USER = "builder"
PASSWORD = "correct horse"
_PATIENCE = 15.0


@dataclass
class RegistryServer:
    """One server; `host` is `HOST:PORT`. Data, port and upload sessions outlive `kill` and `start`."""

    root: Path
    port: int
    auth: bool = False
    tls: bool = False
    tokens: dict[str, str] | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate of the CA that signed the server's."""
        return self.root / "ca.crt"

    def start(self) -> None:
        config = self.root / "config.yml"
        config.write_text(json.dumps(self._config()))
        # It takes every REGISTRY_… variable for a setting of its own, podman's REGISTRY_AUTH_FILE too.
        env = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        self._wait()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def write_auth_file(self, password: str = PASSWORD) -> Path:
        """An auth.json such as `podman login` leaves, for `REGISTRY_AUTH_FILE`."""
        path = self.root / "auth.json"
        auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
        path.write_text(json.dumps({"auths": {self.host: {"auth": auth}}}))
        return path

    def _config(self) -> dict[str, object]:
        http: dict[str, object] = {"addr": f"127.0.0.1:{self.port}", "secret": "kept over restarts"}
        if self.tls:
            _certify(self.root)
            http["tls"] = {"certificate": str(self.root / "server.crt"), "key": str(self.root / "server.key")}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}, "delete": {"enabled": True}},
            "http": http,
        }
        if self.auth:
            line = subprocess.run(
                ["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, text=True, check=True
            ).stdout
            (self.root / "htpasswd").write_text(line)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.root / "htpasswd")}}
        if self.tokens:
            config["auth"] = {"token": self.tokens}
        return config

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"docker-registry did not start:\n{self.log()}")


@contextlib.contextmanager
def registry_server(
    root: Path, *, auth: bool = False, tls: bool = False, tokens: dict[str, str] | None = None
) -> Iterator[RegistryServer]:
    """A running server with its files in `root`; gone at the end, whatever happened. `tokens`: its `auth.token`."""
    root.mkdir(parents=True, exist_ok=True)
    server = RegistryServer(root, _free_port(), auth=auth, tls=tls, tokens=tokens)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def available() -> bool:
    return shutil.which("docker-registry") is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _certify(root: Path) -> None:
    """A CA of our own, and a server certificate for loopback that it signed."""
    if (root / "server.crt").exists():
        return
    names = root / "names.cnf"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    for command in (
        [*new, "ca.key", "-x509", "-days", "2", "-subj", "/CN=polyarch test CA", "-out", "ca.crt"],
        [*new, "server.key", "-subj", "/CN=localhost", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", str(names), "-out", "server.crt"],
    ):  # fmt: skip
        subprocess.run(command, cwd=root, check=True, capture_output=True)
