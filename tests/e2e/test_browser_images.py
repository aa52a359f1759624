"""Images of a run in the genuine MLflow UI: a grid of them, and a slider of their steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2e.browser_lab import chromium, visit
from e2e.server_lab import Server
from playwright.sync_api import expect

import tracker


def test_the_grid_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `log_image` keeps is shown by key and step, tiny images as well as large ones, and its bytes are right."""
    monkeypatch.setenv("TRACKER_HOME", str(tmp_path / "home"))
    with Server(f"sqlite:///{tmp_path / 'tracker.db'}", cwd=tmp_path, TRACKER_HOME=str(tmp_path / "home")) as server:
        with tracker.start_run("pictures", name="drawn", store=server.url) as run:
            across = np.linspace(0, 1, 400)
            for step in range(3):
                run.log_image(np.full((300, 400, 3), across[None, :, None] ** (step + 1)), "large/ramp", step=step)
                run.log_image(np.eye(4, 7, k=step, dtype="uint8") * 255, "dense/kernel", step=step)
        assert run.problems == {}
        with tracker.open_store(server.url) as store:
            (experiment,) = [one.id for one in store.experiments() if one.name == "pictures"]
        with chromium() as browser, visit(browser, server.url) as seen:
            page = seen.go(f"/experiments/{experiment}/runs/{run.id}/model-metrics")
            expect(page.get_by_text("dense/kernel").first).to_be_visible()
            pictures = page.locator("img[src*='compressed']")
            expect(pictures).to_have_count(2)
            sizes = [pictures.nth(at).evaluate("image => [image.naturalWidth, image.naturalHeight]") for at in range(2)]
            assert sorted(sizes) == [[256, 146], [256, 192]]
            seen.shot("images")
            seen.check()
