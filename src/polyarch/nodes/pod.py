"""A Kubernetes cluster as a node: each build is a Job with one rootless pod, on a machine of the platform's processor.

kr8s reads the user's kubeconfig and speaks the API. Commands run in the pod by its `exec` subresource, in the version
of the channel protocol that can end a command's input (v5, Kubernetes 1.30; KEP-4006).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from polyarch.arch import Platform
from polyarch.errors import NodeError, PolyarchError
from polyarch.nodes.link import Ended, Input, converse, each
from polyarch.nodes.model import POD_FOLDER, Node

_PROTOCOL = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_START_LIMIT = 300.0  # seconds for a pod to run: images are pulled, and a cluster may start a machine first
_FRAME = 1 << 15
_POLL = 0.5  # seconds
_LONGEST = 24 * 3600  # seconds after which the cluster ends a build that nobody has ended
_BUILDER = 1000  # the user id of a rootless build, as images with buildah have it
# The pod ends by itself when no session has been in it for two minutes: polyarch may have died.
_WAIT = """idle=0
while [ $idle -lt 60 ]; do
    set -- "$0"/work/*/pid
    if [ -f "$1" ]; then idle=0; else idle=$((idle + 1)); fi
    sleep 2
done"""


def job(node: Node, platform: Platform, name: str) -> dict[str, Any]:
    """The Job of one build: a pod that waits for commands, placed by `kubernetes.io/arch`."""
    labels = {"app.kubernetes.io/name": "polyarch", "app.kubernetes.io/instance": name}
    arch = {"key": "kubernetes.io/arch", "operator": "In", "values": [platform.architecture]}
    os = {"key": "kubernetes.io/os", "operator": "In", "values": [platform.os]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [arch, os]}]}
    container = {
        "name": "build",
        "image": node.image,
        "command": ["sh", "-c", _WAIT, POD_FOLDER],
        "env": [{"name": "HOME", "value": POD_FOLDER}, {"name": "BUILDAH_ISOLATION", "value": "chroot"}],
        "volumeMounts": [{"name": "work", "mountPath": POD_FOLDER}],
        # A rootless build makes user namespaces, which the runtime's default profile refuses.
        "securityContext": {
            "runAsUser": _BUILDER,
            "runAsGroup": _BUILDER,
            "seccompProfile": {"type": "Unconfined"},
            "appArmorProfile": {"type": "Unconfined"},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        "containers": [container],
        "volumes": [{"name": "work", "emptyDir": {}}],
        "securityContext": {"fsGroup": _BUILDER},
        "terminationGracePeriodSeconds": 5,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": node.address.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _LONGEST,
            "ttlSecondsAfterFinished": 60,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


class PodLink:
    """A running pod."""

    def __init__(self, node: Node, api: Any, pod: str) -> None:  # noqa: ANN401 - kr8s makes its classes at run time
        self.node = node
        self._api = api
        self._pod = pod

    async def execute(
        self, argv: Sequence[str], *, stdin: Input = (), out: Callable[[bytes], None] = lambda _data: None
    ) -> Ended:
        """Run a command, see `Link`."""
        said: list[bytes] = []
        ours: PolyarchError | None = None
        params = {"command": list(argv), "container": "build", "stdin": "true", "stdout": "true", "stderr": "true"}
        with _told(self.node, "is lost", f"polyarch node check {self.node.name}"):
            async with self._api.open_websocket(
                url=f"pods/{self._pod}/exec",
                namespace=self.node.address.namespace,
                subprotocols=(_PROTOCOL,),
                params=params,
            ) as socket:
                hearing = _Hearing(socket, out, said.append)
                try:
                    await converse(_feed(socket, stdin), hearing.listen())
                except PolyarchError as error:  # out of here first: the socket wraps what passes through it
                    ours = error
        if ours is not None:
            raise ours
        return Ended(hearing.code, b"".join(said).decode("utf-8", "replace").strip())


class _Hearing:
    """What comes back of one command, by channel; `code` is negative until the command has ended."""

    def __init__(self, socket: Any, out: Callable[[bytes], None], err: Callable[[bytes], None]) -> None:  # noqa: ANN401
        self._socket = socket
        self._to = {_STDOUT: out, _STDERR: err}
        self.code = -1

    async def listen(self) -> None:
        """Until the command's status has come."""
        while self.code < 0:
            message = await self._socket.receive_bytes()
            channel, data = message[0], bytes(message[1:])
            if channel == _ERROR:
                self.code = exit_code(json.loads(data))
            elif data and channel in self._to:
                self._to[channel](data)


def exit_code(status: dict[str, Any]) -> int:
    """The exit code in the `Status` that ends a command; 128 when it did not exit by itself."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    found = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
    return int(found[0]) if found else 128


async def architectures(node: Node) -> frozenset[str]:
    """The architectures of the cluster's machines. Raises `NodeError` when the cluster cannot be asked.

    A user who may not list machines has to name platforms, and those are believed.
    """
    kr8s, api = await _api(node)
    hint = "add it with --platform, or ask for the right to list nodes"
    with _told(node, "does not tell its machines", hint):
        try:
            machines = [machine.raw async for machine in api.get("nodes")]
        except kr8s.ServerError:
            if not node.platforms:
                raise
            return frozenset(platform.architecture for platform in node.platforms)
    open_ones = (machine for machine in machines if not machine.get("spec", {}).get("unschedulable"))
    labels = (machine["metadata"].get("labels", {}) for machine in open_ones)
    return frozenset(found["kubernetes.io/arch"] for found in labels if "kubernetes.io/arch" in found)


@contextlib.asynccontextmanager
async def connect(node: Node, platform: Platform) -> AsyncIterator[PodLink]:
    """A pod for one build; the Job goes on the way out. Raises `NodeError` when none runs within five minutes."""
    _, api = await _api(node)
    from kr8s.asyncio.objects import Job

    name = f"polyarch-{secrets.token_hex(6)}"
    with _told(node, "takes no Job", f"kubectl {_where(node)} auth can-i create jobs"):
        made = await Job(job(node, platform, name), api=api)
        await made.create()
    try:
        yield PodLink(node, api, await _running(node, api, name))
    finally:
        with contextlib.suppress(NodeError), _told(node, "keeps a Job", ""):  # it ends by itself when nobody is in it
            await made.delete(propagation_policy="Background")


async def _running(node: Node, api: Any, name: str) -> str:  # noqa: ANN401
    """The name of the Job's pod, once its container runs."""
    label = f"app.kubernetes.io/instance={name}"
    hint = f"kubectl {_where(node)} describe pods -l {label}"
    why = "no pod was made for the build"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_LIMIT):
            while True:
                with _told(node, "does not tell its pods", hint):
                    query = api.get("pods", namespace=node.address.namespace, label_selector=label)
                    pods = [pod.raw async for pod in query]
                for pod in pods:
                    phase, why = pod["status"].get("phase"), waiting(pod["status"]) or why
                    if phase == "Running":
                        return str(pod["metadata"]["name"])
                    if phase in {"Failed", "Succeeded"}:
                        raise NodeError(f"node {node.name}: the pod of the build has ended: {why}", hint=hint)
                await asyncio.sleep(_POLL)
    raise NodeError(f"node {node.name}: no pod runs after {_START_LIMIT:g} s: {why}", hint=hint)


def waiting(status: dict[str, Any]) -> str:
    """Why a pod does not run, in the cluster's own words; "" when it says nothing."""
    states = [found.get("state", {}) for found in status.get("containerStatuses") or ()]
    told = [state.get("waiting") or state.get("terminated") or {} for state in states]
    conditions = status.get("conditions") or ()
    told += [c for c in conditions if (c.get("type"), c.get("status")) == ("PodScheduled", "False")]
    for found in told:
        if found.get("reason"):
            return ": ".join(part for part in (found["reason"], found.get("message", "")) if part)
    return ""


async def _feed(socket: Any, stdin: Input) -> None:  # noqa: ANN401
    """Send and close; a command that ends without reading all of it is not told off here."""
    async for chunk in each(stdin):
        for start in range(0, len(chunk), _FRAME):
            if not await _sent(socket, bytes([_STDIN]) + chunk[start : start + _FRAME]):
                return
    await _sent(socket, bytes([_CLOSE, _STDIN]))


async def _sent(socket: Any, frame: bytes) -> bool:  # noqa: ANN401
    """Whether there was somebody to take it; who listens will hear why not."""
    try:
        await socket.send_bytes(frame)
    except Exception:  # noqa: BLE001
        return False
    return True


async def _api(node: Node) -> tuple[Any, Any]:
    """kr8s, and the API of the node's context. Raises `NodeError` without the library or the context."""
    try:
        import kr8s
        from kr8s.asyncio import api
    except ImportError as error:
        raise NodeError("kr8s is not installed", hint="pip install 'polyarch[kubernetes]'") from error
    with _told(node, f"context {node.address.host} cannot be used", "kubectl config get-contexts"):
        return kr8s, await api(context=node.address.host, namespace=node.address.namespace)


@contextlib.contextmanager
def _told(node: Node, what: str, hint: str) -> Iterator[None]:
    """Make a `NodeError` of whatever goes wrong: kr8s, httpx_ws, httpx and a bad kubeconfig share no kind of error."""
    try:
        yield
    except (PolyarchError, TimeoutError):
        raise
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        said = f"{type(cause).__name__} {cause}".strip().splitlines()[0]
        raise NodeError(f"node {node.name} {what}: {said}", hint=hint) from error


def _where(node: Node) -> str:
    return f"--context {node.address.host} -n {node.address.namespace}"
