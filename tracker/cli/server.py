"""`tracker server`: runs the tracking server until a signal ends it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from tracker import compose
from tracker.cli.server_start import QUERY_SECONDS, ServerOptions, serve
from tracker.cli.stores import full_url, store_option
from tracker.domain.errors import InvalidStoreUrl
from tracker.settings import Settings

if TYPE_CHECKING:
    from tracker.server.logs import Format


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on; 0 takes any."
)
@store_option
@click.option(
    "--artifacts", metavar="URI", help="Folder or URI for files (default: TRACKER_ARTIFACTS, else next to the store)."
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of server processes.")
@click.option("--allow-host", metavar="NAME", multiple=True, help="Accept this host name in requests; repeatable.")
@click.option(
    "--allow-artifacts",
    metavar="PREFIX",
    multiple=True,
    help="Let MLflow clients keep artifacts below this URI too; repeatable.",
)
@click.option(
    "--max-artifact-bytes", metavar="N", type=click.IntRange(min=1), help="Largest file that is accepted, in bytes."
)
@click.option(
    "--query-seconds",
    metavar="N",
    default=QUERY_SECONDS,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    help="Longest time that a request may read from the store; 0 for no limit.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Level of the log on stderr; requests are logged at level info.",
)
@click.option("--log-format", default="text", show_default=True, type=click.Choice(["text", "json"]))
@click.option(
    "--insecure", is_flag=True, help="Listen on addresses that other machines reach although there is no access token."
)
@click.pass_obj
def server(
    talk: logging.Handler,
    host: str,
    port: int,
    store: str | None,
    artifacts: str | None,
    workers: int,
    allow_host: tuple[str, ...],
    allow_artifacts: tuple[str, ...],
    max_artifact_bytes: int | None,
    query_seconds: float,
    log_level: str,
    log_format: Format,
    insecure: bool,
) -> None:
    """Serve the store over HTTP, with MLflow's pages and API.

    Trainings send to it with TRACKER_STORE=http://127.0.0.1:5000, MLflow clients with that as tracking URI. On
    127.0.0.1 no login is needed until `tracker token create` makes the first access token. Other addresses need a
    token from the start. SIGTERM and Ctrl-C stop the server once all accepted data is committed.
    """
    url = full_url(store)
    if not url.startswith(("sqlite:", "postgresql:")):
        raise InvalidStoreUrl(compose.identity(url), "a server keeps its runs in a database")
    wanted = ServerOptions(
        host=host,
        port=port,
        url=url,
        root=compose.artifact_root(artifacts or Settings.from_environment().artifacts, url),
        workers=workers,
        allow_host=allow_host,
        allow_artifacts=allow_artifacts,
        max_artifact_bytes=max_artifact_bytes,
        query_seconds=query_seconds,
        log_level=log_level,
        log_format=log_format,
        insecure=insecure,
    )
    serve(wanted, talk)
