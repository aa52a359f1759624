"""All errors of Tracker. Each message says what was wrong, with which value, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_WINDOW = 60
"""How many characters of a long filter are shown on each side of the error."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the name among `known` that is nearest to what was given; "" if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


class TrackerError(Exception):
    """Base class of every error that Tracker raises on purpose."""


class InvalidValue(TrackerError, ValueError):
    """A value that a caller gave is outside its limits.

    `field` names what was given, `limit` the rule it breaks; both are also in the message.
    """

    def __init__(self, field: str, problem: str, *, limit: str = "") -> None:
        super().__init__(f"{field}: {problem}" + (f" (limit: {limit})" if limit else ""))
        self.field = field
        self.limit = limit


class InvalidFilter(InvalidValue):
    """A filter or order-by string does not parse; `position` is the 0-based offset of the first bad character."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        start = max(position - _WINDOW, 0)
        part = text[start : position + _WINDOW]
        before, after = "…" * (start > 0), "…" * (position + _WINDOW < len(text))
        where = " " * (len(before) + position - start)
        super().__init__("filter", f"{problem} at position {position}\n  {before}{part}{after}\n  {where}^")
        self.text = text
        self.position = position


class InvalidPageToken(InvalidValue):
    """A page token was not made by this store for this query."""

    def __init__(self) -> None:
        super().__init__("page_token", "not a token of this search; pass the one that the previous page returned")


class InvalidStoreUrl(InvalidValue):
    """A store URL of an unknown kind, or with an invalid part; the message shows no password."""

    def __init__(self, url: str, problem: str) -> None:
        from tracker.domain.store_url import shown

        super().__init__(
            "store",
            f"{shown(url)!r}: {problem}",
            limit="sqlite:///path or postgresql://user@host/database or http://host:port",
        )


class NotFound(TrackerError, LookupError):
    """Base class: what was asked for is not in the store."""


class RunNotFound(NotFound):
    """No run has this id. `hint` is added to the message: what else exists."""

    def __init__(self, run_id: str, hint: str = "") -> None:
        super().__init__(f"run {run_id!r} not found" + (f"; {hint}" if hint else ""))
        self.hint = hint
        self.run_id = run_id


class ExperimentNotFound(NotFound):
    """No experiment has this name; `names` are the existing ones."""

    def __init__(self, name: str, names: Sequence[str] = ()) -> None:
        super().__init__(f"experiment {name!r} not found{did_you_mean(name, names)}")


class SeriesNotFound(NotFound):
    """The run has no metric with this key; `keys` are those that it has."""

    def __init__(self, run_id: str, key: str, keys: Sequence[str] = ()) -> None:
        near = did_you_mean(key, keys) or f"; `tracker show {run_id}` lists what it has"
        super().__init__(f"run {run_id!r} has no metric {key!r}{near}")


class CheckpointNotFound(NotFound):
    """The run has no such checkpoint, or its bytes are gone; `which` and `there` (what exists) in words."""

    def __init__(self, run_id: str, which: str, there: str = "") -> None:
        there = there or f"`tracker checkpoints {run_id}` lists them"
        super().__init__(f"run {run_id!r} has no checkpoint {which}: {there}")


class FileRemoved(TrackerError):
    """The file that a checkpoint's row names was removed: publish it again, under another name."""

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri} was removed by retention before this checkpoint came; publish it under another name")


class StoreRestored(TrackerError):
    """The store has fewer frames of a journal than it acknowledged, as a restored backup has. Send them all again."""

    def __init__(self, run_id: str, last: int, after: int) -> None:
        super().__init__(f"of run {run_id!r} the store has frames up to {last} only, and had acknowledged {after}")


class ModelNotFound(NotFound):
    """No logged model has this id."""

    def __init__(self, model_id: str) -> None:
        super().__init__(f"logged model {model_id!r} not found")
        self.model_id = model_id


class KeyNotFound(NotFound):
    """The tag to remove from a run, an experiment or a model does not exist."""

    def __init__(self, owner: str, key: str) -> None:
        super().__init__(f"{owner} has no tag {key!r}")
        self.key = key


class ExperimentExists(TrackerError):
    """An experiment of this name exists already, perhaps deleted."""

    def __init__(self, name: str, *, deleted: bool) -> None:
        hint = "; it is deleted: restore it, or take another name" if deleted else ""
        super().__init__(f"experiment {name!r} exists already{hint}")
        self.name = name
        self.deleted = deleted


class ExperimentDeleted(TrackerError):
    """The experiment is deleted, and what was asked needs one that is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"experiment {name!r} is deleted; restore it first")


class RunDeleted(TrackerError):
    """The run is deleted, and what was asked needs one that is not."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} is deleted; restore it first: tracker undelete {run_id}")
        self.run_id = run_id


class ParamConflict(InvalidValue):
    """A parameter has another value already, and the caller's kind of write never changes one."""

    def __init__(self, run_id: str, key: str, old: str, new: str) -> None:
        super().__init__(f"params.{key}", f"run {run_id!r} has it as {old!r}, not {new!r}", limit="one value a run")
        self.run_id = run_id
        self.key = key
        self.old = old
        self.new = new


class RunExists(TrackerError):
    """A run with this id exists already and `resume="never"` was given."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} exists already; pass resume='allow' or resume='must' to continue it")


class StoreError(TrackerError):
    """Base class of problems with the store itself, not with what was asked."""


class NoStore(StoreError):
    """There is no store at the address."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"there is no store at {url} yet\n"
            "The first run makes one (tracker.start_run, or TrackerCallback in fit), or: tracker db upgrade.\n"
            "--store URL or TRACKER_STORE names another."
        )


class StoreUnavailable(StoreError):
    """The store does not answer now (away, locked, disk full); the same call may succeed later."""


class QueryTimeout(StoreUnavailable):
    """A read took longer than the server allows: ask for less."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the query took longer than {seconds:g} s, the limit of this server (--query-seconds); ask for less: "
            "a narrower filter, fewer runs at once (a smaller limit or max_results), a history between two steps "
            "or thinned by max_points"
        )


class RequestTooLarge(StoreUnavailable):
    """Something in front of the tracking server, such as a proxy, refuses a body of this size: send less at once."""

    def __init__(self, server: str, size: int, said: str = "") -> None:
        super().__init__(
            f"{server} answered 413 to a request of {size} bytes{f' ({said})' if said else ''}, and not as a Tracker "
            "server does: a proxy before it takes no larger ones. Raise its limit on request bodies (nginx: "
            "client_max_body_size 64m, for files as large as the largest checkpoint)"
        )


class AccessRefused(StoreError):
    """A tracking server answers, but refuses the client's token, or requires one."""


class InvalidRecord(StoreError):
    """The store has a row that no version of Tracker writes; `field` names its table and column."""

    def __init__(self, field: str, value: str, problem: str) -> None:
        super().__init__(
            f"{field}: the store has {value or 'a row'} here, which Tracker never writes ({problem}); another program "
            "changed the database: restore a backup of it, or remove the run or experiment that this belongs to"
        )
        self.field = field


class SchemaOutdated(StoreError):
    """The database was made by an older Tracker."""

    def __init__(self, url: str, found: str, head: str) -> None:
        super().__init__(
            f"{url} is at schema revision {found}, this Tracker needs {head}; "
            f"make a backup, then run: tracker db upgrade --store {url}"
        )


class SchemaTooNew(StoreError):
    """The database was made by a newer Tracker."""

    def __init__(self, url: str, found: str, head: str) -> None:
        super().__init__(
            f"{url} is at schema revision {found}, newer than {head}, the newest this Tracker knows; "
            "upgrade callback-tracker on this machine"
        )


class JournalError(TrackerError):
    """A journal file cannot be written, or the file is not a journal."""


class ArtifactError(TrackerError):
    """An artifact cannot be stored or read, or its bytes are not those that were recorded."""
