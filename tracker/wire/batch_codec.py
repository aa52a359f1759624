"""Encodes batches as MessagePack, with points by column as in `Batch`, and decodes them.

Decoded batches are checked as the client checks what it writes, because they may come from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import starmap

import msgspec

from tracker.domain.errors import InvalidValue
from tracker.domain.frames import Batch, JournalItem, PointBlock
from tracker.domain.limits import shortened
from tracker.wire.frame_checks import check_batch

ITEM_BYTES = 4 * 1024 * 1024
"""Maximum bytes of an item: few bytes of MessagePack can encode many objects, and each costs memory to decode."""
_WHERE = re.compile(r" - at `(?:key in )?\$\.?(?P<path>.*)`\Z")
_encode = msgspec.msgpack.Encoder().encode


class _Unread(msgspec.Struct, frozen=True):
    """A batch whose items are not decoded yet."""

    run_id: str
    writer: str
    first: int
    last: int
    items: list[tuple[int, msgspec.Raw]] = msgspec.field(default_factory=list)
    blocks: list[PointBlock] = msgspec.field(default_factory=list)
    after: int = 0


@cache
def _decoders() -> tuple[Callable[[bytes], _Unread], Callable[[msgspec.Raw], JournalItem]]:
    # Made when first needed: they take time to make, and only servers need them.
    return msgspec.msgpack.Decoder(_Unread).decode, msgspec.msgpack.Decoder(JournalItem).decode


def encode_batch(batch: Batch) -> bytes:
    """`batch` as MessagePack. InvalidValue if a value has no form in it, like integers beyond 64 bits."""
    try:
        return _encode(batch)
    except (OverflowError, UnicodeError, TypeError) as error:
        raise InvalidValue(f"frames {batch.first} to {batch.last}", f"cannot be sent: {error}") from error


def decode_batch(data: bytes) -> Batch:
    """Decode and check a batch. InvalidValue names the invalid field (`blocks[0].steps[2]`)."""
    try:
        batch = _read(data)
        check_batch(batch)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue("batch", f"{len(data)} bytes that are not a batch: {error}", limit="MessagePack") from error
    return batch


def _read(data: bytes) -> Batch:
    read_batch, read_item = _decoders()

    def item(index: int, numbered: tuple[int, msgspec.Raw]) -> tuple[int, JournalItem]:
        number, raw = numbered
        where = f"items[{index}]"
        if (size := len(memoryview(raw))) > ITEM_BYTES:
            raise InvalidValue(where, f"{size} bytes", limit=f"{ITEM_BYTES} bytes")
        try:
            return number, read_item(raw)
        except msgspec.ValidationError as error:
            raise invalid(error, within=f"{where}[1]") from error

    unread = read_batch(data)
    return Batch(
        run_id=unread.run_id,
        writer=unread.writer,
        first=unread.first,
        last=unread.last,
        items=list(starmap(item, enumerate(unread.items))),
        blocks=unread.blocks,
        after=unread.after,
    )


def invalid(error: msgspec.ValidationError, whole: str = "batch", *, within: str = "") -> InvalidValue:
    """The InvalidValue that names the field of `error`, `whole` if it has none.

    `within` is the path of the decoded part in something larger.
    """
    text = str(error)
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    return InvalidValue(shortened(within + path or whole), shortened(text[: where.start()] if where else text))
