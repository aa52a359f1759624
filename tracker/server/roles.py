"""The role that a request needs: one table of methods and paths. Everything else needs an admin.

`*` is one segment of a path, `/**` is any rest, also none. `M` is MLflow's API under any of its prefixes, braces have
alternatives. HEAD counts as GET. A test finds every rule of MLflow's own application here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tracker.domain.access import ROLES, Role

_TABLE = """
viewer GET        /  /metrics  /version  /health  /favicon.ico  /tensorboard/**
viewer GET        /static-files/**  /build/**  /get-artifact  /model-versions/get-artifact
viewer GET        /api/v1/**
writer POST       /api/v1/batches  /api/v1/runs/*/{stop,restore}
writer DELETE     /api/v1/runs/*
writer PUT        /api/v1/runs/*/artifacts/**
writer PUT,DELETE /api/v1/runs/*/checkpoints/*/tag

viewer GET,POST   /graphql
viewer GET        M/{artifacts,experiments,runs,metrics,logged-models,model-versions,registered-models}/**
viewer GET        M/{datasets,traces,issues,label-schemas,review-queues,scorers,prompt-optimization,mcp-servers}/**
viewer GET        M/{unified-traces,get-online-trace-details,get-trace-artifact,server-info,ui-telemetry}
viewer GET        M/users/current  M/workspaces/**  A/{artifacts,presigned}/**
viewer POST       M/{runs,experiments,logged-models,datasets,traces,issues}/search  M/experiments/search-datasets
viewer POST       M/registered-models/get-latest-versions  M/artifacts/presigned-download-url  M/ui-telemetry
viewer POST       M/traces/{metrics,batchGetInfos,calculate-filter-correlation}  M/prompt-optimization/jobs/search
viewer POST       /{api,ajax-api}/2.0mlflow/experiments/search-datasets

writer POST       M/experiments/{create,update,set-experiment-tag,delete-experiment-tag}
writer POST       M/runs/{create,update,delete,restore,set-tag,delete-tag,outputs}
writer POST       M/runs/{log-batch,log-metric,log-parameter,log-inputs,log-model}
writer POST       M/logged-models  M/logged-models/*/params
writer PATCH,DELETE M/logged-models/*  M/logged-models/*/tags/**
writer POST       M/upload-artifact  M/artifacts/presigned-upload-url  A/mpu/{create,complete,abort}/**
writer PUT        A/artifacts/**
writer POST       M/registered-models/{create,rename,set-tag,alias}
writer POST       M/model-versions/{create,set-tag,transition-stage}
writer PATCH      M/{registered-models,model-versions}/update
writer DELETE     M/{registered-models,model-versions}/delete-tag  M/registered-models/alias
writer POST       M/traces  M/traces/{link-prompts,link-to-run}  M/traces/*/assessments  /v1/traces
writer PATCH      M/traces/*  M/traces/*/{tags,assessments/*}
writer DELETE     M/traces/*/{tags,assessments/*}
writer POST       M/issues  M/datasets/create  M/datasets/*/{add-experiments,remove-experiments,records}
writer PATCH      M/issues/*  M/datasets/*/tags
writer DELETE     M/datasets/*/records  M/datasets/*/tags/*
writer POST       M/label-schemas/create  M/review-queues/{create,update,get-or-create-user}
writer POST       M/review-queues/items/{add,remove,set-status}
writer PATCH      M/label-schemas/update

admin POST        M/experiments/{delete,restore}  M/traces/delete-traces  M/review-queues/delete
admin DELETE      M/{registered-models,model-versions,label-schemas,scorers}/delete  M/datasets/*  A/artifacts/**
admin POST,PUT    M/scorers/{register,online-config}
admin POST,DELETE M/prompt-optimization/jobs/**
admin POST,PATCH,DELETE M/workspaces/**  M/mcp-servers/**

# What nobody needs for tracking and the server answers for nobody; should it ever, then for an admin.
admin GET         M/webhooks/**  M/gateway/secrets/**
viewer GET        M/{gateway,assistant,jobs}/**  M/gateway-proxy  /ajax-api/3.0/jobs/**
admin POST,PUT,PATCH,DELETE M/{gateway,webhooks,assistant,jobs,demo}/**  M/gateway-proxy  M/runs/create-promptlab-run
admin POST        M/{scorer,issues,genai/evaluate}/invoke  /gateway/**  /ajax-api/3.0/jobs/**
admin GET         /gateway/**
admin PATCH       /ajax-api/3.0/jobs/**
"""
"""The first matching line counts."""

_PREFIXES = {
    "M/": [f"/{api}/{version}/mlflow/" for api in ("api", "ajax-api") for version in ("2.0", "3.0")],
    "A/": ["/api/2.0/mlflow-artifacts/", "/ajax-api/2.0/mlflow-artifacts/"],
}

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: load balancers and health checks have none."""


class Rule(NamedTuple):
    """The role that a request needs, and the table's line for it, as a label; "" if there is none."""

    role: Role
    label: str


_UNKNOWN = Rule("admin", "")
_ANYTHING = Rule("viewer", "")
_KEPT = 4096
_SHORT = 300
"""Longer paths are not cached, so that no client can fill the memory with them."""


def _expanded(pattern: str) -> Iterator[str]:
    for short, prefixes in _PREFIXES.items():
        if pattern.startswith(short):
            for prefix in prefixes:
                yield from _expanded(prefix + pattern.removeprefix(short))
            return
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    yield from ("".join(chosen) for chosen in itertools.product(*parts))


def _lines() -> Iterator[tuple[str, str, Rule]]:
    for line in _TABLE.splitlines():
        if line and not line.startswith("#"):
            role, methods, *patterns = line.split()
            assert role in ROLES
            for method in methods.split(","):
                for pattern in itertools.chain.from_iterable(map(_expanded, patterns)):
                    yield method, pattern, Rule(role, pattern)


class Rules:
    """The table with a cache: a path that was requested before costs one lookup in a dictionary.

    `mounts` take precedence: a path, and the roles that reading and writing at and below it need.
    """

    def __init__(self, mounts: Sequence[tuple[str, Role, Role]] = ()) -> None:
        self._mounts = mounts
        self._exact: dict[tuple[str, str], Rule] = {}
        wild: dict[str, list[Rule]] = {}
        for method, pattern, rule in _lines():
            if "*" in pattern:
                wild.setdefault(method, []).append(rule)
            else:
                self._exact.setdefault((method, pattern), rule)
        self._wild = {method: (_alternatives(rules), rules) for method, rules in wild.items()}
        self._seen = dict(self._exact)

    def of(self, method: str, path: str) -> Rule:
        """The rule for a request; `path` decoded, as routes see it."""
        found = self._seen.get((method, path))
        if found is None:
            found = self._find("GET" if method == "HEAD" else method, path)
            if len(self._seen) >= _KEPT + len(self._exact):
                self._seen = dict(self._exact)
            if len(path) <= _SHORT:
                self._seen[method, path] = found
        return found

    def has_at(self, path: str) -> bool:
        """Whether the table has a line at `path`, above or below it, for any method."""
        stem = path + "/"
        patterns = {pattern for _, pattern, _ in _lines()} | OPEN
        return any(pattern.startswith(stem) for pattern in patterns) or any(
            re.fullmatch(_expression(pattern), each) for pattern in patterns for each in (path, stem + "x")
        )

    def _find(self, method: str, path: str) -> Rule:
        if method == "OPTIONS":
            return _ANYTHING
        for mount, reads, writes in self._mounts:
            if path == mount or path.startswith(mount + "/"):
                return Rule(reads if method == "GET" else writes, mount + "/**")
        if exact := self._exact.get((method, path)):
            return exact
        if method in self._wild:
            pattern, rules = self._wild[method]
            if match := pattern.fullmatch(path):
                assert match.lastindex is not None
                return rules[match.lastindex - 1]
        return _UNKNOWN


def _alternatives(rules: list[Rule]) -> re.Pattern[str]:
    """One expression with a group for each rule."""
    return re.compile("|".join(f"({_expression(rule.label)})" for rule in rules), re.DOTALL)


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"/\*\*", "(?:/.*)?").replace(r"\*", "[^/]+")
