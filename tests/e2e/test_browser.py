"""The genuine MLflow UI on a real server, in a real browser, over real trainings: pages say what the store says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from e2e.browser_lab import Visit, chromium, visit
from e2e.keras_lab import training
from e2e.server_lab import Server
from playwright.sync_api import Browser, Page, expect

import tracker
from tracker.domain.ports import RunStore
from tracker.domain.records import Run

NAMES = ("slow", "steady", "fast")
TRAINING = """
import numpy as np, keras, tracker
from tracker_keras import TrackerCallback

rng = np.random.default_rng(0)
x = rng.normal(size=(256, 8)).astype("float32")
y = (x.sum(axis=1) > 0).astype("float32")
for name, rate in [("slow", 0.001), ("steady", 0.01), ("fast", 0.1)]:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    with tracker.start_run("digits", name=name, tags={"team": "blue"}) as run:
        run.log_text("# Notes\\nof " + name, "notes/readme.md")
        stop = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
        model.fit(x, y, validation_split=0.25, epochs=8, callbacks=[TrackerCallback(run), stop])
"""


@dataclass(frozen=True)
class Site:
    """A server with three trainings, and its store as Python sees it."""

    url: str
    store: RunStore
    browser: Browser

    @property
    def experiment(self) -> int:
        return next(one.id for one in self.store.experiments() if one.name == "digits")

    def run(self, name: str) -> Run:
        (found,) = self.store.find_runs(name)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with Server(f"sqlite:///{folder / 'tracker.db'}", cwd=folder, TRACKER_HOME=str(folder / "home")) as server:
        training(["-c", TRAINING], folder, "tensorflow", timeout=200, TRACKER_STORE=server.url).check_returncode()
        with chromium() as browser, tracker.open_store(server.url) as store:
            yield Site(server.url, store, browser)


@pytest.fixture
def seen(site: Site) -> Iterator[Visit]:
    """A fresh page; what went wrong on it fails the test at its end."""
    with visit(site.browser, site.url) as page:
        yield page
        page.shot("last")
        page.check()


ROWS = """() => [...document.querySelectorAll('.ag-pinned-left-cols-container [row-id], .ag-center-cols-container [row-id]')]
    .map(row => [Number(row.getAttribute('row-index')), row.getAttribute('row-id')])
    .sort((a, b) => a[0] - b[0]).map(pair => pair[1]).filter((id, at, all) => all.indexOf(id) === at)"""


TICK = """title => {
    const leaf = document.querySelector(`[class*=tree-treenode] [title='${title}']`);
    if (leaf) leaf.parentElement.querySelector('[class*=tree-checkbox]').click();
    else document.querySelectorAll('[class*=tree-switcher_close]').forEach(closed => closed.click());
    return leaf !== null;
}"""
"""Ticks a column in the list of columns, whose groups may be closed."""


def shows(page: Page, runs: Sequence[Run], *, in_order: bool = False) -> None:
    """Wait until the table has just these runs."""
    ids = [run.id for run in runs]
    same = "JSON.stringify(seen) === JSON.stringify(wanted)"
    if not in_order:
        ids, same = sorted(ids), same.replace("(seen)", "(seen.sort())")
    page.wait_for_function(f"wanted => {{ const seen = ({ROWS})(); return {same}; }}", arg=ids)


def runs_page(seen: Visit, site: Site, query: str = "") -> Page:
    page = seen.go(f"/experiments/{site.experiment}/runs{query}")
    expect(page.get_by_text(re.compile(r"\d matching runs?"))).to_be_visible()
    return page


def test_experiments(seen: Visit, site: Site) -> None:
    """The list shows the experiments of the store."""
    page = seen.go("/experiments")
    for one in site.store.experiments():
        expect(page.get_by_role("link", name=one.name, exact=True).first).to_be_visible()
    seen.shot("experiments")


def test_run_table_columns(seen: Visit, site: Site) -> None:
    """The table shows a metric and a parameter of every run as the store has them."""
    page = runs_page(seen, site)
    page.get_by_test_id("column-selection-dropdown").first.click()
    for title in ("val_loss", "optimizer.learning_rate"):
        page.wait_for_function(TICK, arg=title)
    page.keyboard.press("Escape")
    for name in NAMES:
        run = site.run(name)
        cells = page.locator(f".ag-center-cols-container [row-id='{run.id}']")
        last = site.store.metrics(run.id)["val_loss"].last
        assert last is not None
        expect(cells).to_contain_text(repr(last.value))
        expect(cells).to_contain_text(str(site.store.params(run.id)["optimizer.learning_rate"]))
    shows(page, [site.run(name) for name in NAMES])
    seen.shot("runs")


def test_run_table_filter(seen: Visit, site: Site) -> None:
    """A filter typed into the page shows the runs that the same filter finds in the store."""
    page = runs_page(seen, site)
    last = site.store.metrics(site.run("steady").id)["val_loss"].last
    assert last is not None
    text = f"metrics.val_loss <= {last.value!r}"
    wanted = site.store.search_runs(text, experiments=["digits"]).runs
    assert 0 < len(wanted) < 3
    page.get_by_test_id("search-box").fill(text)
    page.keyboard.press("Enter")
    shows(page, wanted)


@pytest.mark.parametrize(("key", "order"), [("val_loss", "metrics.val_loss"), ("tracker.best_value", "best_value")])
def test_run_table_sort(seen: Visit, site: Site, key: str, order: str) -> None:
    """Sorted by a metric, or by the best epoch's value, the rows stand as the store orders them."""
    page = runs_page(seen, site)
    page.get_by_test_id("sort-select-dropdown").click()
    page.get_by_test_id(f"sort-select-{key}").click()
    page.wait_for_url(re.compile("orderByKey=metrics"))
    direction = "ASC" if "orderByAsc=true" in page.url else "DESC"
    wanted = site.store.search_runs(experiments=["digits"], order_by=[f"{order} {direction}"]).runs
    shows(page, wanted, in_order=True)


def test_run_overview(seen: Visit, site: Site) -> None:
    """A run's page shows its parameters, metrics, status and tags, and the note tells what happened."""
    run = site.run("steady")
    page = seen.go(f"/experiments/{site.experiment}/runs/{run.id}")
    expect(page.get_by_text("About this run")).to_be_visible()
    body = page.locator("body")
    expect(body).to_contain_text(run.id)
    expect(body).to_contain_text("Finished")
    for key, value in site.store.params(run.id).items():
        if isinstance(value, str) and len(value) < 30:
            expect(body).to_contain_text(key)
    for key in site.store.metrics(run.id):
        expect(body).to_contain_text(key)
    expect(body).to_contain_text("tracker.best_epoch")
    expect(body).to_contain_text("team")
    expect(body).to_contain_text(re.compile("best epoch", re.I))
    seen.shot("run")


def test_charts_of_several_runs(seen: Visit, site: Site) -> None:
    """The charts' view draws every run's curve of a metric."""
    page = runs_page(seen, site, "?compareRunsMode=CHART")
    for name in NAMES:
        expect(page.get_by_text(f"{name} (loss)").first).to_be_visible()
    expect(page.locator(".scatterlayer .trace").nth(len(NAMES) - 1)).to_be_visible()
    seen.shot("charts")


def test_run_charts(seen: Visit, site: Site) -> None:
    """A run's metric page draws a curve for each of its metrics."""
    run = site.run("fast")
    page = seen.go(f"/experiments/{site.experiment}/runs/{run.id}/model-metrics")
    for key in ("accuracy", "loss"):
        expect(page.get_by_text(f"fast ({key})").first).to_be_visible()
    expect(page.locator(".scatterlayer .trace").first).to_be_visible()
    seen.shot("curves")


def test_compare(seen: Visit, site: Site) -> None:
    """Two runs side by side: names and last values are the store's."""
    runs = [site.run(name) for name in NAMES[:2]]
    ids = ",".join(f'"{run.id}"' for run in runs)
    page = seen.go(f'/compare-runs?runs=[{ids}]&experiments=["{site.experiment}"]')
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
    for run in runs:
        expect(page.locator("body")).to_contain_text(run.id)
    seen.shot("compare")


def test_artifacts(seen: Visit, site: Site) -> None:
    """The files of a run are listed, and a text shows what is in it."""
    run = site.run("steady")
    page = seen.go(f"/experiments/{site.experiment}/runs/{run.id}/artifacts")
    page.get_by_text("notes", exact=True).first.click()
    page.get_by_text("readme.md").first.click()
    expect(page.get_by_text("of steady").first).to_be_visible()
    seen.shot("artifacts")


def test_tag_edit(seen: Visit, site: Site) -> None:
    """A tag that is added on the page is in the store."""
    run = site.run("slow")
    page = seen.go(f"/experiments/{site.experiment}/runs/{run.id}")
    page.get_by_role("button", name="Edit tags").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("reviewed")
    page.keyboard.press("Enter")
    dialog.get_by_label("Value").fill("yes")
    dialog.get_by_label("Add tag").click()
    dialog.get_by_role("button", name="Save tags").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("reviewed").first).to_be_visible()
    assert site.store.tags(run.id)["reviewed"] == "yes"


def test_delete_and_restore(seen: Visit, site: Site) -> None:
    """A run deleted on the page is gone from the store's lists, and back there when the page restores it."""
    gone, left = site.run("fast"), [site.run("slow"), site.run("steady")]
    page = runs_page(seen, site)
    page.locator(f".ag-pinned-left-cols-container [row-id='{gone.id}'] input[type=checkbox]").first.check()
    page.get_by_test_id("runs-delete-button").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    shows(page, left)
    assert {run.id for run in site.store.search_runs().runs} == {run.id for run in left}
    page.get_by_test_id("lifecycle-filter").click()
    page.get_by_test_id("deleted-runs-menu-item").click()
    shows(page, [gone])
    page.locator(f".ag-pinned-left-cols-container [row-id='{gone.id}'] input[type=checkbox]").first.check()
    page.get_by_test_id("runs-restore-button").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    shows(page, [])
    assert len(site.store.search_runs().runs) == 3
