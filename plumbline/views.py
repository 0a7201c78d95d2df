"""What the command line shows of the loop: status, policies, runs."""

import time
from typing import cast

import redis
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core import audit, keys, registry, releases
from core.records import AuditEvent, GateReport, PolicyVersion, Run, RunState, TrustReport
from plumbline import policy_views, sentinel_view
from plumbline.local_time import local_time
from plumbline.tables import lines
from training import runs

_console = Console(highlight=False)


def print_status(client: redis.Redis) -> None:
    current = registry.state(client)
    if current is None:
        _console.print("No policy is registered yet: `plumbline up` does it at its first start.")
        return
    _console.print(f"live policy   [bold]assistant@v{current.live}[/] (generation {current.generation})")
    _console.print(f"release       {policy_views.opened(releases.current(client))}", soft_wrap=True)
    _console.print(f"next round    {next_round(client, now=time.time())}")
    latest, _ = runs.newest(client, limit=1)
    _console.print(f"latest run    {describe(latest[0])}" if latest else "latest run    none yet")
    report = cast(str | None, client.get(keys.TRUST))
    found = TrustReport.model_validate_json(report) if report is not None else None
    _console.print(f"trust         {trusted(found, quarantined=client.scard(keys.QUARANTINED))}", soft_wrap=True)
    for name in ("trust_error", "archive_error"):
        if error := cast(str | None, client.hget(keys.SCHEDULER, name)):
            _console.print(f"{name.replace('_', ' '):13} [red]{escape(error)}[/]", soft_wrap=True)


def next_round(client: redis.Redis, *, now: float) -> str:
    """E.g. `127 of 300 new votes; next check in 20 s`."""
    plan: dict[str, str] = client.hgetall(keys.SCHEDULER)  # type: ignore[assignment]
    if not plan:
        return "the scheduler has not looked yet"
    text = f"{plan.get('votes_new', 0)} of {plan.get('min_votes', '?')} new votes"
    wait = float(plan.get("next_check", 0)) - now
    text += f"; next check in {wait:.0f} s" if wait >= 0 else f"; the scheduler is {-wait:.0f} s late, does it run?"
    return text + (f" ({plan['last_reason']})" if plan.get("last_reason") else "")


def describe(run: Run) -> str:
    """E.g. `3c59dc04 running: candidate 40 % (attempt 1)`."""
    text = f"{run.id[:8]} {run.state}"
    if run.state is RunState.RUNNING:
        text += f": {run.stage} {run.progress:.0%} (attempt {run.attempt})"
    if run.version is not None:
        text += f": assistant@v{run.version}, gate {run.verdict}"
    return text + (f" ({run.reason})" if run.reason else "")


def trusted(report: TrustReport | None, *, quarantined: int) -> str:
    """E.g. `61 raters judged, 3 in quarantine; alpha 0.46, first side 53 % (49 to 57 %), longer answer 58 % (55 %
    expected); 2026-11-21 13:20:07`."""
    aside = f"{quarantined} in quarantine"
    if report is None:
        return f"no raters judged yet, {aside}"
    figures = [f"alpha {report.alpha_nominal:.2f}"] if report.alpha_nominal is not None else []
    if (first := report.first) is not None:
        figures.append(f"first side {first.value:.0%} ({first.low:.0%} to {first.high:.0%})")
    if report.longer is not None:
        expected = "" if report.longer_expected is None else f" ({report.longer_expected:.0%} expected)"
        figures.append(f"longer answer {report.longer.value:.0%}{expected}")
    parts = [f"{report.raters} raters judged, {aside}", ", ".join(figures), local_time(report.as_of)]
    return "; ".join(part for part in parts if part).replace("%", " %")


def print_policies(client: redis.Redis) -> None:
    table = Table("version", "state", "parent", "method", "gate", "adapter", "created", box=None, pad_edge=False)
    for policy in registry.policies(client):
        table.add_row(
            policy.name,
            f"[bold]{policy.state}[/]" if policy.state == "live" else str(policy.state),
            "" if policy.parent is None else f"v{policy.parent}",
            policy.method,
            str(policy.gate.verdict) if policy.gate else "",
            policy.adapter_sha256[:12],
            local_time(policy.created),
        )
    _console.print(table)


def print_policy(client: redis.Redis, version: int) -> None:
    policy: PolicyVersion = registry.policy(client, version)
    for name, value in policy.model_dump(exclude={"gate", "schema_version"}).items():
        _console.print(f"{name:15} {local_time(value) if name == 'created' else value}")
    if (since := registry.tainted(client).get(version)) is not None:
        _console.print(f"{'tainted':15} trained on data that was erased at {local_time(since)}, or by descent")
    if policy.gate:
        print_gate(policy.gate)
    if (watched := sentinel_view.table(registry.policies(client), version)) is not None:
        _console.print(watched)


def print_gate(gate: GateReport) -> None:
    table = Table("check", "value", "bound", "verdict", "why", title=f"gate: {gate.verdict}. {gate.summary}", box=None)
    for check in gate.checks:
        value = "" if check.value is None else f"{check.value:.4g}"
        table.add_row(check.name, value, check.bound, str(check.verdict), check.reason)
    _console.print(table)


def print_history(client: redis.Redis) -> None:
    """Each entry whole, whatever the width: that is what it is for."""
    for event in audit.history(client):
        who = f"{event.action} {_about(event)}, by {event.actor}: {event.reason}"
        _console.print(f"{event.generation:4}  {local_time(event.at)}  {escape(who)}", soft_wrap=True)


def _about(event: AuditEvent) -> str:
    return " ".join([f"v{event.version}"] * (event.version is not None) + [event.subject]).strip()


def print_runs(client: redis.Redis) -> None:
    """`plumbline runs show` has the rest."""
    table = lines("run", "state", "versions", "created", "reason")
    for run in runs.all_runs(client):
        state = str(run.state) if run.state in ("queued", "done") else f"{run.state}: {run.stage}"
        versions = f"v{run.parent} →" if run.version is None else f"v{run.parent} → v{run.version}"
        reason = f"{run.verdict}: {run.reason}" if run.verdict else run.reason
        table.add_row(run.id[:12], state, versions, local_time(run.created), escape(reason))
    _console.print(table)


def print_run(client: redis.Redis, run_id: str) -> None:
    for name, value in runs.get(client, run_id).model_dump(exclude={"schema_version"}).items():
        _console.print(f"{name:12} {local_time(value) if name in ('created', 'updated', 'last_vote') else value}")
