from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.errors import RegistryError
from polyarch.registry import auth
from polyarch.registry.auth import Authorizer, Challenge, Scope, parse_challenges

CHALLENGE = 'Bearer realm="https://auth.example/token",service="r.example",scope="repository:a:pull"'
SCOPES = (Scope("team/app"),)
words = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHALLENGE, [("bearer", {"realm": "https://auth.example/token", "service": "r.example",
                                 "scope": "repository:a:pull"})]),
        ('Basic realm="say \\"hi\\""', [("basic", {"realm": 'say "hi"'})]),
        ('Basic realm=x, Bearer realm="y, z" , service = s', [("basic", {"realm": "x"}),
                                                             ("bearer", {"realm": "y, z", "service": "s"})]),
        ("Negotiate", [("negotiate", {})]),
        ('Negotiate YII=, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Basic, Bearer realm="x"', [("basic", {}), ("bearer", {"realm": "x"})]),
        ('bEaReR REALM="x"', [("bearer", {"realm": "x"})]),
        ("", []),
        ('"', []),
    ],
)  # fmt: skip
def test_challenges_are_read_as_the_rfc_writes_them(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(text) == tuple(Challenge(*each) for each in expected)


@given(st.lists(st.tuples(words, st.dictionaries(words, values, min_size=1)), min_size=1, max_size=3))
def test_any_challenge_that_is_written_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quote(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(f"{s} " + ", ".join(f"{k}={quote(v)}" for k, v in p.items()) for s, p in challenges)
    assert parse_challenges(text) == tuple(Challenge(*each) for each in challenges)


@given(st.text())
def test_no_challenge_breaks_the_reader(text: str) -> None:
    parse_challenges(text)


class TokenServer:
    """Gives out `token-1`, `token-2`…, and remembers what it was asked."""

    def __init__(self, status: int = 200, **answer: object) -> None:
        self.asked: list[httpx.Request] = []
        self.status = status
        self.answer = answer

    async def __call__(self, request: httpx.Request) -> tuple[int, bytes]:
        self.asked.append(request)
        await asyncio.sleep(0)
        return self.status, json.dumps({"token": f"token-{len(self.asked)}", "expires_in": 300} | self.answer).encode()


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "auth.json"
    path.write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    return path


def log_in(path: Path, **entry: str) -> None:
    path.write_text(json.dumps({"auths": {"r.example": entry}}))


ME = base64.b64encode(b"me:hunter2").decode()


def answer(authorizer: Authorizer, challenge: str = CHALLENGE, sent: str | None = None) -> str | None:
    return asyncio.run(authorizer.answer([challenge], SCOPES, sent))


def test_a_host_that_never_asked_is_told_nothing(login: Path) -> None:
    log_in(login, auth=ME)
    assert asyncio.run(Authorizer("r.example", TokenServer()).header(SCOPES)) is None


def test_a_token_is_asked_for_what_the_request_needs(login: Path) -> None:
    server = TokenServer()
    assert answer(Authorizer("r.example", server)) == "Bearer token-1"
    assert server.asked[0].url.host == "auth.example"
    assert dict(server.asked[0].url.params) == {"service": "r.example", "scope": "repository:team/app:pull"}
    assert "Authorization" not in server.asked[0].headers


def test_the_password_goes_to_the_token_server_only(login: Path) -> None:
    log_in(login, auth=ME)
    server = TokenServer()
    assert answer(Authorizer("r.example", server)) == "Bearer token-1"
    assert server.asked[0].headers["Authorization"] == f"Basic {ME}"


def test_parallel_requests_share_one_token(login: Path) -> None:
    server = TokenServer()
    authorizer = Authorizer("r.example", server)

    async def many() -> list[str | None]:
        await authorizer.answer([CHALLENGE], SCOPES, None)
        return await asyncio.gather(*(authorizer.header(SCOPES) for _ in range(10)))

    assert set(asyncio.run(many())) == {"Bearer token-1"}
    assert len(server.asked) == 1


def test_a_token_is_renewed_before_it_ends(login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(auth.time, "monotonic", lambda: now)
    authorizer = Authorizer("r.example", TokenServer(expires_in=100))
    answer(authorizer)
    now = 1080.0
    assert asyncio.run(authorizer.header(SCOPES)) == "Bearer token-1"
    now = 1095.0
    assert asyncio.run(authorizer.header(SCOPES)) == "Bearer token-2"


def test_a_token_that_was_refused_is_replaced(login: Path) -> None:
    authorizer = Authorizer("r.example", TokenServer())
    first = answer(authorizer)
    assert answer(authorizer, sent=first) == "Bearer token-2"


def test_an_identity_token_is_posted_in_a_form(login: Path) -> None:
    log_in(login, identitytoken="refresh-me")
    server = TokenServer(token=None, access_token="access")
    assert answer(Authorizer("r.example", server)) == "Bearer access"
    request = server.asked[0]
    form = parse_qs(request.content.decode())
    assert (request.method, form["grant_type"], form["refresh_token"]) == ("POST", ["refresh_token"], ["refresh-me"])
    assert "refresh-me" not in str(request.url)


def test_basic_is_answered_with_the_password(login: Path) -> None:
    log_in(login, auth=ME)
    authorizer = Authorizer("r.example", TokenServer())
    first = answer(authorizer, 'Basic realm="x"')
    assert first == f"Basic {ME}"
    assert answer(authorizer, 'Basic realm="x"', sent=first) is None


def test_a_tls_registry_cannot_have_a_password_sent_in_the_clear(login: Path) -> None:
    log_in(login, auth=ME)
    server = TokenServer()
    with pytest.raises(RegistryError, match="without TLS"):
        answer(Authorizer("r.example", server), 'Bearer realm="http://auth.example/token"')
    assert not server.asked


@pytest.mark.parametrize("realm", ["", "ftp://x/", "not a url", "file:///etc/passwd"])
def test_a_token_server_must_be_a_web_address(login: Path, realm: str) -> None:
    with pytest.raises(RegistryError, match="names no server"):
        answer(Authorizer("r.example", TokenServer()), f'Bearer realm="{realm}"')


def test_wrong_credentials_say_how_to_log_in_and_nothing_secret(login: Path) -> None:
    log_in(login, auth=ME)
    with pytest.raises(RegistryError) as caught:
        answer(Authorizer("r.example", TokenServer(status=401)))
    assert caught.value.hint == "podman login r.example"
    shown = str(caught.value.as_dict())
    assert "hunter2" not in shown
    assert ME not in shown


@pytest.mark.parametrize("token", [None, 7, "", "new\nline", "ünicode"])
def test_an_answer_without_a_usable_token_is_an_error(login: Path, token: object) -> None:
    with pytest.raises(RegistryError, match="token"):
        answer(Authorizer("r.example", TokenServer(token=token)))
