"""One registry host over HTTP: scheme, trust, authorisation, retries, and answers turned into errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

import httpx

from polyarch.errors import InputError, RegistryError
from polyarch.oci.model import DOCUMENT_LIMIT
from polyarch.oci.reference import DEFAULT_REGISTRY
from polyarch.registry import retry, trust
from polyarch.registry.auth import Authorizer, Scope

_HUB_API = "registry-1.docker.io"  # where the API of docker.io is
_TIMEOUT = httpx.Timeout(60.0, connect=15.0, pool=None)  # seconds without a byte
_LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=16)
_AGAIN = "run it again: what was done is kept"
_REDIRECTS = 5  # for requests with a body
_TOKEN_LIMIT = 1 << 20  # bytes
_SAID_LIMIT = 1 << 16  # bytes of an error's body that are read
_DETAIL_LIMIT = 2000  # characters of it that are shown

# httpx logs whole addresses, and those of storage behind a registry are signed: who has one may read.
logging.getLogger("httpx").setLevel(logging.WARNING)

Body = Callable[[], AsyncIterator[bytes]]


class TransientError(RegistryError):
    """The registry went away or failed for the moment; asking again, now or later, may succeed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body` gives the same bytes each time it is called; `retry` says that sending twice does no harm."""

    method: str
    url: str
    scopes: tuple[Scope, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    retry: bool = True


class Channel:
    """The connections to one registry host. Use it inside `async with`."""

    def __init__(
        self, host: str, *, tls_verify: bool = True, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.host = host
        self._loopback = trust.is_loopback(host)
        self._may_be_plain = self._loopback or not tls_verify
        self._client = httpx.AsyncClient(
            verify=trust.tls_context(host, verify=tls_verify),
            transport=transport,
            follow_redirects=True,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            # A proxy is never the way to this machine itself.
            trust_env=not self._loopback,
            headers={"User-Agent": "polyarch", "Accept-Encoding": "identity"},
        )
        self._auth = Authorizer(host, self._ask)
        self._base: httpx.URL | None = None
        self._base_lock = asyncio.Lock()
        self._answered: set[str] = set()

    async def __aenter__(self) -> Channel:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def exchange(self, call: Call, expect: Collection[int]) -> AsyncIterator[httpx.Response]:
        """Send and hand over the answer, its body unread.

        Raises `InputError` when the host was never reached, `TransientError` when it went away (in the middle of its
        answer, too) or failed for the moment, `RegistryError` when its answer is none of `expect`.
        """
        response = await self._retrying(lambda: self._authorised(call), self.host, once=not call.retry)
        try:
            if response.status_code not in expect:
                raise await self._refused(response, call)
            yield response
        except httpx.TransportError as error:
            raise TransientError(f"{self.host} broke off its answer", detail=_say(error)) from error
        finally:
            await response.aclose()

    async def send(self, call: Call, expect: Collection[int]) -> httpx.Response:
        """Like `exchange`, for answers of which only status and headers count."""
        async with self.exchange(call, expect) as response:
            # Drained, so that the connection can be kept.
            await read(response, _SAID_LIMIT)
            return response

    def address(self, response: httpx.Response) -> str:
        """The absolute `Location` of an answer. Raises `RegistryError` when there is none that can be used."""
        try:
            url = response.request.url.join(response.headers["Location"])
        except (KeyError, httpx.InvalidURL) as error:
            raise RegistryError(f"{self.host} does not say where to go on (no valid Location)") from error
        return str(url)

    async def _authorised(self, call: Call) -> httpx.Response:
        base = await self._find_base()
        url = base.join(call.url)
        ours = _origin(url) == _origin(base)
        header = await self._auth.header(call.scopes) if ours else None
        response = await self._dispatch(call, url, header)
        # A 401 from where a redirect led to is not this registry's.
        if response.status_code != httpx.codes.UNAUTHORIZED or _origin(response.request.url) != _origin(base):
            return response
        again = await self._auth.answer(response.headers.get_list("WWW-Authenticate"), call.scopes, header)
        if again is None:
            return response
        await response.aclose()
        return await self._dispatch(call, url, again)

    async def _dispatch(self, call: Call, url: httpx.URL, header: str | None) -> httpx.Response:
        """Send once, following redirects; httpx drops Authorization where one leaves the origin."""
        for _ in range(_REDIRECTS):
            headers = dict(call.headers) | ({"Authorization": header} if header else {})
            content = call.body() if call.body else None
            request = self._client.build_request(call.method, url, headers=headers, content=content)
            # httpx cannot send a streamed body a second time, so those redirects are followed here.
            response = await self._client.send(request, stream=True, follow_redirects=content is None)
            if content is None or response.next_request is None:
                return response
            await response.aclose()
            header = header if _origin(response.next_request.url) == _origin(url) else None
            url = response.next_request.url
        raise RegistryError(f"{self.host} redirects in circles")

    async def _ask(self, request: httpx.Request) -> tuple[int, bytes]:
        """Send to a token server. A form with a refresh token in it follows no redirect."""

        async def once() -> httpx.Response:
            return await self._client.send(request, stream=True, follow_redirects=request.method == "GET")

        response = await self._retrying(once, request.url.host, once=False)
        try:
            return response.status_code, await read(response, _TOKEN_LIMIT)
        except httpx.TransportError as error:
            raise TransientError(f"{request.url.host} broke off its answer", detail=_say(error)) from error
        finally:
            await response.aclose()

    async def _retrying(
        self, send: Callable[[], Awaitable[httpx.Response]], host: str, *, once: bool
    ) -> httpx.Response:
        """Send again after what passes, waiting as the server asks."""
        attempts = 1 if once else retry.ATTEMPTS
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                response = await send()
            except httpx.TransportError as error:
                if last or (host not in self._answered and trust.is_final(error)):
                    raise self._lost(host, error) from error
                wait = retry.backoff(attempt)
            except httpx.HTTPError as error:
                raise RegistryError(f"{host} cannot be spoken to", detail=_say(error)) from error
            else:
                self._answered.add(host)
                if last or response.status_code not in retry.TEMPORARY:
                    return response
                wait = retry.retry_after(response.headers.get("Retry-After")) or retry.backoff(attempt)
                await response.aclose()
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _lost(self, host: str, error: httpx.TransportError) -> InputError | TransientError:
        if host not in self._answered:
            return trust.unreachable(host, error)
        return TransientError(f"{host} stopped answering", detail=_say(error), hint=_AGAIN)

    async def _find_base(self) -> httpx.URL:
        """`https://HOST`; where plain HTTP is allowed, whichever of the two the host speaks."""
        async with self._base_lock:
            if self._base is None:
                secure = httpx.URL(f"https://{_HUB_API if self.host == DEFAULT_REGISTRY else self.host}/")
                plain = self._may_be_plain and not await self._speaks_tls(secure)
                self._base = secure.copy_with(scheme="http") if plain else secure
                self._auth.secure = not plain
            return self._base

    async def _speaks_tls(self, url: httpx.URL) -> bool:
        try:
            async with self._client.stream("GET", url.join("/v2/")):
                return True
        except httpx.TransportError as error:
            # Nobody there, or a certificate that is not trusted: plain HTTP would be no better, or no right.
            if trust.is_final(error) and not trust.speaks_something_else(error):
                raise
            return False

    async def _refused(self, response: httpx.Response, call: Call) -> RegistryError:
        """The error for an answer that was not expected."""
        status = response.status_code
        detail = _explain(await read(response, _SAID_LIMIT))
        if status in {401, 403}:
            return await self._auth.refusal(call.scopes, detail)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return TransientError(
                f"{self.host} limits how often it may be asked", detail=detail,
                hint=f"wait a while; logging in (podman login {self.host}) may raise the limit",
            )  # fmt: skip
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return RegistryError(
                f"{self.host} takes nothing this large", detail=detail,
                hint="raise the body limit of the registry, or of the proxy in front of it",
            )  # fmt: skip
        kind = TransientError if status in retry.TEMPORARY else RegistryError
        what = f" for {call.scopes[0].repository}" if call.scopes else ""
        return kind(f"{self.host} answered {status} to {call.method}{what}", detail=detail)


async def read(response: httpx.Response, limit: int = DOCUMENT_LIMIT) -> bytes:
    """A body whole, or its first `limit` + 1 bytes: longer than the limit means that there was more."""
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__


def _explain(body: bytes) -> str:
    """The registry's own words (distribution-spec, "Error Codes"): `{"errors": [{"code", "message", "detail"}]}`."""
    try:
        errors = json.loads(body)["errors"]
        said = "\n".join(f"{e.get('code', '')}: {e.get('message', '')}".strip(": ") for e in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        said = body.decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() or c == "\n" else " " for c in said)[:_DETAIL_LIMIT]
