"""Places of files in MLflow's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker.domain.catalogue import ExperimentDetail
from tracker.mlflow_bridge.bridge_entities import BridgeError
from tracker.mlflow_bridge.locations import Locations, MlflowServerLocations

ROOT = "file:///srv/artifacts"
HERE = ExperimentDetail(id=3, name="e", created_ms=0, updated_ms=0)
THERE = ExperimentDetail(id=4, name="f", created_ms=0, updated_ms=0, artifact_location="s3://bucket/f")


def test_a_server_shows_its_own_home_as_its_own() -> None:
    """Files in the home are behind the server; a run that keeps its files elsewhere keeps that place."""
    places = Locations(ROOT, proxied=True)
    assert places.of_run(HERE, "r") == f"{ROOT}/r"
    assert places.of_model(HERE, "m-1") == f"{ROOT}/m-1"
    assert places.run_shown(f"{ROOT}/r", 3, "r") == "mlflow-artifacts:/3/r/artifacts"
    assert places.model_shown(f"{ROOT}/m-1", 3, "m-1") == "mlflow-artifacts:/3/models/m-1/artifacts"
    assert places.experiment_shown(HERE) == "mlflow-artifacts:/3"
    assert places.run_shown("file:///home/me/artifacts/r", 3, "r") == "file:///home/me/artifacts/r"


def test_without_a_server_places_are_what_they_are() -> None:
    """A client that opens the store itself goes to the files itself."""
    places = Locations(ROOT, proxied=False, allowed=None)
    assert places.run_shown(f"{ROOT}/r", 3, "r") == f"{ROOT}/r"
    assert places.experiment_shown(HERE) == ROOT


def test_an_experiments_own_place_has_mlflows_layout() -> None:
    """Where an experiment names a place, its runs and models lie below it as MLflow lays them out."""
    places = Locations(ROOT, proxied=True)
    assert places.of_run(THERE, "r") == "s3://bucket/f/r/artifacts"
    assert places.of_model(THERE, "m-1") == "s3://bucket/f/models/m-1/artifacts"
    assert places.experiment_shown(THERE) == "s3://bucket/f"


def test_a_server_of_mlflows_own_serves_what_lies_below_its_destination() -> None:
    """New files go below the destination and are shown through the server; those of our runs keep their places."""
    places = MlflowServerLocations(ROOT, "/data/ml", proxied=True)
    assert places.of_run(HERE, "r") == "file:///data/ml/3/r/artifacts"
    assert places.run_shown(places.of_run(HERE, "r"), 3, "r") == "mlflow-artifacts:/3/r/artifacts"
    assert places.model_shown(places.of_model(HERE, "m"), 3, "m") == "mlflow-artifacts:/3/models/m/artifacts"
    assert places.run_shown(f"{ROOT}/r", 3, "r") == f"{ROOT}/r"
    open_place = MlflowServerLocations(ROOT, "s3://bucket/ml", proxied=False)
    assert open_place.run_shown(open_place.of_run(HERE, "r"), 3, "r") == "s3://bucket/ml/3/r/artifacts"


@pytest.mark.parametrize(
    ("path", "owner", "rest"),
    [
        ("3/r/artifacts/a/b.txt", "r", "a/b.txt"),
        ("3/r/artifacts", "r", ""),
        ("/3/r/artifacts/", "r", ""),
        ("3/models/m-1/artifacts/MLmodel", "m-1", "MLmodel"),
        ("3/r/artifacts/100%.txt", "r", "100%.txt"),
    ],
)
def test_a_path_behind_the_server_has_an_owner(path: str, owner: str, rest: str) -> None:
    """A run's or a model's id and the path below its files come out of a path as it is shown."""
    assert Locations(ROOT, proxied=True).owner_of(path) == (owner, rest)


@pytest.mark.parametrize(
    "path",
    [
        "", "3", "3/r", "x/r/artifacts/a", "3/../artifacts/a", "3/r/other/a", "3/traces/t/artifacts/x", "3/r/artifacts/../x",
        "3/r/artifacts/a//b", "3/r/artifacts/a\\b", "3/r/artifacts/C:/x", "3/r/artifacts/a\x00b", "3/.hidden/artifacts/a",
        "3/models/models/m/artifacts/a", f"3/r/artifacts/{'a' * 300}",
    ],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    """Nothing but a run's or a model's own files can be named."""
    with pytest.raises(BridgeError) as refused:
        Locations(ROOT, proxied=True).owner_of(path)
    assert refused.value.code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        (None, None),
        ("", None),
        ("mlflow-artifacts:/", None),
        ("mlflow-artifacts:/team", None),
        (ROOT, None),
        (f"{ROOT}/team", f"{ROOT}/team"),
        ("/srv/artifacts/team", f"{ROOT}/team"),
        ("s3://bucket/ml/x/", "s3://bucket/ml/x"),
    ],
)
def test_an_allowed_place_is_kept(location: str | None, kept: str | None) -> None:
    """Places in the home and below what is allowed are kept as URIs; the home itself needs no saying."""
    assert Locations(ROOT, proxied=True, allowed=["s3://bucket/ml"]).check(location) == kept


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc", "/etc", "etc", "s3://other/x", "s3://bucket/ml2/x", "s3://bucket/ml/../other", "http://169.254.169.254/x",
        f"{ROOT}/../x", f"{ROOT}2", "mlflow-artifacts://other.host/x", "mlflow-artifacts:/../x", "mlflow-artifacts:/%2e%2e/x",
        "http:///#/../../etc", "s3://bucket/ml/%2e%2e/x", "s3://bucket/ml?x", "file://host/srv/artifacts/x", "ftp://h/x",
        "dbfs:/a;/../../etc", "http://[", f"{ROOT}/{'a' * 3000}", f"{ROOT}/a\x00",
    ],
)  # fmt: skip
def test_a_place_that_is_not_allowed_is_refused(location: str) -> None:
    """A client cannot have the server write to, or read from, a place of its own choosing."""
    with pytest.raises(BridgeError) as refused:
        Locations(ROOT, proxied=True, allowed=["s3://bucket/ml"]).check(location)
    assert refused.value.code == "INVALID_PARAMETER_VALUE"


def test_a_client_of_its_own_store_may_go_anywhere(tmp_path: Path) -> None:
    """Without a server there is nobody to protect: a relative folder is one below the working directory."""
    places = Locations(ROOT, proxied=False, allowed=None)
    assert places.check("artifacts") == (tmp_path / "artifacts").as_uri()
    assert places.check("s3://anywhere/x") == "s3://anywhere/x"


@pytest.mark.parametrize(
    ("uri", "at_home", "with_mlflow"),
    [
        ("mlflow-artifacts:/3/r/artifacts", ("r", ""), ("r", "")),
        ("mlflow-artifacts:///3/models/m-1/artifacts/a%20b/c", ("m-1", "/a%20b/c"), ("m-1", "/a%20b/c")),
        (f"{ROOT}/r/a/b", ("r", "/a/b"), ("r", "/a/b")),
        ("file:///data/ml/3/models/m-1/artifacts/a", None, ("m-1", "/a")),
        ("file:///data/ml/3/other", None, None), (f"{ROOT}2/r", None, None), (ROOT, None, None), ("", None, None),
        ("s3://bucket/r/a", None, None), ("mlflow-artifacts://host/3/r/artifacts", None, None),
        ("mlflow-artifacts:/3/r/artifacts/%2e%2e/x", None, None), (f"{ROOT}/r/../x", None, None),
    ],
)  # fmt: skip
def test_the_owner_is_found_in_either_spelling(
    uri: str, at_home: tuple[str, str] | None, with_mlflow: tuple[str, str] | None
) -> None:
    """A URI as it is stored and one as a server tells it name the same owner; what is elsewhere has none."""
    assert Locations(ROOT, proxied=False).owner_in(uri) == at_home
    assert MlflowServerLocations(ROOT, "/data/ml", proxied=True).owner_in(uri) == with_mlflow
