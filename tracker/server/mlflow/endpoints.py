"""Endpoints of MLflow's API as plain ASGI: body or query → typed request, the handler's bytes → response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.server.long_answers import LongAnswer
from tracker.server.mlflow import mlflow_errors
from tracker.server.mlflow.decode import decoder, invalid, query_decoder
from tracker.server.problem_details import Refused
from tracker.server.request_body import GRACE_S, SLOWEST, BodyLimits

S = TypeVar("S", bound=Struct)
Handle = Callable[[S], Awaitable[bytes | LongAnswer]]

FIELDS = "tracker.mlflow.fields"
"""Scope key of the parts of the path that are fields of the request."""
_NONE: Mapping[str, str] = {}
_SMALL = 256 * 1024
"""Bodies up to this size are decoded on the event loop; larger ones in a thread, so that other requests need not
wait."""


def get_endpoint(kind: type[S], handle: Handle[S]) -> ASGIApp:
    """The endpoint of a request whose fields are in the query."""
    decode = query_decoder(kind)

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await handle(decode(scope["query_string"], **scope.get(FIELDS, _NONE)))
        except Exception as error:
            await mlflow_errors.error_answer(error).send(send)
        else:
            await _answer(answer, scope, receive, send)

    return endpoint


def body_endpoint(kind: type[S], handle: Handle[S], intake: BodyLimits) -> ASGIApp:
    """The endpoint of a request whose fields are in a JSON body."""
    decode = decoder(kind)

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            encoded = _check_headers(scope)
            of_path = scope.get(FIELDS, _NONE)
            first = await first_message(receive)
            if encoded or first.get("more_body"):
                async with intake.body(Request(scope, replayed(first, receive))) as body:
                    given = (
                        decode(body, **of_path)
                        if len(body) <= _SMALL
                        else await asyncio.to_thread(decode, body, **of_path)
                    )
                    answer = await handle(given)
            else:
                answer = await handle(decode(first.get("body", b""), **of_path))
        except Exception as error:
            await mlflow_errors.error_answer(error).send(send)
        else:
            await _answer(answer, scope, receive, send)

    return endpoint


async def _answer(answer: bytes | LongAnswer, scope: Scope, receive: Receive, send: Send) -> None:
    if isinstance(answer, LongAnswer):
        await answer(scope, receive, send)
    else:
        await mlflow_errors.answer(send, answer)


async def first_message(receive: Receive) -> Message:
    """The beginning of the body, perhaps all of it."""
    try:
        async with asyncio.timeout(GRACE_S):
            message = await receive()
    except TimeoutError:
        raise Refused(
            408, "the body did not come", limit=f"{SLOWEST} bytes a second", headers={"Connection": "close"}
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def replayed(first: Message, receive: Receive) -> Receive:
    """A `receive` that yields `first`, then the later messages."""
    waiting: Iterator[Message] = iter((first,))

    async def replay() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replay


def _check_headers(scope: Scope) -> bool:
    """Whether the body is compressed. BridgeError if it is not JSON: a form on another site's page cannot send JSON."""
    if scope["method"] == "DELETE":
        return False
    kind, encoded = None, False
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding":
            encoded = True
    if kind != b"application/json":
        if kind is None:
            raise invalid("Bad Request. Content-Type header is missing.")
        if kind.partition(b";")[0].strip().lower() != b"application/json":
            raise invalid("Bad Request. Content-Type must be one of ['application/json'].")
    return encoded
