"""The story of the demo, told by a stand-in service that learns what the test says; and the demo's own values."""

import asyncio
import itertools
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console

from core.errors import PlumblineError
from core.records import SnapshotManifest, Verdict
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
from tests.lab.fake_learner import FakeLearner
from tests.lab.fake_service import FakeService
from tests.lab.test_report import FIRST, SECOND
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


class Told:
    """One telling: `Told(...).tell(verdicts)` runs the demo and keeps what it printed and wrote."""

    def __init__(self, url: str, service: FakeService, client: redis.Redis, home: Path) -> None:
        self.service = service
        self.settings = Settings(home=home, min_votes=CONFIG.min_votes)
        self.stack = FakeStack(api_url=url, redis=client, settings=self.settings)
        self.json_path = home / "figures.json"
        self.console = Console(width=130, force_terminal=False, file=(home / "printed").open("w+"))

    def learner(self, *verdicts: Verdict) -> FakeLearner:
        return FakeLearner(self.service, self.stack.redis, self.settings, list(verdicts), self.printed)

    async def run(self, config: DemoConfig = CONFIG, *, exit_after: bool = True) -> int:
        display, seconds = Display(self.console), {"start": 1.0}
        return await run(self.stack, config, display, seconds, exit_after=exit_after, json_path=self.json_path)

    def printed(self) -> str:
        self.console.file.flush()
        return Path(self.console.file.name).read_text()

    def written(self) -> dict[str, Any]:
        """The file of figures."""
        return dict(json.loads(self.json_path.read_text()))


@contextmanager
def telling(client: redis.Redis, home: Path) -> Iterator[Told]:
    """Version 0 says something good or gibberish in turns; a later version says only good things."""
    texts = itertools.cycle(["Hello, nice to meet you.", "Gibberish of nobody"])
    service = FakeService(lambda prompt, version: "I do not know that." if version else next(texts))
    with service.serve() as url:
        yield Told(url, service, client, home)


@pytest.fixture
def told(redis_client: redis.Redis, tmp_path: Path) -> Iterator[Told]:
    with telling(redis_client, tmp_path) as it:
        yield it


@pytest.fixture(scope="module")
def held_back(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Told once for all who look at what it left: version 1 passes, version 2 does not, and that is no failure."""
    with (
        redis.Redis.from_url(redis_server, decode_responses=True) as client,
        telling(client, tmp_path_factory.mktemp("held-back")) as it,
    ):
        client.flushall()
        it.learner(Verdict.PASS, Verdict.FAIL)
        assert asyncio.run(it.run()) == 0
        yield it


def test_two_rounds_from_votes_to_better_answers(told: Told) -> None:
    """Votes start each run, each passed version is seen in a chat, and the file holds a row a round."""
    told.learner(Verdict.PASS, Verdict.PASS)

    assert asyncio.run(told.run()) == 0

    written = told.written()
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


def test_a_rounds_figures_are_its_snapshots(held_back: Told) -> None:
    """A row shows the votes, drops and thumbs that the round's own snapshot holds, and what the run measured."""
    first, second = held_back.written()["rounds"]
    snapshots = held_back.settings.artifacts / "snapshots"
    manifests = [snapshots / f"snapshot-{number}" / "manifest.json" for number in (1, 2)]
    rows = [SnapshotManifest.model_validate_json(path.read_text()).rows for path in manifests]
    assert [row["votes"] for row in (first, second)] == rows
    assert [row["dropped"] for row in (first, second)] == [{"identical": 1}, {"identical": 2}]
    assert [row["thumbs"] for row in (first, second)] == [3, 6]
    assert [row["policy_rows"] for row in (first, second)] == [10, 20]
    assert (second["rm_accuracy"], second["kl_parent"], second["kl_base"]) == (0.7, 0.5, 0.8)
    assert 0.5 <= first["rm_ceiling"] <= 1.0


def test_a_rejected_second_round_is_a_valid_end(held_back: Told) -> None:
    """The rejected version has a row with its reason and no win rate, for nobody can ask it; the demo succeeded."""
    written = held_back.written()
    assert [row["win_rate"] is None for row in written["rounds"]] == [False, True]
    assert (written["rounds"][1]["gate"], written["rounds"][1]["tokens"]) == ("fail", 9.0)
    assert written["rounds"][1]["vote_to_first_token_s"] is None
    assert (written["v2_vs_v1"], written["newest"]) == (None, 1)
    assert "held assistant@v2 back" in held_back.printed()


def test_a_release_that_people_refuse_is_no_success(told: Told) -> None:
    """Rolled back, version 1 has its row with the reason and is served to nobody; the exit status is 1."""
    told.learner(Verdict.PASS, Verdict.FAIL).end = "rolled_back"

    assert asyncio.run(told.run()) == 1

    first = told.written()["rounds"][0]
    assert (first["release"]["state"], first["release"]["reason"]) == ("rolled_back", "e = 40 against")
    assert (first["win_rate"], first["vote_to_first_token_s"]) == (None, None)


def test_a_release_that_is_never_decided_ends_the_demo(told: Told) -> None:
    """It says which, and what is known of it."""
    told.learner(Verdict.PASS).end = "open"
    config = CONFIG.model_copy(update={"release": CONFIG.release.model_copy(update={"timeout_s": 0.5})})

    with pytest.raises(PlumblineError, match="Release rel_1 is still open: nobody has voted yet"):
        asyncio.run(told.run(config))


def test_everybody_in_the_crowd_comes_once(held_back: Told) -> None:
    """First votes are evidence, so each person of a release has a name of their own."""
    raters = [vote["rater"]["id"] for vote in held_back.service.votes if vote["rater"]["id"].startswith("rel_1-")]
    assert len(raters) >= 5 and len(set(raters)) == len(raters)


def test_a_failed_chat_fails_the_demo(told: Told) -> None:
    """Streams that broke in round one are counted there, shown, and make the exit status 1."""
    told.learner(Verdict.PASS, Verdict.PASS)
    told.service.broken = "cut"

    assert asyncio.run(told.run()) == 1

    first, second = told.written()["rounds"]
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
