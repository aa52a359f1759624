"""`tracker ui`: starts a server on the embedded store, and opens it in the browser."""

from __future__ import annotations

import logging
import threading

import click
from click.core import ParameterSource

from tracker import compose
from tracker.cli.output import say
from tracker.cli.server_start import ServerOptions, serve
from tracker.cli.stores import full_url, store_option
from tracker.settings import Settings


@click.command()
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; without it, a free one if 5000 is taken.",
)
@store_option
@click.option(
    "--artifacts",
    metavar="URI",
    help="Folder or URI of the files (default: TRACKER_ARTIFACTS, else next to the store).",
)
@click.option("--browser/--no-browser", default=True, help="Open the browser.")
@click.pass_context
def ui(context: click.Context, port: int, store: str | None, artifacts: str | None, browser: bool) -> None:
    """Show the store in the browser: start a server on this machine with MLflow's pages. Ctrl-C stops it.

    If the store is a tracking server, its own pages are opened.
    """
    url = full_url(store)
    show = _open if browser else _say
    if compose.is_server(url):
        show(compose.identity(url))
        return
    talk: logging.Handler = context.obj
    named = context.get_parameter_source("port") is not ParameterSource.DEFAULT
    root = compose.artifact_root(artifacts or Settings.from_environment().artifacts, url)
    wanted = ServerOptions(port=port, any_port=not named, url=url, root=root, log_level="warning")
    serve(wanted, talk, started=show)


def _say(address: str) -> None:
    say(f"open {address} in a browser; Ctrl-C ends it")


def _open(address: str) -> None:
    """Open the browser without waiting for it: some return only when they are closed."""
    threading.Thread(target=_browse, args=[address], name="tracker-browser", daemon=True).start()
    say(f"opening {address} in the browser; Ctrl-C ends it")


def _browse(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        say(f"no browser was found; open {address} in one")
