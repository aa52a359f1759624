"""MLflow's API and its UI in front of our own routes."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.mlflow_bridge.bridge import Bridge
from tracker.mlflow_bridge.locations import Locations
from tracker.server.mlflow import allowlist, experiments, flask_app, history, models, runs, ui
from tracker.server.mlflow.artifacts import Artifacts
from tracker.server.mlflow.lazy_app import LazyApp
from tracker.server.mlflow.routing import Table
from tracker.server.mlflow.server_info import ABOUT
from tracker.server.operations import Services


def mlflow_app(native: ASGIApp, *, services: Services, bridge: Bridge, locations: Locations, url: str) -> ASGIApp:
    """Answers MLflow's routes, and passes all other requests to `native`.

    Hot routes, artifacts and the UI's files are answered here. MLflow's own application over `bridge` answers MLflow's
    other routes. It is loaded in the background when it is first needed, with the model registry next to the store at
    `url`. Without MLflow these routes answer 501. Authorization is not checked here.
    """
    cold = LazyApp(
        lambda: flask_app.load(services.artifacts, bridge, locations, url),
        services.intake,
        services.reads.genuine,
        query_seconds=services.query_seconds,
    )
    pages = ui.Pages(cold.begin)
    routes = [*runs.ROUTES, *experiments.ROUTES, *history.ROUTES, *models.ROUTES]
    table = Table(routes, services, bridge)
    fixed = {**table.fixed, **ABOUT}
    artifacts = Artifacts(services, bridge, locations, cold)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await native(scope, receive, send)
            return
        path = scope["path"]
        endpoint = fixed.get((scope["method"], path))
        if endpoint is not None:
            await endpoint(scope, receive, send)
        elif path == "/" or path.startswith(ui.STATIC):
            await pages(scope, receive, send)
        elif not allowlist.is_ours(path):
            await native(scope, receive, send)
        elif endpoint := artifacts.endpoint(scope) or table.match(scope):
            await endpoint(scope, receive, send)
        elif allowlist.is_reached(scope["method"], path):
            await cold(scope, receive, send)
        else:
            await allowlist.refusal(scope["method"], path).send(send)

    return app
