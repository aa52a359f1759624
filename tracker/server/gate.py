"""The gate: checks host, origin, token and role before every route of every application.

A page on the web must not reach a server on a user's own machine. Its name may be made to resolve to this machine (DNS
rebinding), but then Host has that name. Requests that the page sends itself have its Origin, or a Sec-Fetch-Site that
is not this site, also if the browser adds a remembered password.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.domain.access import Identity, may
from tracker.server import problem_details
from tracker.server.roles import OPEN, Rules
from tracker.server.token_auth import TokenAuth

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
RULE = "tracker.rule"
"""Scope key of the label of the rule that admitted the request."""

_ONCE = ("host", "origin", "authorization", "sec-fetch-site")
_KEPT = 1024
_CHALLENGE = 'Basic realm="Tracker: the password is an access token", charset="UTF-8"'
_MLFLOW = ("/api/2", "/api/3", "/ajax-api/", "/graphql", "/get-artifact", "/model-versions/", "/v1/")
"""Paths of MLflow's clients, which need MLflow's error codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Host names under which the server accepts requests, with any port.

    With `addresses`, any IP address too: rebinding needs a name.
    """

    names: Collection[str] = LOOPBACK
    addresses: bool = False

    def allow(self, host: str) -> bool:
        """Whether `host`, a Host header's value, is one of them."""
        name = _name(host)
        return name is not None and (name in self.names or (self.addresses and _is_address(name)))


def _name(host: str) -> str | None:
    """The name or address in `host`, without port and brackets; None if it is malformed."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not (port.isascii() and port.isdecimal() and len(port) <= 5):
        return None
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1].lower()
    return name.lower() if name and ":" not in name else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Gate:
    """Refuses requests with another host or from another page (403), without a token (401), or with an insufficient
    role (403). Without `auth` every client may do everything.

    A request like an earlier one is admitted by three lookups in dictionaries, whose keys are the headers' raw bytes.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, auth: TokenAuth | None = None, rules: Rules | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._auth = auth
        self._rules = rules or Rules()
        self._fine: set[tuple[bytes | None, bytes | None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = dict(scope["headers"])
        refusal: Response | None = None
        from_where = (headers.get(b"host"), headers.get(b"origin"))
        if (
            from_where not in self._fine
            or len(headers) != len(scope["headers"])
            or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        ):
            refusal = self._refused_origin(scope, from_where)
        rule = self._rules.of(scope["method"], scope["path"])
        scope[RULE] = rule.label
        scope[problem_details.READS] = rule.role == "viewer"
        problem_details.CLIENT.set(scope["client"][0] if scope.get("client") else "")
        auth = self._auth
        if refusal is None and auth is not None and not auth.open and scope["path"] not in OPEN:
            authorization = headers.get(b"authorization")
            if authorization is None:
                refusal = _no_token(scope, "no access token came with the request")
            else:
                identity = auth.known.get(authorization) or auth.identify(authorization)
                if identity is None and (identity := await auth.identify_new(authorization)) is None:
                    refusal = _no_token(scope, "the access token is not in force")
                elif identity.role != rule.role and not may(identity.role, rule.role):
                    refusal = _too_little(scope, identity, rule.role)
                scope[problem_details.IDENTITY] = identity
                if identity is not None:
                    problem_details.CLIENT.set(f"token {identity.name}")
        await (refusal or self._app)(scope, receive, send)

    def _refused_origin(self, scope: Scope, from_where: tuple[bytes | None, bytes | None]) -> Response | None:
        headers = Headers(scope=scope)
        problem = self._problem(headers, scope["method"])
        if problem is not None:
            return _refusal(scope, 403, problem[1], "InvalidValue", field=problem[0])
        if len(self._fine) >= _KEPT:
            self._fine.clear()
        self._fine.add(from_where)
        return None

    def _problem(self, headers: Headers, method: str) -> tuple[str, str] | None:
        """The header that does not fit, and why."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allow(hosts[0]):
            shown = ", ".join(hosts)[:200]
            return "Host", f"{shown!r} is not a name of this server; start it with --allow-host NAME to make it one"
        for name in _ONCE:
            if len(headers.getlist(name)) > 1:
                return name.title(), "given twice"
        origin = headers.get("origin")
        if origin is not None:
            scheme, _, authority = origin.partition("://")
            if scheme not in ("http", "https") or authority.lower() != hosts[0].lower():
                return "Origin", f"{origin[:200]!r} is not this server: its pages may not ask here"
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not _is_visit(headers, method):
            return "Sec-Fetch-Site", f"{site[:40]!r}: pages of another origin may lead here, but not ask here"
        return None


def _is_visit(headers: Headers, method: str) -> bool:
    """Whether a user follows a link to this server, in a top-level window."""
    return (
        method == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
    )


def _no_token(scope: Scope, problem: str) -> Response:
    detail = (
        f"{problem}; send one as `Authorization: Bearer TOKEN`, or as the password of HTTP Basic (TRACKER_TOKEN and "
        "MLFLOW_TRACKING_TOKEN do so); `tracker token create NAME` on the server makes one"
    )
    return _refusal(
        scope, 401, detail, "StoreError", more=[("WWW-Authenticate", _CHALLENGE), ("WWW-Authenticate", "Bearer")]
    )


def _too_little(scope: Scope, identity: Identity, needed: str) -> Response:
    wanted = f"{scope['method']} {scope['path'][:200]}"
    detail = f"{wanted} needs the role {needed}; the token {identity.name!r} has {identity.role}"
    return _refusal(scope, 403, detail, "StoreError")


def _refusal(
    scope: Scope, status: int, detail: str, error: str, *, field: str = "", more: Sequence[tuple[str, str]] = ()
) -> Response:
    code = ""
    if scope["path"].startswith(_MLFLOW):
        code = "UNAUTHENTICATED" if status == 401 else "PERMISSION_DENIED"
    response = problem_details.response(status, detail, error, field=field, error_code=code)
    for name, value in more:
        response.headers.append(name, value)
    return response
