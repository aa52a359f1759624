"""No way to write a password into a store's address shows it, and what was written is what is used."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tracker
from tracker import compose
from tracker.domain.errors import TrackerError
from tracker.domain.store_url import connection_options, parse, shown
from tracker_system.masking import masked, without_credentials

MARKS = ("hunter2", "Mid5mark", "Zebra9end")
"""Parts of every password below, at its begin, inside, and at its end."""
ANY = st.text(max_size=6) | st.text(alphabet="@:/?#&=%[]\\ '\"\n+;,", max_size=6)
TEMPLATES = [
    "postgresql://u:{}@h:5432/db", "postgresql+psycopg://u:{}@h/db?sslmode=allow", "http://u:{}@h:5000", "https://{}@h/x",
    "postgresql://u:{}@h:port/db", "postgresql://u:{}@[h/db", "postgresql://u:{}@h1:1,h2:2/db", "postgresql://u:{}@h/db?sslmod=on",
    "postgresql://u:{}@h/db?sslmode", "http://u:{}@h:99999", "http://u:{}@h?x=1", "http://u:{}@h#x", "http://u:{}@", "http://u:{}@a b",
    "postgres://u:{}@h/db", "mysql://u:{}@h/db", "sqlite://u:{}@h/x.db", "tracker+postgresql://u:{}@h/db", "tracker://u:{}@h",
    "postgresql:/u:{}@h/db", "postgresql:u:{}@h/db", "http:u:{}@h", "u:{}@h/db", "u:{}", "postgresql://u:{}", "http://u:{}",
]  # fmt: skip
OPTIONS = [
    "postgresql://h/db?password={}", "postgresql://h/db?sslpassword={}&sslmode=on", "postgresql://h/db?passfile={}",
    "postgresql://h/db?pasword={}", "postgresql://u@h/db?sslkey={}&nothing=1", "postgres://h/db?password={}", "sqlite:///x.db?password={}",
]  # fmt: skip
passwords = st.tuples(ANY, ANY).map(lambda two: f"{MARKS[0]}{two[0]}{MARKS[1]}{two[1]}{MARKS[2]}")
written = st.sampled_from([lambda text: text, lambda text: quote(text, safe=""), lambda text: quote(text, safe="/@:?")])


def said_of(url: str) -> str:
    """All that is shown of an address, and of the error if it is refused: its traceback too."""
    found = [compose.identity(url), shown(url)]
    try:
        full = compose.store_url(url, "trk_token")
        found += [compose.identity(full), repr(parse(full)), compose.artifact_root(None, full)]
    except TrackerError as error:
        found += [str(error), repr(error), "".join(traceback.format_exception(error))]
    return "\n".join(found)


@settings(deadline=None, max_examples=150)
@given(template=st.sampled_from([*TEMPLATES, *OPTIONS]), password=passwords, write=written)
@example(template=TEMPLATES[0], password="hunter2/Mid5mark@Zebra9end", write=str)
@example(template=OPTIONS[0], password="hunter2&Mid5mark=Zebra9end", write=str)
def test_nothing_of_a_password_is_shown(template: str, password: str, write: object) -> None:
    """Whether the address is taken or refused, well written or not."""
    said = said_of(template.format(write(password)))  # type: ignore[operator]
    assert not [mark for mark in MARKS if mark in said], said


@settings(deadline=None, max_examples=150)
@given(password=passwords, write=written, flag=st.sampled_from(["--store", "--url", "", "--db="]))
@example(password="hunter2/Mid5mark Zebra9end", write=str, flag="--store")
def test_nothing_of_a_password_is_in_a_command_line_that_is_kept(password: str, write: object, flag: str) -> None:
    """The command line is on record with the run, the address of a database in it masked; so is git's remote."""
    for template in ("postgresql://u:{}@h:5432/db", "https://u:{}@h/repository", "postgresql://u:{}@h/db?sslmode=on"):
        url = template.format(write(password))  # type: ignore[operator]
        line = [f"{flag}{url}"] if not flag or flag.endswith("=") else [flag, url]
        said = " ".join(masked(["train.py", *line])) + without_credentials(url)
        assert not [mark for mark in MARKS if mark in said], said


@settings(deadline=None)
@given(password=passwords.filter(lambda text: "\0" not in text))
def test_an_encoded_password_is_used_as_it_is(password: str) -> None:
    """Percent-encoded, any password arrives, through the form that is handed on too; also as an option of libpq."""
    text = quote(password, safe="")
    for url in (f"postgresql://u:{text}@h/db", f"postgresql://u@h/db?password={text}"):
        full = compose.store_url(url)
        assert connection_options(parse(full))["password"] == password
        assert compose.store_url(full) == full
    server = parse(compose.store_url(f"http://u:{text}@h:5000", "trk_token"))
    assert (server.user, server.password) == ("u", password)


@settings(deadline=None)
@given(password=st.text(alphabet=st.characters(blacklist_characters="/?%\0", blacklist_categories=["Cs"]), min_size=1))
def test_a_password_as_it_is_typed_is_used(password: str) -> None:
    """Without `/`, `?` and `%` no encoding is needed, an @ in it included."""
    assert connection_options(parse(compose.store_url(f"postgresql://u:{password}@h/db")))["password"] == password


@settings(deadline=None)
@given(st.text() | st.text(alphabet="abhpstql:/@?#%[]=&.1,"))
def test_any_text_can_be_shown(text: str) -> None:
    """What is shown of anything can be shown again, and is the same."""
    assert shown(shown(text)) == shown(text)


@pytest.mark.parametrize("url", [
    "postgresql://u:hunter2@127.0.0.1:1/db", "postgresql://u@127.0.0.1:1/db?password=hunter2&passfile=hunter2", "http://u:hunter2@127.0.0.1:1",
    "postgresql://u:hunter2@127.0.0.1:1/db?sslkey=hunter2&sslpassword=hunter2",
])  # fmt: skip
def test_a_store_that_does_not_answer(url: str) -> None:
    """The error, its causes and the store's own words have the place, and no password."""
    with pytest.raises(TrackerError) as caught:
        tracker.open_store(url)
    said = "".join(traceback.format_exception(caught.value))
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in said.replace(url, "")


def test_artifacts_that_are_refused(tmp_path: Path) -> None:
    """The place of files may have credentials as well."""
    for root in ("s3://key:hunter2@bucket/x", "s3+x://bucket/x?secret=hunter2"):
        with pytest.raises(TrackerError) as caught:
            compose.artifact_root(root, compose.store_url("http://h"))
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("url", "said"), [
    ("foo.db", "did you mean 'sqlite:///foo.db'"), ("runs/foo.sqlite3", "did you mean 'sqlite:///runs/foo.sqlite3'"),
    ("sqlite:foo.db", "did you mean 'sqlite:///foo.db'"), ("sqlite://foo.db", "did you mean 'sqlite:///foo.db'"), ("sqlite:/x/foo.db", "did you mean 'sqlite:////x/foo.db'"),
    ("/x/foo.db", "did you mean 'sqlite:////x/foo.db'"), ("localhost:5000", "did you mean 'http://…'"), ("Postgres://h/db", "did you mean 'postgresql'"),
])  # fmt: skip
def test_addresses_that_are_nearly_right(url: str, said: str) -> None:
    """What was meant is named."""
    with pytest.raises(TrackerError, match=said):
        compose.store_url(url)
