"""A cluster of the tests: the real etcd, API server, controllers and scheduler, and a small stand-in for the kubelet.

`scripts/kubernetes.sh` builds the servers. Nothing here runs containers: our kubelet runs a pod's command and what is
executed in it as processes of this machine, in a mount namespace in which the pod's volume is where the pod wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from bases import cache

VOLUME = Path("/var/lib/polyarch")
_TOKEN = "test-token"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


_API, _ETCD, _PEER = _free_ports(3)


@dataclass
class Cluster:
    """A running cluster; `pods` are all that a kubelet of it has started, as the API server had them then."""

    folder: Path
    pods: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """One request to the API server."""
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind}
        request = urllib.request.Request(f"https://127.0.0.1:{_API}{path}", data, head, method=method)
        with urllib.request.urlopen(request, context=_trust(), timeout=10) as answer:
            return json.load(answer)

    def names(self, path: str) -> list[str]:
        """The names of what a list holds."""
        return [item["metadata"]["name"] for item in self.call("GET", path)["items"]]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the control plane; machines are added with `kubelet`."""
    folder.mkdir(parents=True)
    found = Cluster(folder)
    (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    server = {"server": f"https://127.0.0.1:{_API}", "insecure-skip-tls-verify": True}
    context = {"cluster": "test", "user": "admin", "namespace": "builds"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "", "preferences": {},
        "clusters": [{"name": "test", "cluster": server}], "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "admin@test", "context": context}],
    }  # fmt: skip
    found.kubeconfig.write_text(json.dumps(config))
    (folder / "servers").write_text(json.dumps(config | {"current-context": "admin@test"}))
    subprocess.run(["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"], check=True, capture_output=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += _control_plane(found)
        yield found
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def build_servers() -> None:
    """Have the servers, or skip the test where they cannot be built."""
    for program in ("go", "etcd"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    subprocess.run([str(Path(__file__).parents[2] / "scripts" / "kubernetes.sh")], check=True)


def _control_plane(found: Cluster) -> list[subprocess.Popen[bytes]]:
    folder, programs = found.folder, cache() / "bin"

    def start(name: str, *argv: str | Path) -> subprocess.Popen[bytes]:
        log = (folder / f"{name}.log").open("wb")
        return subprocess.Popen([str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    etcd = f"http://127.0.0.1:{_ETCD}"
    processes = [
        start(
            "etcd", "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", etcd, "--advertise-client-urls",
            etcd, "--listen-peer-urls", f"http://127.0.0.1:{_PEER}",
        ),
        start(
            "apiserver", programs / "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={_API}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
            f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/24",
            # machines are ready when they are added, and pods need no token of their own
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            # our kubelet speaks WebSocket, the real one SPDY, into which the API server translates otherwise
            "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
        ),
    ]  # fmt: skip
    _until(lambda: _ready(found), "the API server is ready")
    for name in ("kube-controller-manager", "kube-scheduler"):
        more = ["--controllers=job-controller,ttl-after-finished-controller,garbage-collector-controller"]
        options = more if name == "kube-controller-manager" else []
        processes.append(
            start(name, programs / name, f"--kubeconfig={folder / 'servers'}", "--leader-elect=false", *options)
        )
    found.call("POST", "/api/v1/namespaces", {"metadata": {"name": "builds"}})
    return processes


@contextlib.contextmanager
def kubelet(found: Cluster, name: str, arch: str, inside: Sequence[str] = ()) -> Iterator[None]:
    """Add a machine; `inside` is the command prefix that enters what its pods shall live in."""
    (port,) = _free_ports(1)
    labels = {"kubernetes.io/arch": arch, "kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
    found.call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"}
    status = {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    merge = "application/merge-patch+json"
    found.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, merge)
    running = _Kubelet(found, name, port, inside)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield
    finally:
        running.stop()
        thread.join()


class _Kubelet:
    """One machine: starts pods that are bound to it, tells how they are, and executes commands in them."""

    def __init__(self, found: Cluster, name: str, port: int, inside: Sequence[str]) -> None:
        self._cluster = found
        self._name = name
        self._port = port
        self._inside = inside
        self._over = threading.Event()
        self._mains: dict[str, asyncio.subprocess.Process] = {}
        self._others: dict[str, set[asyncio.subprocess.Process]] = {}

    def run(self) -> None:
        asyncio.run(self._serve())

    def stop(self) -> None:
        self._over.set()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/exec/{namespace}/{pod}/{container}", self._exec)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=_certificate(self._cluster.folder)).start()
        while not self._over.is_set():
            path = f"/api/v1/pods?fieldSelector=spec.nodeName={self._name}"
            for pod in (await asyncio.to_thread(self._cluster.call, "GET", path))["items"]:
                await self._look_after(pod)
            await asyncio.sleep(0.3)
        for name in list(self._mains):
            _kill(self._mains[name], *self._others.get(name, ()))
        await runner.cleanup()

    async def _look_after(self, pod: dict[str, Any]) -> None:
        name, path = pod["metadata"]["name"], f"/api/v1/namespaces/builds/pods/{pod['metadata']['name']}"
        process = self._mains.get(name)
        if pod["metadata"].get("deletionTimestamp"):
            if process:
                _kill(self._mains.pop(name), *self._others.pop(name, ()))
            body = {"gracePeriodSeconds": 0}
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._cluster.call, "DELETE", path, body)
            shutil.rmtree(self._volume(name), ignore_errors=True)
        elif process is None and pod["status"]["phase"] == "Pending":
            self._cluster.pods.append(pod)
            container = pod["spec"]["containers"][0]
            self._volume(name).mkdir(parents=True)
            self._mains[name] = await self._start(name, container["command"], container["env"])
            await self._tell(path, "Running")
        elif process is not None and process.returncode is not None and pod["status"]["phase"] == "Running":
            await self._tell(path, "Succeeded" if process.returncode == 0 else "Failed")

    async def _tell(self, path: str, phase: str) -> None:
        body = {"status": {"phase": phase}}
        await asyncio.to_thread(
            self._cluster.call, "PATCH", f"{path}/status", body, "application/strategic-merge-patch+json"
        )

    async def _start(
        self, pod: str, command: Sequence[str], env: Sequence[dict[str, str]] = (), pipe: int | None = None
    ) -> asyncio.subprocess.Process:
        script = 'mount --bind "$0" "$1" && shift && exec "$@"'
        enter = [*self._inside, "unshare", "--mount", "sh", "-c", script, str(self._volume(pod)), str(VOLUME)]
        settings = {entry["name"]: entry["value"] for entry in env}
        return await asyncio.create_subprocess_exec(
            *enter, *command, env={"PATH": os.environ["PATH"], "HOME": str(VOLUME)} | settings, stdin=pipe, stdout=pipe,
            stderr=pipe, start_new_session=True,
        )  # fmt: skip

    async def _exec(self, request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await channel.prepare(request)
        pod = request.match_info["pod"]
        process = await self._start(pod, request.query.getall("command"), (), subprocess.PIPE)
        self._others.setdefault(pod, set()).add(process)
        feeding = asyncio.create_task(_feed(channel, process))
        assert process.stdout
        assert process.stderr
        await asyncio.gather(_drain(process.stdout, channel, b"\1"), _drain(process.stderr, channel, b"\2"))
        code = await process.wait()
        feeding.cancel()
        status: dict[str, Any] = {"status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code)}
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        with contextlib.suppress(ConnectionError):
            await channel.send_bytes(b"\3" + json.dumps(status).encode())
            await channel.close()
        return channel

    def _volume(self, pod: str) -> Path:
        return self._cluster.folder / "volumes" / pod


async def _feed(channel: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """The command's input; it ends when the client says so, or is gone."""
    assert process.stdin
    with contextlib.suppress(ConnectionError):
        async for message in channel:
            if message.type is not WSMsgType.BINARY or message.data[0] == 255:
                break
            process.stdin.write(message.data[1:])
            await process.stdin.drain()
    process.stdin.close()


async def _drain(stream: asyncio.StreamReader, channel: web.WebSocketResponse, number: bytes) -> None:
    while data := await stream.read(1 << 15):
        with contextlib.suppress(ConnectionError):
            await channel.send_bytes(number + data)


def _kill(*processes: asyncio.subprocess.Process) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _certificate(folder: Path) -> ssl.SSLContext:
    key, cert = folder / "kubelet.key", folder / "kubelet.crt"
    if not cert.exists():
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kubelet", "-days", "2"]
        subprocess.run([*argv, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _ready(found: Cluster) -> bool:
    request = urllib.request.Request(f"https://127.0.0.1:{_API}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"})
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(request, context=_trust(), timeout=5).status == 200
    return False


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, f"not yet: {what}"
        time.sleep(0.3)
