"""The story of the demo, told by a stand-in service that learns what the test says; and the demo's own values."""

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from rich.console import Console

from core import keys, registry, releases
from core.errors import PlumblineError
from core.evidence import Evidence
from core.records import GateReport, PolicyState, PolicyVersion, RunState, SnapshotManifest, Verdict
from core.settings import Settings
from lab.arena import Arena, ArenaAnswer, ArenaConfig
from lab.base_config import DEMO_FILE
from lab.chats import ChatsConfig
from lab.demo import arena_prompts, compile_report, demo_recipe, demo_settings, run
from lab.demo_config import DemoConfig, load_demo_config
from lab.display import Display
from lab.raters import RatersConfig
from lab.release import ReleaseConfig
from lab.world import sample_prompts
from tests.lab.fake_service import FakeService
from tests.lab.test_report import FIRST, SECOND
from training import runs
from training.recipe import load_recipe

CONFIG = DemoConfig(
    seed=1,
    rounds=2,
    min_votes=20,
    min_votes_ppo=25,
    check_interval_s=0.1,
    votes_timeout_s=30.0,
    training_timeout_s=30.0,
    swap_timeout_s=30.0,
    chats=ChatsConfig(concurrency=2, think_s=0.02, max_tokens=16),
    raters=RatersConfig(count=5, concurrency=4, tau=0.5, error=0.05, thumb_share=0.2, thumb_utility=1.0),
    release=ReleaseConfig(chatting=2, voting=2, timeout_s=30.0),
    arena=ArenaConfig(prompts=12, concurrency=4),
)


@dataclass(kw_only=True)
class FakeStack:
    api_url: str
    redis: redis.Redis
    settings: Settings


class FakeLearner:
    """Notices votes, runs "training" in a thread through the real run and registry scripts, and swaps the service."""

    def __init__(self, service: FakeService, client: redis.Redis, artifacts: Path, verdicts: list[Verdict]) -> None:
        self.service, self.client, self.artifacts = service, client, artifacts
        self.verdicts = iter(verdicts)
        self.rounds = max(1, len(verdicts))
        """Votes that are still under way when the last round's run ends start no further one."""
        self.votes = self.used = 0
        self.end = "promoted"
        """How releases end; `open`: not at all."""
        self.failure = ""
        """If set, the next run fails for this reason."""
        self.threads: list[threading.Thread] = []
        zero = PolicyVersion(
            version=0,
            parent=None,
            base_sha256="b",
            adapter_sha256="a",
            method="zero",
            created=0.0,
            state=PolicyState.LIVE,
        )
        registry.initialise(client, zero, actor="test")
        service.on_preference = self.notice

    def notice(self) -> None:
        self.votes += 1
        if len(self.threads) == self.rounds:
            return
        is_idle = not runs.active(self.client) and releases.current(self.client) is None
        if self.votes - self.used >= CONFIG.min_votes and is_idle:
            self.used = self.votes
            run_id = self.queue()
            self.threads.append(threading.Thread(target=self.learn, args=[run_id]))
            self.threads[-1].start()

    def queue(self) -> str:
        """Every vote is a row but one in each round, which is dropped."""
        number = len(self.threads) + 1
        manifest = SnapshotManifest(
            id=f"snapshot-{number}",
            created=0.0,
            last_event="1-0",
            rows=self.votes - number,
            rows_by_fold={"optimize": self.votes - number},
            policy_rows=10 * number,
            prompts=5,
            dropped={"identical": number},
            thumbs=3 * number,
            live_version=self.service.live,
            base_sha256="b",
            tokenizer_sha256="t",
        )
        directory = self.artifacts / "snapshots" / manifest.id
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(manifest.to_json())
        seconds, _ = self.client.time()
        run = runs.planned(snapshot=manifest.id, parent=self.service.live, recipe="{}", last_vote=float(seconds))
        assert runs.create(self.client, run, votes=self.votes) == "created"
        return run.id

    def outlast_the_votes(self) -> None:
        """Real training takes longer than the raters take to notice it; they must not vote the next run into being."""
        seen = -1
        while seen != self.votes:
            seen = self.votes
            time.sleep(0.5)
        self.used = self.votes

    def learn(self, run_id: str) -> None:
        run = runs.claim(self.client, run_id, "worker", 60.0)
        assert run is not None
        runs.heartbeat(self.client, run_id, run.attempt, "reward", 0.5, 60.0)
        self.outlast_the_votes()
        if self.failure:
            runs.finish(self.client, run_id, run.attempt, RunState.FAILED, self.failure)
            return
        directory = self.artifacts / "runs" / run_id / "reward"
        directory.mkdir(parents=True)
        (directory / "reward.json").write_text(json.dumps({"test_accuracy": 0.7, "head": "surprise"}))
        self.service.broken = ""
        verdict = next(self.verdicts)
        metrics = {"kl_to_parent": 0.5, "kl_to_base": 0.8, "mean_tokens": 9.0}
        gate = GateReport(verdict=verdict, live_version=run.parent, checks=[], metrics=metrics, summary="for a test")
        candidate = PolicyVersion(
            version=-1,
            parent=run.parent,
            base_sha256="b",
            adapter_sha256="a",
            method="dpo",
            snapshot=run.snapshot,
            run=run_id,
            gate=gate,
            created=0.0,
            state=PolicyState.CANDIDATE,
        )
        version = registry.publish(self.client, candidate, gate, run=run_id, attempt=run.attempt)
        if verdict is Verdict.PASS:
            self.decide(f"rel_{version}")
        if verdict is Verdict.PASS and self.end == "promoted":
            self.service.resident = sorted({0, self.service.live, version})
            self.service.live = version

    def decide(self, release_id: str) -> None:
        """Five more votes, and the release is what the test wants it to be."""
        target = self.votes + 5
        while self.votes < target - 3 and self.end != "open":
            time.sleep(0.02)
        releases.advance(self.client, release_id, from_stage=releases.FIRST, reason="it is quiet")
        time.sleep(1.0)  # the demo looks twice a second
        while self.votes < target and self.end != "open":
            time.sleep(0.02)
        if self.end == "open":
            return
        found = Evidence(release=release_id, position="1-0", wins=4, losses=1, log10_e=1.5)
        self.client.hset(keys.release_evidence(release_id), "record", found.to_json())
        self.used = self.votes
        if self.end == "promoted":
            releases.promote(self.client, release_id, reason="e = 32", actor="scheduler")
        else:
            releases.end(self.client, release_id, state="rolled_back", reason="e = 40 against", actor="scheduler")


class Told:
    """One telling: `Told(...).tell(verdicts)` runs the demo and keeps what it printed and wrote."""

    def __init__(self, url: str, service: FakeService, client: redis.Redis, home: Path) -> None:
        self.service = service
        self.settings = Settings(home=home, min_votes=CONFIG.min_votes)
        self.stack = FakeStack(api_url=url, redis=client, settings=self.settings)
        self.json_path = home / "figures.json"
        self.console = Console(width=130, force_terminal=False, file=(home / "printed").open("w+"))

    def learner(self, *verdicts: Verdict) -> FakeLearner:
        return FakeLearner(self.service, self.stack.redis, self.settings.artifacts, list(verdicts))

    async def run(self, config: DemoConfig = CONFIG, *, exit_after: bool = True) -> int:
        display, seconds = Display(self.console), {"start": 1.0}
        return await run(self.stack, config, display, seconds, exit_after=exit_after, json_path=self.json_path)

    def printed(self) -> str:
        self.console.file.flush()
        return Path(self.console.file.name).read_text()


@pytest.fixture
def told(redis_client: redis.Redis, tmp_path: Path) -> Iterator[Told]:
    """Version 0 says something good or gibberish in turns; a later version says only good things."""
    texts = itertools.cycle(["Hello, nice to meet you.", "Gibberish of nobody"])
    service = FakeService(lambda prompt, version: "I do not know that." if version else next(texts))
    with service.serve() as url:
        yield Told(url, service, redis_client, tmp_path)


def test_two_rounds_from_votes_to_better_answers(told: Told) -> None:
    """Votes start each run, each passed version is seen in a chat, and the file holds a row a round."""
    told.learner(Verdict.PASS, Verdict.PASS)

    assert asyncio.run(told.run()) == 0

    written = json.loads(told.json_path.read_text())
    first, second = written["rounds"]
    assert [(row["version"], row["gate"], row["failed"]) for row in (first, second)] == [(1, "pass", 0), (2, "pass", 0)]
    assert all(row["served"] > 0 and row["vote_to_first_token_s"] is not None for row in (first, second))
    assert first["win_rate_low"] <= first["win_rate"] <= first["win_rate_high"]
    assert (written["v2_vs_v1"]["newer"], written["v2_vs_v1"]["older"]) == (2, 1)
    assert written["v2_vs_v1"]["difference"] == 0.0  # both versions say the same
    assert written["examples"][0]["prompt"] == "A dog is"
    parts = {f"round {number} {part}" for number in (1, 2) for part in ("votes", "training", "release")}
    assert written["seconds"].keys() == parts | {"start", "evaluation"}
    release = first["release"]
    assert (release["id"], release["state"], release["raters"], release["log10_e"]) == ("rel_1", "promoted", 5, 1.5)
    assert [step["what"] for step in release["steps"]] == ["release.opened", "release.advanced", "promote"]
    printed = told.printed()
    assert "v2 dpo" in printed
    assert "Release rel_1 promoted: e = 32" in printed and "10% of end users: it is quiet" in printed


def test_a_rounds_figures_are_its_snapshots(told: Told) -> None:
    """A row shows the votes, drops and thumbs that the round's own snapshot holds, and what the run measured."""
    learner = told.learner(Verdict.PASS, Verdict.FAIL)

    asyncio.run(told.run())

    first, second = json.loads(told.json_path.read_text())["rounds"]
    manifests = [learner.artifacts / "snapshots" / f"snapshot-{number}" / "manifest.json" for number in (1, 2)]
    rows = [SnapshotManifest.model_validate_json(path.read_text()).rows for path in manifests]
    assert [row["votes"] for row in (first, second)] == rows
    assert [row["dropped"] for row in (first, second)] == [{"identical": 1}, {"identical": 2}]
    assert [row["thumbs"] for row in (first, second)] == [3, 6]
    assert [row["policy_rows"] for row in (first, second)] == [10, 20]
    assert (second["rm_accuracy"], second["kl_parent"], second["kl_base"]) == (0.7, 0.5, 0.8)
    assert 0.5 <= first["rm_ceiling"] <= 1.0


def test_a_rejected_second_round_is_a_valid_end(told: Told) -> None:
    """The rejected version has a row with its reason and no win rate, for nobody can ask it; the demo succeeded."""
    told.learner(Verdict.PASS, Verdict.FAIL)

    assert asyncio.run(told.run()) == 0

    written = json.loads(told.json_path.read_text())
    assert [row["win_rate"] is None for row in written["rounds"]] == [False, True]
    assert (written["rounds"][1]["gate"], written["rounds"][1]["tokens"]) == ("fail", 9.0)
    assert written["rounds"][1]["vote_to_first_token_s"] is None
    assert (written["v2_vs_v1"], written["newest"]) == (None, 1)
    assert "held assistant@v2 back" in told.printed()


def test_a_release_that_people_refuse_is_no_success(told: Told) -> None:
    """Rolled back, version 1 has its row with the reason and is served to nobody; the exit status is 1."""
    told.learner(Verdict.PASS, Verdict.FAIL).end = "rolled_back"

    assert asyncio.run(told.run()) == 1

    first = json.loads(told.json_path.read_text())["rounds"][0]
    assert (first["release"]["state"], first["release"]["reason"]) == ("rolled_back", "e = 40 against")
    assert (first["win_rate"], first["vote_to_first_token_s"]) == (None, None)


def test_a_release_that_is_never_decided_ends_the_demo(told: Told) -> None:
    """It says which, and what is known of it."""
    told.learner(Verdict.PASS).end = "open"
    config = CONFIG.model_copy(update={"release": CONFIG.release.model_copy(update={"timeout_s": 0.5})})

    with pytest.raises(PlumblineError, match="Release rel_1 is still open: nobody has voted yet"):
        asyncio.run(told.run(config))


def test_everybody_in_the_crowd_comes_once(told: Told) -> None:
    """First votes are evidence, so each person of a release has a name of their own."""
    told.learner(Verdict.PASS, Verdict.FAIL)

    asyncio.run(told.run())

    raters = [vote["rater"]["id"] for vote in told.service.votes if vote["rater"]["id"].startswith("rel_1-")]
    assert len(raters) >= 5 and len(set(raters)) == len(raters)


def test_a_failed_chat_fails_the_demo(told: Told) -> None:
    """Streams that broke in round one are counted there, shown, and make the exit status 1."""
    told.learner(Verdict.PASS, Verdict.PASS)
    told.service.broken = "cut"

    assert asyncio.run(told.run()) == 1

    first, second = json.loads(told.json_path.read_text())["rounds"]
    assert first["failed"] > 0
    assert second["failed"] == 0


def test_a_failed_run_ends_the_demo_with_its_reason(told: Told) -> None:
    """A run that failed is an error that names the run's own reason."""
    told.learner().failure = "the trainer met NaN"

    with pytest.raises(PlumblineError, match="ended failed: the trainer met NaN"):
        asyncio.run(told.run())


def test_a_service_that_starts_no_run_ends_the_demo(told: Told) -> None:
    """Votes that nobody notices do not make the demo wait for ever."""
    with pytest.raises(PlumblineError, match=r"started no run after \d+ votes: it gave no reason"):
        asyncio.run(told.run(CONFIG.model_copy(update={"votes_timeout_s": 0.5})))


def test_without_exit_the_demo_stays_up_until_it_is_interrupted(told: Told) -> None:
    """After the table it waits; an interrupt then ends it with the status that it had."""
    told.learner(Verdict.PASS, Verdict.PASS)

    async def scenario() -> int:
        demo = asyncio.create_task(told.run(exit_after=False))
        while "Chat page" not in told.printed():
            await asyncio.sleep(0.05)
            assert not demo.done()
        await asyncio.sleep(0.05)
        demo.cancel()
        return await demo

    assert asyncio.run(scenario()) == 0
    assert f"{told.stack.api_url}/" in told.printed()


# -- the parts without a service ---------------------------------------------------------------------------------------


def test_the_demos_own_values_can_be_read() -> None:
    """`[demo]` of demo.toml is complete, and asks for what issue and design demand."""
    config = load_demo_config()

    assert config.rounds == 2
    assert config.min_votes >= 500
    assert config.arena.prompts >= 1000


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    """A key that nobody reads is an error, not a silent default."""
    file = tmp_path / "demo.toml"
    file.write_text(DEMO_FILE.read_text().replace("think_s", "thinking_s"))

    with pytest.raises(ValueError, match="thinking_s"):
        load_demo_config(file)


def test_the_demo_sets_what_starts_a_round() -> None:
    """Base, recipe, votes and interval are the demo's, and its raters vote at once; all else stays the user's."""
    settings = demo_settings(Settings(port=8123, min_votes=7), CONFIG, Path("/bases/demo"))

    assert (settings.base, settings.recipe, settings.min_votes) == ("/bases/demo", str(DEMO_FILE), 20)
    assert (settings.check_interval_s, settings.min_reading_s, settings.port) == (0.1, 0.0, 8123)


def test_the_demo_by_another_method(tmp_path: Path) -> None:
    """The demo's recipe is its file; for PPO a copy with a judge of its own, and all other values as they were."""
    assert demo_recipe(tmp_path, "dpo") == DEMO_FILE

    recipe, original = load_recipe(demo_recipe(tmp_path / "home", "ppo")), load_recipe(DEMO_FILE)

    assert (recipe.method, recipe.judge) == ("ppo", "own")
    assert recipe.model_copy(update={"method": "dpo", "judge": original.judge}) == original


def test_the_evaluation_asks_fresh_prompts_and_about_a_dog() -> None:
    """Distinct held-out prompts, "A dog is" the first of them."""
    prompts = arena_prompts(random.Random(5), 1000)

    assert prompts[0].text == "A dog is"
    assert len({prompt.text for prompt in prompts}) == 1000
    assert all(prompt.held_out for prompt in prompts)


def test_rejected_versions_get_no_gold_figures() -> None:
    """A row is joined with the answers of its own version; a version that nobody could ask keeps the gate's length."""
    prompts = sample_prompts(random.Random(0), 4, held_out=True)
    good, bad = (ArenaAnswer(text="x", tokens=5, utility=utility, good=utility > 0) for utility in (1.0, -1.0))
    held = Arena(prompts=prompts, answers={0: [bad] * 4, 1: [good] * 4}, control=[bad] * 4)

    report = compile_report([FIRST, SECOND], held, seconds={"votes": 1.04}, failed=0)

    assert (report.rounds[0].win_rate, report.rounds[0].good, report.rounds[0].tokens) == (1.0, 1.0, 5.0)
    assert (report.rounds[1].win_rate, report.rounds[1].tokens) == (None, FIRST.tokens)
    assert (report.control.win_rate, report.seconds) == (0.5, {"votes": 1.0})
