"""Who we are to a registry: challenges read, tokens fetched, cached and renewed.

Sources: RFC 9110 section 11.6.1 (`WWW-Authenticate`), distribution's `docs/spec/auth/token.md` and `oauth.md`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from polyarch.errors import RegistryError
from polyarch.registry.credentials import Credentials, Secret, find_credentials

_CLIENT_ID = "polyarch"
_LIFETIME = 60.0  # seconds; token.md: the lifetime where the server states none
_MARGIN = 10.0  # seconds; a token that ends within these is renewed before it is used

_SPACE = r"[ \t]*"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'{_SPACE}({_WORD}){_SPACE}={_SPACE}(?:"((?:[^"\\]|\\.)*)"|({_WORD})){_SPACE}(?:,|$)')
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?:[ \t]+|$|(?=,))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers: a scheme in lower case, and its parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request wants to do to a repository; `actions` as in token.md: `pull`, `pull,push`, `delete`."""

    repository: str
    actions: str = "pull"

    def __str__(self) -> str:
        return f"repository:{self.repository}:{self.actions}"


@dataclass(frozen=True, slots=True)
class _Token:
    secret: Secret
    until: float  # on the monotonic clock


# Sends one request to a token server and returns the status and the body of its answer.
Ask = Callable[[httpx.Request], Awaitable[tuple[int, bytes]]]


def parse_challenges(value: str) -> tuple[Challenge, ...]:
    """Read a `WWW-Authenticate` value; several challenges may share one. What cannot be read is left out."""
    found: list[Challenge] = []
    position = 0
    while scheme := _SCHEME.match(value, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(value, position):
            name, quoted, plain = parameter.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
            position = parameter.end()
        # A scheme may carry one bare value instead (`Negotiate abc==`); none of ours does.
        if not parameters and (bare := _TOKEN68.match(value, position)) and "=" in bare.group():
            position = bare.end()
        found.append(Challenge(scheme.group(1).lower(), parameters))
    return tuple(found)


@dataclass
class Authorizer:
    """The `Authorization` headers for one registry host. Starts empty-handed and learns from the first 401."""

    host: str
    ask: Ask
    secure: bool = True
    _challenge: Challenge | None = None
    _credentials: dict[str, Credentials | None] = field(default_factory=dict)
    _tokens: dict[tuple[Scope, ...], _Token] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def header(self, scopes: tuple[Scope, ...]) -> str | None:
        """The header for a request, or None while the host has not asked for one (or we have nothing to show)."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            credentials = await self.credentials(scopes)
            return credentials.basic() if credentials else None
        async with self._lock:  # parallel requests wait for one token instead of fetching one each
            token = self._tokens.get(scopes)
            if token is None or token.until - _MARGIN < time.monotonic():
                token = self._tokens[scopes] = await self._fetch(self._challenge, scopes)
        return f"Bearer {token.secret.reveal()}"

    async def answer(self, values: Sequence[str], scopes: tuple[Scope, ...], sent: str | None) -> str | None:
        """The header that answers a 401, or None when there is nothing better than what was `sent`."""
        offers = {c.scheme: c for value in values for c in parse_challenges(value)}
        challenge = offers.get("bearer") or offers.get("basic")
        if challenge is None:
            return None
        self._challenge = challenge
        token = self._tokens.get(scopes)
        if token is not None and sent == f"Bearer {token.secret.reveal()}":
            del self._tokens[scopes]
        header = await self.header(scopes)
        return header if header != sent else None

    async def credentials(self, scopes: tuple[Scope, ...]) -> Credentials | None:
        """What the files hold for the first scope's repository; looked up once, helpers being slow."""
        repository = scopes[0].repository if scopes else ""
        if repository not in self._credentials:
            self._credentials[repository] = await asyncio.to_thread(find_credentials, self.host, repository)
        return self._credentials[repository]

    async def refusal(self, scopes: tuple[Scope, ...], detail: str = "") -> RegistryError:
        """The error for a 401 or 403."""
        credentials = await self.credentials(scopes)
        what = f" to {scopes[0].repository}" if scopes else ""
        tried = "no credentials were found" if credentials is None else "the stored credentials were not accepted"
        return RegistryError(
            f"{self.host} refuses access{what}",
            detail="\n".join(filter(None, (tried, detail))),
            hint=f"podman login {self.host}",
        )

    async def _fetch(self, challenge: Challenge, scopes: tuple[Scope, ...]) -> _Token:
        """A token from the server that the challenge names, for our scopes or else the challenge's own."""
        credentials = await self.credentials(scopes)
        wanted = [str(scope) for scope in scopes] or challenge.parameters.get("scope", "").split()
        service = challenge.parameters.get("service", "")
        realm = self._realm(challenge, secret=credentials is not None)
        if credentials is not None and credentials.identity:
            form = {
                "grant_type": "refresh_token", "service": service, "client_id": _CLIENT_ID, "scope": " ".join(wanted),
                "refresh_token": credentials.secret.reveal(),
            }  # fmt: skip
            request = httpx.Request("POST", realm, data=form)
        else:
            query = {"scope": wanted} | ({"service": [service]} if service else {})
            headers = {"Authorization": credentials.basic()} if credentials else {}
            request = httpx.Request("GET", realm.copy_merge_params(query), headers=headers)
        asked = time.monotonic()
        status, body = await self.ask(request)
        if status in {400, 401, 403}:
            raise await self.refusal(scopes, f"the token server {realm.host} answered {status}")
        if status != httpx.codes.OK:
            raise RegistryError(f"the token server {realm.host} of {self.host} answered {status}")
        return _read_token(body, asked, f"the token server {realm.host} of {self.host}")

    def _realm(self, challenge: Challenge, *, secret: bool) -> httpx.URL:
        """The token server's address. A secret is not carried over plain HTTP at the word of a TLS registry."""
        try:
            realm = httpx.URL(challenge.parameters.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if realm.scheme not in {"http", "https"} or not realm.host:
            raise RegistryError(f"{self.host} asks for a token and names no server that gives one")
        if secret and self.secure and realm.scheme != "https":
            raise RegistryError(
                f"{self.host} wants its password sent without TLS, to {realm.host}",
                hint="the registry's token realm should be an https address; ask who runs it",
            )
        return realm


def _read_token(body: bytes, asked: float, where: str) -> _Token:
    try:
        data = json.loads(body)
        token = data.get("token") or data.get("access_token")
        lifetime = float(data.get("expires_in") or _LIFETIME)
    except (ValueError, AttributeError, TypeError):
        token, lifetime = None, 0.0
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryError(f"{where} answered without a token")
    return _Token(Secret(token), asked + lifetime)
