"""The plugin `environment`: records host, packages and code of a run, as tags and the artifacts `environment/…`."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.hooks import hookimpl
from tracker.settings import Settings
from tracker_system import host_info
from tracker_system.git import Code, GitFailed, state_of
from tracker_system.packages import installed_packages
from tracker_system.worker import worker_name

if TYPE_CHECKING:
    from tracker.client.run import Run


@hookimpl(trylast=True)
def run_started(run: Run) -> None:
    """Record the environment of a run: the process and machine first, then git's state and the packages.

    The tags are those in which MLflow's UI looks for user, source and commit; tags that the user set are kept. A
    process that continues the run and a worker other than the chief write artifacts of their own and set no tags: the
    tags describe the first process.
    """
    worker = worker_name()
    folder = "environment"
    if worker:
        folder += f"/{worker}"
    if run.resumed:
        folder += time.strftime("/resumed-%Y%m%dT%H%M%SZ", time.gmtime())
    is_first = not worker and not run.resumed
    kind, name = host_info.source()
    if is_first:
        who = {"mlflow.user": host_info.user(), "mlflow.source.name": name, "mlflow.source.type": kind}
        run.set_tags(who, overwrite=False)
    facts = host_info.process() | host_info.machine()
    try:
        code = _code(with_diff=Settings.from_environment().git_diff)
    except GitFailed as failure:
        code, facts["git_failed"] = None, str(failure)
    if code is not None:
        facts["git"] = _git_facts(code)
        if is_first:
            run.set_tags(_git_tags(code), overwrite=False)
        if code.diff:
            _log_bytes(run, code.diff, f"{folder}/diff.patch")
    run.log_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", f"{folder}/environment.json")
    run.log_text(installed_packages(), f"{folder}/requirements.txt")


def _code(*, with_diff: bool) -> Code | None:
    """The git state of the script's working tree, else of the working directory's."""
    script, here = host_info.code_folder(), Path.cwd()
    code = state_of(script, with_diff=with_diff)
    return state_of(here, with_diff=with_diff) if code is None and here != script else code


def _log_bytes(run: Run, content: bytes, path: str) -> None:
    """Log bytes, whatever their encoding, as an artifact."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        run.log_artifact(file.name, path)


def _git_facts(code: Code) -> dict[str, Any]:
    return {
        "root": code.root,
        "commit": code.commit,
        "branch": code.branch,
        "remote": code.remote,
        "dirty": code.dirty,
        "untracked": list(code.untracked),
        "diff_bytes": len(code.diff),
        "diff_is_whole": code.diff_is_whole,
    }


def _git_tags(code: Code) -> dict[str, str]:
    tags = {
        "mlflow.source.git.commit": code.commit,
        "mlflow.source.git.branch": code.branch,
        "mlflow.source.git.repoURL": code.remote,
        "tracker.git.dirty": str(code.dirty).lower(),
    }
    return {key: value for key, value in tags.items() if value}
