"""`tracker server`: the tracking server, until it is told to end."""

from __future__ import annotations

import click

from tracker import compose
from tracker.cli.output import say
from tracker.cli.stores import full_url, store_option
from tracker.domain.errors import InvalidStoreUrl, StoreError
from tracker.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes any."
)
@store_option
@click.option("--artifacts", metavar="URI", help="Where files go (default: TRACKER_ARTIFACTS, else beside the store).")
@click.option("--allow-host", metavar="NAME", multiple=True, help="A name under which it may be asked; repeatable.")
@click.option("--insecure", is_flag=True, help="Listen where other machines reach it, with no access check at all.")
def server(
    host: str, port: int, store: str | None, artifacts: str | None, allow_host: tuple[str, ...], insecure: bool
) -> None:
    """Serve the store to many trainers and readers.

    Trainers write to it with TRACKER_STORE=http://127.0.0.1:5000. SIGTERM and Ctrl-C end it once everything that
    was accepted is committed.
    """
    url = full_url(store)
    if not url.startswith(("sqlite:", "postgresql:")):
        raise InvalidStoreUrl(compose.identity(url), "a server keeps its runs in a database")
    root = compose.artifact_root(artifacts or Settings.from_environment().artifacts, url)
    try:
        from tracker.server.access import LOOPBACK, Hosts
        from tracker.server.app import create_app
        from tracker.server.serve import address_of, listen, serve
        from tracker.server.writer import Writer
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the server needs {error.name}, which is not installed: pip install 'callback-tracker[server]'"
        ) from error
    with listen(host, port, insecure=insecure) as opened, compose.open_sql_store(url) as opened_store:
        hosts = Hosts(names=LOOPBACK | {name.lower() for name in allow_host}, addresses=insecure)
        with Writer(opened_store.append_many) as writer:
            app = create_app(
                opened_store,
                writer,
                compose.open_artifacts(root),
                hosts=hosts,
                started=lambda: say(f"serving {opened_store.url} at {address_of(opened)}"),
            )
            serve(app, opened)
    say("ended; everything that was accepted is committed")
