"""Each alert by promtool: it fires on its trouble, is silent in a healthy deployment and where nothing is measured."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.monitoring import prometheusrule
from tests.monitoring.tools import ALERTS, ROOT, alerts, tool

CHATS = 'plumbline_http_requests_total{route="/v1/chat/completions",status_class="%s"}'
TTFT = "plumbline_time_to_first_token_seconds"
HEALTHY = {
    'up{job="plumbline"}': "1x",
    CHATS % "2xx": "0+60x",
    CHATS % "5xx": "0x",
    "plumbline_streams_broken_total": "0x",
    "plumbline_chat_completions_total": "0+60x",
    f'{TTFT}_bucket{{le="2.5"}}': "0+60x",
    f"{TTFT}_count": "0+60x",
    "plumbline_engine_up": "1x",
    "plumbline_recording": "1x",
    "plumbline_registry_generation": "7x",
    "plumbline_policy_generation": "7x",
    "plumbline_policies_missing": "0x",
    "plumbline_figures_read_timestamp_seconds": "0+60x",
    'plumbline_votes_total{kind="thumb",result="new"}': "0+6x",
    'plumbline_votes_total{kind="thumb",result="unavailable"}': "0x",
    'plumbline_completion_records_lost_total{reason="open"}': "0x",
    "plumbline_redis_up": "1x",
    "plumbline_redis_durable": "1x",
    "plumbline_redis_memory_bytes": "500x",
    "plumbline_redis_memory_max_bytes": "1000x",
    "plumbline_archive_failing": "0x",
    "plumbline_archive_lag_seconds": "90000x",
    'plumbline_vote_habit_ratio{habit="first",bound="low"}': "0.48x",
    'plumbline_vote_habit_ratio{habit="first",bound="high"}': "0.53x",
    "plumbline_scheduler_next_check_timestamp_seconds": "20+60x",
    "plumbline_run_silent_seconds": "2x",
    "plumbline_run_queued_seconds": "0x",
    'plumbline_runs{state="failed"}': "3x",
    "plumbline_sentinel_blocked": "1x",
    'plumbline_releases{state="rolled_back"}': "1x",
}
"""A sample a minute, to the end of the case."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What differs from the healthy deployment, and when the alert has noticed."""

    alert: str
    series: dict[str, str]
    at: str = "20m"
    labels: dict[str, str] = field(default_factory=dict)
    """Besides the severity."""


TROUBLES = [
    Trouble(alert="ChatErrorBudgetBurn", series={CHATS % "5xx": "0+10x"}, at="30m"),
    Trouble(alert="ChatErrorBudgetBurn", series={"plumbline_streams_broken_total": "0+10x"}, at="30m"),
    Trouble(alert="ChatErrorBudgetBurn", series={CHATS % "5xx": "0+3x"}, at="8h"),
    Trouble(alert="ChatSlow", series={f'{TTFT}_bucket{{le="2.5"}}': "0+50x"}, at="30m"),
    Trouble(alert="EngineDown", series={"plumbline_engine_up": "0x"}),
    Trouble(alert="SwapRefused", series={"plumbline_registry_generation": "8x"}),
    Trouble(alert="SwapRefused", series={"plumbline_policies_missing": "1x"}),
    Trouble(alert="MetricsAbsent", series={'up{job="plumbline"}': "0x"}, labels={"job": "plumbline"}),
    Trouble(alert="MetricsAbsent", series={"plumbline_figures_read_timestamp_seconds": "0x"}, at="30m"),
    Trouble(alert="FeedbackUnavailable", series={"plumbline_recording": "0x"}),
    Trouble(
        alert="FeedbackUnavailable",
        series={'plumbline_votes_total{kind="thumb",result="unavailable"}': "0+1x"},
    ),
    Trouble(alert="RecordsLost", series={'plumbline_completion_records_lost_total{reason="open"}': "0+1x"}),
    Trouble(alert="RedisNotDurable", series={"plumbline_redis_durable": "0x"}),
    Trouble(alert="RedisMemoryHigh", series={"plumbline_redis_memory_bytes": "710x"}),
    Trouble(alert="ArchiveLate", series={"plumbline_archive_failing": "1x"}, at="1h"),
    Trouble(alert="ArchiveLate", series={"plumbline_archive_lag_seconds": "180000x"}, at="1h"),
    Trouble(
        alert="VotesStopped",
        series={'plumbline_votes_total{kind="thumb",result="new"}': "0+6x600 3600x"},
        at="17h",
    ),
    Trouble(
        alert="PositionBias",
        series={
            'plumbline_vote_habit_ratio{habit="first",bound="low"}': "0.58x",
            'plumbline_vote_habit_ratio{habit="first",bound="high"}': "0.63x",
        },
    ),
    Trouble(alert="SchedulerSilent", series={"plumbline_scheduler_next_check_timestamp_seconds": "20x"}),
    Trouble(alert="RunStuck", series={"plumbline_run_silent_seconds": "0+60x"}),
    Trouble(alert="RunStuck", series={"plumbline_run_queued_seconds": "0+60x"}, at="25m"),
    Trouble(alert="RunsFailing", series={'plumbline_runs{state="failed"}': "3x60 5x"}, at="2h"),
    Trouble(alert="CandidateStopped", series={"plumbline_sentinel_blocked": "1x60 2x"}, at="65m"),
    Trouble(alert="CandidateStopped", series={'plumbline_releases{state="rolled_back"}': "1x60 2x"}, at="65m"),
]


def expected(trouble: Trouble) -> dict[str, Any]:
    rule = alerts()[trouble.alert]
    found = {"exp_labels": rule["labels"] | trouble.labels, "exp_annotations": rule["annotations"]}
    return {"eval_time": trouble.at, "alertname": trouble.alert, "exp_alerts": [found]}


def silent(*times: str, but: str = "") -> list[dict[str, Any]]:
    """No alert fires at any of the times, but for one."""
    return [
        {"eval_time": time, "alertname": name, "exp_alerts": []} for name in alerts() if name != but for time in times
    ]


def case(series: dict[str, str], wanted: list[dict[str, Any]]) -> dict[str, Any]:
    minutes = max(int(it["eval_time"][:-1]) * {"m": 1, "h": 60}[it["eval_time"][-1]] for it in wanted)
    inputs = [{"series": name, "values": f"{values}{minutes}"} for name, values in series.items()]
    return {"interval": "1m", "input_series": inputs, "alert_rule_test": wanted}


def promtool(tmp_path: Path, *cases: dict[str, Any], every: str = "1m") -> None:
    """`every`: how often rules are looked at; many hours by the minute take long."""
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": every, "tests": list(cases)}))
    done = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid() -> None:
    done = subprocess.run([tool("promtool"), "check", "rules", ALERTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda it: f"{it.alert}:{next(iter(it.series))}")
def test_fires(trouble: Trouble, tmp_path: Path) -> None:
    """On this change alone."""
    every = "10m" if trouble.at in ("8h", "17h") else "1m"
    promtool(tmp_path, case(HEALTHY | trouble.series, [expected(trouble)]), every=every)


def test_does_not_fire(tmp_path: Path) -> None:
    """In a healthy deployment, from its first minutes to its second day."""
    promtool(tmp_path, case(HEALTHY, silent("10m", "1h", "24h")), every="10m")


def test_what_is_not_measured_fires_nothing(tmp_path: Path) -> None:
    """No series at all: one alert says so, the others are silent."""
    gone = {"exp_labels": {"severity": "page"}, "exp_annotations": alerts()["MetricsAbsent"]["annotations"]}
    absent = [{"eval_time": "20m", "alertname": "MetricsAbsent", "exp_alerts": [gone]}]
    promtool(tmp_path, case({}, [*silent("20m", "3h", but="MetricsAbsent"), *absent]))


def test_a_few_failures_of_few_chats_wake_nobody(tmp_path: Path) -> None:
    """One failed chat of ten an hour is above the rate, and no trend."""
    few = {CHATS % "2xx": "0+1x", CHATS % "5xx": "0x30 1x"}
    promtool(tmp_path, case(HEALTHY | few, silent("31m", "33m", "2h")))


def test_every_alert_is_tried() -> None:
    assert {trouble.alert for trouble in TROUBLES} == alerts().keys()


@pytest.mark.parametrize("name", alerts())
def test_every_alert_has_a_runbook(name: str) -> None:
    """Of its own name, with what somebody needs who was woken up; and says how urgent it is."""
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    text = (ROOT / rule["annotations"]["runbook_url"]).read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [f"# {name}", "## Symptom", "## Meaning", "## Look", "## Mend", "## Over"]


def test_runbooks_are_of_alerts() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == alerts().keys()


def test_the_operators_rules_are_the_same() -> None:
    """prometheusrule.yaml is written from alerts.yaml: `python -m k8s.monitoring.prometheusrule`."""
    assert yaml.safe_load(prometheusrule.RESOURCE.read_text()) == prometheusrule.resource()
