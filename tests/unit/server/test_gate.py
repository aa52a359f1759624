"""The one gate before every route: host, origin, token and role."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from tracker.domain.access import Identity, Keys, Role, digest_of, new_token
from tracker.domain.errors import StoreUnavailable
from tracker.server.gate import Gate, Hosts
from tracker.server.problem_details import IDENTITY
from tracker.server.token_auth import TokenAuth, token_in

HOST = (b"host", b"localhost:5000")
TOKENS: dict[Role, str] = {"viewer": new_token(), "writer": new_token(), "admin": new_token()}
READ, WRITE, DELETE = (
    ("GET", "/api/v1/runs"),
    ("POST", "/api/v1/batches"),
    ("POST", "/api/2.0/mlflow/experiments/delete"),
)


@dataclass
class Store:
    """Tokens by role, how often they were asked for, and a clock that the test moves."""

    keys: Keys = field(default_factory=lambda: keys_of(TOKENS))
    asked: int = 0
    now: float = 0.0
    away: bool = False

    def __call__(self) -> Keys:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        return self.keys

    async def pause(self, seconds: float) -> None:
        self.now += seconds

    def auth(self, *, guarded: bool = False) -> TokenAuth:
        return TokenAuth(self, guarded=guarded, clock=lambda: self.now, pause=self.pause)


def keys_of(tokens: dict[Role, str]) -> Keys:
    return Keys(
        by_digest={digest_of(token): Identity(name=role, role=role) for role, token in tokens.items()}, any=True
    )


def bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode()


def basic(token: str, user: str = "anybody") -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(f"{user}:{token}".encode())


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    scope: Scope

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(gate_: Gate, request: tuple[str, str] = READ, *headers: tuple[bytes, bytes], host: bool = True) -> Answer:
    """What comes out of the gate; 200 if the application behind it was reached."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": request[0], "path": request[1], "headers": [HOST] * host + list(headers)}
    asyncio.run(gate_(scope, receive, send))
    return Answer(sent[0]["status"], sent[0].get("headers", []), sent[1].get("body", b""), scope)


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def gate(store: Store | None = None, *, guarded: bool = False, hosts: Hosts | None = None) -> Gate:
    return Gate(behind, hosts or Hosts(), store.auth(guarded=guarded) if store is not None else None)


def test_without_tokens_everybody_may_do_everything() -> None:
    """A store without tokens is open, unless the server must guard it whatever it has."""
    empty = Keys(by_digest={}, any=False)
    for request in (READ, WRITE, DELETE):
        assert ask(gate(Store(empty)), request).status == 200
        assert ask(gate(), request).status == 200
        assert ask(gate(Store(empty), guarded=True), request).status == 401


def test_role_decides() -> None:
    """Whoever has a token may do what its role may, with Bearer and with Basic; the scope says who it is."""
    one = gate(Store())
    may = {"viewer": [200, 403, 403], "writer": [200, 200, 403], "admin": [200, 200, 200]}
    for _ in range(2):  # the second time from memory
        for role, token in TOKENS.items():
            for header in (
                bearer(token),
                basic(token),
                basic(token, ""),
                (b"authorization", b"bEARER  " + token.encode()),
            ):
                answers = [ask(one, request, header) for request in (READ, WRITE, DELETE)]
                assert [answer.status for answer in answers] == may[role], (role, header)
                assert {answer.scope[IDENTITY].name for answer in answers} == {role}
    told = ask(one, DELETE, bearer(TOKENS["viewer"])).json
    assert (told["status"], told["error_code"]) == (403, "PERMISSION_DENIED")
    assert "needs the role admin; the token 'viewer' has viewer" in told["detail"]
    assert "needs the role" in told["message"]


@pytest.mark.parametrize("header", [
    None, bearer("trk_wrong"), basic("trk_wrong"), bearer(""), (b"authorization", b"Bearer"), (b"authorization", b""),
    (b"authorization", TOKENS["admin"].encode()), (b"authorization", b"Digest " + TOKENS["admin"].encode()),
    (b"authorization", b"Basic " + TOKENS["admin"].encode()), (b"authorization", b"Basic \xff\xfe"), (b"authorization", b"Bearer \xff\xfe"),
    (b"authorization", b"Basic " + base64.b64encode(TOKENS["admin"].encode() + b":")), bearer(digest_of(TOKENS["admin"])),
    bearer(TOKENS["admin"] + "x"), bearer(TOKENS["admin"][:-1]), bearer("x" * 100_000), (b"cookie", b"token=" + TOKENS["admin"].encode()),
])  # fmt: skip
def test_nobody_else_gets_in(header: tuple[bytes, bytes] | None) -> None:
    """What is no token in force is 401, with a challenge that browsers and clients know, and without the token in it."""
    answer = ask(gate(Store()), READ, *([header] if header else []))
    assert answer.status == 401
    challenges = [value for name, value in answer.headers if name == b"www-authenticate"]
    assert [one.split()[0] for one in challenges] == [b"Basic", b"Bearer"]
    assert answer.json["title"] == "Unauthorized"
    assert TOKENS["admin"].encode() not in answer.body
    assert b"trk_wrong" not in answer.body


def test_health_needs_no_token() -> None:
    """Health checks have no token; that they ask is no way around the host."""
    one = gate(Store())
    for path in ("/healthz", "/readyz"):
        assert ask(one, ("GET", path)).status == 200
        assert ask(one, ("GET", path), (b"host", b"evil.example"), host=False).status == 403
    for path in ("/metrics", "/healthz/", "/healthz/../api/v1/runs", "//healthz"):
        assert ask(one, ("GET", path)).status == 401


def test_revoked_and_new_tokens() -> None:
    """A token that is revoked is out at the next look at the store; one that was just made is in at once."""
    store = Store()
    auth = store.auth()
    one = Gate(behind, Hosts(), auth)
    assert ask(one, READ, bearer(TOKENS["viewer"])).status == 200
    new = new_token()
    store.keys = keys_of({"writer": new})
    assert ask(one, READ, bearer(TOKENS["viewer"])).status == 200
    assert ask(one, WRITE, bearer(new)).status == 200
    assert ask(one, READ, bearer(TOKENS["viewer"])).status == 401
    store.keys = Keys(by_digest={}, any=True)
    auth.refresh()
    assert ask(one, WRITE, bearer(new)).status == 401
    store.keys = Keys(by_digest={}, any=False)
    auth.refresh()
    assert ask(one, DELETE).status == 200


def test_store_is_not_asked_by_requests() -> None:
    """Known tokens, none and nonsense cost the store nothing; what looks like a token, two looks a second at most."""
    store = Store()
    one = gate(store)
    for _ in range(50):
        ask(one, READ, bearer(TOKENS["viewer"]))
        ask(one, READ, bearer("trk_nonsense"))
        ask(one, READ)
    assert (store.asked, store.now) == (1, 0.0)
    for _ in range(50):
        ask(one, READ, bearer(new_token()))
    assert store.asked <= 1 + store.now / 0.5


def test_store_that_is_away() -> None:
    """While the store does not answer, those who were known get in, and others do not."""
    store = Store()
    one = gate(store)
    store.away, store.now = True, 10.0
    assert ask(one, READ, bearer(new_token())).status == 401
    assert ask(one, READ, bearer(TOKENS["viewer"])).status == 200


@pytest.mark.parametrize(("headers", "status"), [
    ([], 200),
    ([(b"origin", b"http://localhost:5000")], 200),
    ([(b"origin", b"https://localhost:5000")], 200),
    ([(b"origin", b"http://evil.example")], 403),
    ([(b"origin", b"http://localhost:8888")], 403),
    ([(b"origin", b"null")], 403),
    ([(b"origin", b"http://localhost:5000"), (b"origin", b"http://evil.example")], 403),
    ([(b"host", b"evil.example")], 403),
    ([(b"sec-fetch-site", b"same-origin")], 200),
    ([(b"sec-fetch-site", b"none")], 200),
    ([(b"sec-fetch-site", b"cross-site")], 403),
    ([(b"sec-fetch-site", b"same-site")], 403),
    ([(b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")], 403),
    ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors"), (b"sec-fetch-dest", b"script")], 403),
    ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"iframe")], 403),
    ([(b"authorization", b"Bearer x")], 403),
])  # fmt: skip
@pytest.mark.parametrize("request_", [READ, WRITE, ("POST", "/graphql"), ("GET", "/healthz")])
def test_pages_of_other_origins(request_: tuple[str, str], headers: list[tuple[bytes, bytes]], status: int) -> None:
    """Whatever password the browser adds by itself: what a page elsewhere sends is refused on every route, always."""
    one = gate(Store())
    assert ask(one, request_, basic(TOKENS["admin"])).status == 200
    for _ in range(2):
        assert ask(one, request_, basic(TOKENS["admin"]), *headers).status == status


def test_links_lead_here() -> None:
    """A link on another page may be followed to here, which is a GET of a window of its own."""
    link = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")]
    one = gate(Store())
    assert ask(one, ("GET", "/"), basic(TOKENS["viewer"]), *link).status == 200
    assert ask(one, ("POST", "/api/v1/runs/r/stop"), basic(TOKENS["admin"]), *link).status == 403


def test_other_kinds_of_connection() -> None:
    """Web sockets, which nothing here serves, are closed, and not let past the gate."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(gate()({"type": "websocket", "path": "/", "headers": []}, behind, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(("header", "token"), [
    (b"Bearer abc", "abc"), (b"  bearer   abc ", "abc"), (b"Basic " + base64.b64encode(b"u:p:q"), "p:q"), (b"Basic " + base64.b64encode(b"u"), None),
    (b"Basic " + base64.b64encode(b"u:"), None), (b"Basic ???", None), (b"Bearer", None), (b"", None), (b"Other abc", None),
])  # fmt: skip
def test_token_in_a_header(header: bytes, token: str | None) -> None:
    """The token is what follows Bearer, or the password of Basic, which may have colons in it."""
    assert token_in(header) == token
