"""The client against a registry that is a function: redirects, refusals, failures that pass."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from polyarch.errors import InputError, PolyarchError, RegistryError
from polyarch.oci.model import DOCUMENT_LIMIT, OCI_LAYER, OCI_MANIFEST, Descriptor, digest_of
from polyarch.oci.reference import Reference
from polyarch.registry import retry, upload
from polyarch.registry.client import Registry
from polyarch.registry.http import TransientError

HOST = "r.example"
REF = Reference(HOST, "team/app", "1")
DATA = bytes(range(256)) * 40
DIGEST = digest_of(DATA)
BLOB = Descriptor(media_type=OCI_LAYER, digest=DIGEST, size=len(DATA))
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 3},
        "layers": [],
    }
).encode()
Handler = Callable[[httpx.Request], httpx.Response]


class Local(httpx.AsyncBaseTransport):
    """Answers out of a function, with bodies that are still to be read, as a network's are."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        response = self.handler(request)
        if not response.is_stream_consumed:
            return response
        return httpx.Response(response.status_code, headers=response.headers, stream=Body(response.content))


class Body(httpx.AsyncByteStream):
    def __init__(self, data: bytes, error: Exception | None = None) -> None:
        self.data = data
        self.error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        if self.error is not None:
            raise self.error


@pytest.fixture(autouse=True)
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A password for the registry, and no real waiting; the waits that were asked for are listed."""
    path = tmp_path / "auth.json"
    auth = base64.b64encode(b"me:hunter2").decode()
    path.write_text(json.dumps({"auths": {HOST: {"auth": auth}, "docker.io": {"auth": auth}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    waited: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("polyarch.registry.http.asyncio.sleep", no_sleep)
    return waited


def ask(handler: Handler, what: Callable[[Registry], Awaitable[Any]], host: str = HOST) -> Any:
    async def run() -> Any:
        async with Registry(host, transport=Local(handler)) as client:
            return await what(client)

    return asyncio.run(run())


async def whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def logged_in(request: httpx.Request) -> bool:
    return request.headers.get("Authorization", "").startswith("Basic ")


def challenge() -> httpx.Response:
    return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})


def manifest_answer(raw: bytes = MANIFEST, **headers: str) -> httpx.Response:
    return httpx.Response(200, content=raw, headers={"Content-Type": OCI_MANIFEST} | headers)


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "storage.example":
            return httpx.Response(200, content=DATA)
        if not logged_in(request):
            return challenge()
        return httpx.Response(307, headers={"Location": "https://storage.example/blob?signature=s"})

    assert ask(handler, lambda c: whole(c.get_blob("team/app", BLOB))) == DATA
    assert [(r.url.host, logged_in(r)) for r in seen] == [
        (HOST, False), (HOST, True), ("storage.example", False),
    ]  # fmt: skip


@pytest.mark.parametrize("elsewhere", ["https://r.example:8443/x", "http://r.example/x", "https://r.example.evil/x"])
def test_another_port_or_scheme_is_another_host(elsewhere: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/x":
            return httpx.Response(200, content=DATA)
        return httpx.Response(307, headers={"Location": elsewhere}) if logged_in(request) else challenge()

    ask(handler, lambda c: whole(c.get_blob("team/app", BLOB)))
    assert seen[-1].url.path == "/x"
    assert not logged_in(seen[-1])


def test_a_challenge_from_where_a_redirect_led_to_is_not_answered() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.host == HOST or not logged_in(request)
        if request.url.host == HOST:
            return httpx.Response(307, headers={"Location": "https://evil.example/"})
        return challenge()

    with pytest.raises(RegistryError, match="refuses access"):
        ask(handler, lambda c: whole(c.get_blob("team/app", BLOB)))


@pytest.mark.parametrize("redirected", [False, True])
def test_an_upload_that_is_sent_elsewhere_goes_without_credentials(redirected: bool) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == HOST and not logged_in(request):
            return challenge()
        if request.method == "HEAD":
            return httpx.Response(404)
        if request.method == "POST":
            where = f"https://{HOST}/here" if redirected else "https://storage.example/there?s=1"
            return httpx.Response(202, headers={"Location": where})
        if request.url.path == "/here":
            return httpx.Response(307, headers={"Location": "https://storage.example/there?s=1"})
        return httpx.Response(201)

    how = ask(handler, lambda c: c.put_blob("team/app", DIGEST, len(DATA), lambda: BytesIO(DATA)))
    assert how == "sent"
    assert seen[-1].url.host == "storage.example"
    assert seen[-1].content == DATA
    assert not logged_in(seen[-1])


def only_plain(request: httpx.Request) -> httpx.Response:
    if request.url.scheme == "https":
        raise httpx.ConnectError("wrong version number") from ssl.SSLError("wrong version number")
    return manifest_answer()


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_plain_http_is_spoken_to_this_machine_when_it_has_no_tls(host: str) -> None:
    assert ask(only_plain, lambda c: c.get_manifest(REF), host).raw == MANIFEST


def test_plain_http_is_spoken_to_no_other_host_unless_allowed() -> None:
    with pytest.raises(InputError, match="TLS failed") as caught:
        ask(only_plain, lambda c: c.get_manifest(REF))
    assert "--tls-verify=false" in caught.value.hint

    async def allowed() -> bytes:
        async with Registry(HOST, tls_verify=False, transport=Local(only_plain)) as client:
            return (await client.get_manifest(REF)).raw

    assert asyncio.run(allowed()) == MANIFEST


def test_plain_http_is_no_way_around_a_certificate_that_is_not_trusted() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        raise httpx.ConnectError("certificate") from ssl.SSLCertVerificationError("self-signed")

    with pytest.raises(InputError, match="cannot be trusted"):
        ask(handler, lambda c: c.get_manifest(REF), "localhost:5000")


def test_a_token_is_fetched_once_and_shown_to_the_registry_alone() -> None:
    seen: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        shown = request.headers.get("Authorization", "").partition(" ")[0]
        seen.append((request.url.host, shown))
        if request.url.host == "auth.example":
            return httpx.Response(200, json={"token": "abc"})
        if shown != "Bearer":
            return httpx.Response(
                401, headers={"WWW-Authenticate": 'Bearer realm="https://auth.example/t",service="s"'}
            )
        return httpx.Response(404) if request.method == "HEAD" else manifest_answer()

    async def twice(client: Registry) -> None:
        await client.get_manifest(REF)
        assert not await client.blob_exists("team/app", DIGEST)

    ask(handler, twice)
    assert seen == [(HOST, ""), ("auth.example", "Basic"), (HOST, "Bearer"), (HOST, "Bearer")]


def test_docker_io_is_asked_where_its_api_is() -> None:
    hosts = set()

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.add(request.url.host)
        return manifest_answer()

    ask(handler, lambda c: c.get_manifest(Reference("docker.io", "library/debian", "trixie")), "docker.io")
    assert hosts == {"registry-1.docker.io"}


def test_all_four_manifest_types_are_accepted() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["Accept"].count("application/vnd.") == 4
        return manifest_answer()

    assert ask(handler, lambda c: c.get_manifest(REF)).raw == MANIFEST


@pytest.mark.parametrize("stated", ["application/json", "", "text/plain; charset=utf-8"])
def test_a_document_speaks_for_itself_where_the_server_knows_no_type(stated: str) -> None:
    found = ask(lambda _: httpx.Response(200, content=MANIFEST, headers={"Content-Type": stated}),
                lambda c: c.get_manifest(REF))  # fmt: skip
    assert found.media_type == OCI_MANIFEST


def test_a_manifest_with_another_digest_is_refused() -> None:
    for ref, headers in ((REF.with_digest(DIGEST), {}), (REF, {"Docker-Content-Digest": DIGEST})):
        with pytest.raises(RegistryError, match="another digest"):
            ask(lambda _, h=headers: manifest_answer(**h), lambda c, r=ref: c.get_manifest(r))  # type: ignore[misc]


def test_a_manifest_without_end_is_not_read_to_the_end() -> None:
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1 << 16
                yield b" " * (1 << 16)

    with pytest.raises(InputError, match="larger"):
        ask(lambda _: httpx.Response(200, stream=Endless()), lambda c: c.get_manifest(REF))
    assert sent <= DOCUMENT_LIMIT + (1 << 17)


def test_an_unknown_manifest_names_the_reference() -> None:
    with pytest.raises(InputError, match=r"r\.example/team/app:1"):
        ask(lambda _: httpx.Response(404), lambda c: c.get_manifest(REF))


@pytest.mark.parametrize("sent", [DATA[:-1], DATA + b"x", DATA[:-1] + b"x"])
def test_a_blob_of_another_size_or_digest_is_refused(sent: bytes) -> None:
    with pytest.raises(RegistryError):
        ask(lambda _: httpx.Response(200, content=sent), lambda c: whole(c.get_blob("team/app", BLOB)))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_is_cut_goes_on_where_it_was(ranges: bool) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Range", ""))
        if len(asked) == 1:
            return httpx.Response(200, stream=Body(DATA[:1000], httpx.ReadError("connection reset")))
        if not ranges:
            return httpx.Response(200, content=DATA)
        return httpx.Response(206, content=DATA[1000:], headers={"Content-Range": f"bytes 1000-{len(DATA) - 1}/*"})

    assert ask(handler, lambda c: whole(c.get_blob("team/app", BLOB))) == DATA
    assert asked == ["", "bytes=1000-"]


def test_another_range_than_was_asked_for_is_refused() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(206, content=DATA[5:], headers={"Content-Range": "bytes 5-9/*"})

    with pytest.raises(RegistryError, match="another part"):
        ask(handler, lambda c: whole(c.get_blob("team/app", BLOB, 1000)))


def test_too_many_requests_wait_as_long_as_the_server_asks(waits: list[float]) -> None:
    answers = iter([httpx.Response(429, headers={"Retry-After": "17"}), httpx.Response(503), manifest_answer()])
    ask(lambda _: next(answers), lambda c: c.get_manifest(REF))
    assert waits[0] == 17
    assert 0 < waits[1] < 2


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (429, TransientError, "limits how often"),
        (503, TransientError, "answered 503"),
        (413, RegistryError, "this large"),
        (403, RegistryError, "refuses access"),
        (401, RegistryError, "refuses access"),
        (400, RegistryError, "answered 400"),
    ],
)
def test_refusals_say_what_the_registry_said(status: int, kind: type[PolyarchError], said: str) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "because\u0007 of you"}]}).encode()
    with pytest.raises(kind, match=said) as caught:
        ask(lambda _: httpx.Response(status, content=body), lambda c: c.get_manifest(REF))
    assert caught.value.exit_code == 5
    assert "DENIED: because  of you" in caught.value.detail
    assert ("podman login r.example" in caught.value.hint) == (status in {401, 403, 429})


def test_a_host_that_goes_away_after_it_answered_is_a_registry_failure() -> None:
    answers = iter([manifest_answer()])

    def handler(_: httpx.Request) -> httpx.Response:
        try:
            return next(answers)
        except StopIteration:
            raise httpx.ConnectError("refused") from ConnectionRefusedError()

    async def twice(client: Registry) -> None:
        await client.get_manifest(REF)
        await client.get_manifest(REF)

    with pytest.raises(TransientError, match="stopped answering") as caught:
        ask(handler, twice)
    assert caught.value.exit_code == 5


class Uploads:
    """The upload half of a registry, which can lose a connection or a session."""

    def __init__(self, fail: Callable[[httpx.Request, int], None] = lambda *_: None) -> None:
        self.data = b""
        self.fail = fail
        self.patches = 0
        self.sessions = 0
        self.done = b""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        where = {"Location": f"/upload/{self.sessions}"}
        if request.method == "HEAD":
            return httpx.Response(200 if self.done else 404)
        if request.method == "POST":
            self.sessions += 1
            self.data = b""
            return httpx.Response(202, headers={"Location": f"/upload/{self.sessions}"})
        if request.url.path != where["Location"]:
            return httpx.Response(404)
        if request.method == "GET":
            return httpx.Response(204, headers=where | {"Range": f"0-{max(len(self.data) - 1, 0)}"})
        body = request.content
        if request.method == "PATCH":
            self.patches += 1
            assert request.headers["Content-Range"] == f"{len(self.data)}-{len(self.data) + len(body) - 1}"
            self.fail(request, self.patches)
        self.data += body
        if request.method == "PUT":
            assert request.url.params["digest"] == f"sha256:{hashlib.sha256(self.data).hexdigest()}"
            self.done = self.data
            return httpx.Response(201)
        return httpx.Response(202, headers=where | {"Range": f"0-{len(self.data) - 1}"})

    def put(self) -> str:
        def send(client: Registry) -> Awaitable[str]:
            return client.put_blob("team/app", DIGEST, len(DATA), lambda: BytesIO(DATA))

        return str(ask(self, send))


def test_a_large_blob_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 3000)
    registry = Uploads()
    assert registry.put() == "sent"
    assert (registry.done, registry.patches, registry.sessions) == (DATA, 4, 1)


def test_an_upload_goes_on_in_its_session_after_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 3000)

    def fail(_: httpx.Request, count: int) -> None:
        if count in {2, 3}:
            raise httpx.WriteError("broken pipe")

    registry = Uploads(fail)
    assert registry.put() == "sent"
    assert (registry.done, registry.sessions) == (DATA, 1)


def test_an_upload_whose_session_is_gone_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 3000)

    def fail(_: httpx.Request, count: int) -> None:
        if count == 3:
            registry.sessions = 9  # forgets the one that runs
            raise httpx.WriteError("broken pipe")

    registry = Uploads(fail)
    assert registry.put() == "sent"
    assert (registry.done, registry.sessions) == (DATA, 10)


def test_a_registry_that_takes_no_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 3000)

    def fail(_: httpx.Request, _count: int) -> None:
        raise httpx.WriteError("broken pipe")

    with pytest.raises(TransientError, match="does not take"):
        Uploads(fail).put()


def test_a_blob_of_another_size_than_promised_is_not_sent() -> None:
    def send(client: Registry) -> Awaitable[str]:
        return client.put_blob("team/app", DIGEST, 5, lambda: BytesIO(DATA))

    with pytest.raises(InputError, match="5"):
        ask(Uploads(), send)


def test_lists_are_followed_over_pages() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "last" in request.url.params:
            return httpx.Response(200, json={"tags": ["c"]})
        link = {"Link": '</v2/team/app/tags/list?last=b>; rel="next"'}
        return httpx.Response(200, json={"tags": ["a", "b"]}, headers=link)

    assert ask(handler, lambda c: c.tags("team/app")) == ("a", "b", "c")


def test_referrers_come_from_the_api_where_there_is_one() -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": DIGEST, "size": 1, "artifactType": "a/sbom"}

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/v2/team/app/referrers/{DIGEST}"
        return httpx.Response(200, json={"schemaVersion": 2, "manifests": [entry, entry | {"artifactType": "a/sig"}]})

    found = ask(handler, lambda c: c.referrers(REF.with_digest(DIGEST), "a/sig"))
    assert [each.artifact_type for each in found] == ["a/sig"]


def test_backoff_is_bounded_in_sum(waits: list[float]) -> None:
    with pytest.raises(TransientError):
        ask(lambda _: httpx.Response(500), lambda c: c.get_manifest(REF))
    assert len(waits) == retry.ATTEMPTS - 1
    assert sum(waits) < 15
