"""Prometheus and Grafana files: well-formed, pointing at each other, and naming only metrics that the worker has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from stream_app.metrics import Metrics

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def yaml_of(path: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((DEPLOY / path).read_text())
    return tree


def dashboard() -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/millrace.json").read_text())
    return tree


@pytest.fixture(scope="module")
def served() -> set[str]:
    """Names of all series that /metrics can serve."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {metric.name + suffix for metric in registry.collect() for suffix in SUFFIXES[metric.type]}


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bmillrace_\w+", expression))


def test_every_metric_of_the_dashboard_is_served(served: set[str]) -> None:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            assert metrics_in(target["expr"]) <= served, panel["title"]


def test_every_metric_of_a_rule_is_served(served: set[str]) -> None:
    for group in yaml_of("prometheus/rules.yml")["groups"]:
        for rule in group["rules"]:
            assert metrics_in(rule["expr"]) <= served, rule["alert"]


def test_every_metric_of_the_worker_is_shown(served: set[str]) -> None:
    plotted = {name for panel in dashboard()["panels"] for target in panel["targets"] for name in metrics_in(target["expr"])}
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in served}
    assert families - {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in plotted} == set()


def test_every_rule_says_what_to_do() -> None:
    for group in yaml_of("prometheus/rules.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"], rule["alert"]


def test_prometheus_scrapes_the_worker_where_compose_has_it() -> None:
    config = yaml_of("prometheus/prometheus.yml")
    [job] = config["scrape_configs"]
    [names] = job["dns_sd_configs"]
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())
    [worker] = names["names"]
    assert compose["services"][worker]["environment"]["MILLRACE_WORKER_WEB_PORT"] == str(names["port"])
    for name in config["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()


def test_the_dashboard_reads_from_the_provisioned_source() -> None:
    [source] = yaml_of("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    uids = {target["datasource"]["uid"] for panel in dashboard()["panels"] for target in panel["targets"]}
    assert uids == {source["uid"]}


def test_panels_do_not_overlap_and_have_their_own_id() -> None:
    panels = dashboard()["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)
