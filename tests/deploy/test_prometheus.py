"""Alerts, configuration and dashboard: valid for Prometheus itself, and each alert seen to fire and not to fire."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path("deploy/prometheus")
TESTS = sorted(FOLDER.glob("*_test.yaml"))


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def tried(file: Path) -> list[dict[str, Any]]:
    return [case for test in yaml.safe_load(file.read_text("utf-8"))["tests"] for case in test["alert_rule_test"]]


def test_promtool_accepts_configuration_and_rules() -> None:
    checked = promtool("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(alerts())} rules found" in checked.stdout


def test_alerts_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_says_something_else_is_found_out(tmp_path: Path) -> None:
    rules = (FOLDER / "alerts.yaml").read_text("utf-8")
    (tmp_path / "alerts.yaml").write_text(rules.replace("> 0.8", "> 0.95", 1), "utf-8")
    (tmp_path / "alerts_test.yaml").write_text((FOLDER / "alerts_test.yaml").read_text("utf-8"), "utf-8")
    done = promtool("test", "rules", tmp_path / "alerts_test.yaml")
    assert done.returncode == 1
    assert "FairmarkQueueFull" in done.stdout + done.stderr


def test_every_alert_is_tried_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    cases = [case for file in TESTS for case in tried(file)]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(names)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(names)
    assert {rule["labels"]["severity"] for rule in alerts()} == {"page", "ticket"}
    headings = re.findall(r"^\| `(Fairmark\w+)` \|", Path("docs/operations.md").read_text("utf-8"), re.M)
    assert headings == names


@pytest.mark.parametrize("name", ["expr", "query"])
def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path, name: str) -> None:
    dashboard = json.loads(Path("deploy/grafana/fairmark.json").read_text("utf-8"))
    if name == "expr":
        found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        found += [each["expr"] for each in dashboard["annotations"]["list"]]
        assert len(found) > 25
    else:
        queries = [each["query"]["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
        found = [re.fullmatch(r"label_values\((.*), \w+\)", query)[1] for query in queries]  # type: ignore[index]
    plain = [expression.replace("$__rate_interval", "1m") for expression in found]
    rules = [{"record": f"dashboard:{number}", "expr": each} for number, each in enumerate(plain)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_panels_have_places_of_their_own() -> None:
    panels = json.loads(Path("deploy/grafana/fairmark.json").read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))
