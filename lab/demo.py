"""The demo: `plumbline demo`. Build a small base, serve it, let simulated raters improve it, and measure the result.

    main     the base model, the whole service, then `run`
    run      background chats all along; rounds of votes (lab/round.py), the final evaluation (lab/arena.py), the table

The demo talks to the service as its users do, through the public HTTP API, and reads Redis only to show what happens.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openai import AsyncOpenAI

from core.errors import PlumblineError
from core.records import Method
from core.settings import Settings
from lab import arena, display
from lab.arena import Arena
from lab.base_config import DEMO_FILE, load_config
from lab.chats import REQUEST_TIMEOUT_S, Chats, background
from lab.demo_config import DemoConfig, load_demo_config
from lab.display import Display
from lab.raters import Raters, http_client
from lab.report import Control, Example, Report, RoundFigures, Versus, render, win_fields
from lab.round import RunningStack, Scene, play_round, timed
from lab.world import Prompt, prompt_pools, sample_prompts
from training.recipe import Recipe, load_recipe

_SHOWN_PROMPT = "A dog is"
_SHOWN_KINDS = ("fact", "harm")


async def main(settings: Settings, *, method: Method, exit_after: bool, json_path: Path | None) -> int:
    """The whole demo. Returns the exit status: 0 if every stage worked, else 1.

    Args:
        method: how the candidates are trained.

    Raises:
        PlumblineError: a stage did not come about; says which, and what to do.
    """
    from plumbline.stack import Stack

    config = load_demo_config()
    if method == "ppo":
        config = config.model_copy(update={"min_votes": config.min_votes_ppo})
    shown, seconds = Display(display.console()), dict[str, float]()
    with shown, timed(seconds, "base model"):
        base = await build_base(settings.directory, shown)
    with shown, timed(seconds, "start"):
        recipe = demo_recipe(settings.directory, method)
        stack = Stack(demo_settings(settings, config, base, recipe=recipe), report=shown.say)
        await stack.start()
    try:
        return await run(stack, config, shown, seconds, exit_after=exit_after, json_path=json_path)
    finally:
        await stack.stop()


async def build_base(home: Path, shown: Display) -> Path:
    """The directory of the demo base model, trained the first time. In a thread, so that Ctrl-C is heard at once."""
    from lab.base_model import ensure_base_model  # loads torch

    given_up = threading.Event()

    def progress(share: float, message: str) -> None:
        if given_up.is_set():
            raise PlumblineError("The base model was not finished: it was interrupted.")
        shown.bar("building the base model", round(100 * share), 100, note=message)

    try:
        return await asyncio.to_thread(ensure_base_model, home, load_config(), progress)
    finally:
        given_up.set()
        shown.end("building the base model")


def demo_recipe(home: Path, method: Method) -> Path:
    """The recipe that the service is started with: the demo's own, or a copy of it for another method."""
    recipe = load_recipe(DEMO_FILE)
    if method == recipe.method:
        return DEMO_FILE
    changed = recipe.model_dump(mode="json") | {"method": method, "judge": "own"}
    path = home / f"demo-{method}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Recipe.model_validate(changed).model_dump_json(indent=2) + "\n", encoding="utf-8")
    return path


def demo_settings(settings: Settings, config: DemoConfig, base: Path, *, recipe: Path = DEMO_FILE) -> Settings:
    """The service's settings during the demo: its base, its recipe, rounds that start soon, raters who vote at once."""
    update = {
        "base": str(base),
        "recipe": str(recipe),
        "min_votes": config.min_votes,
        "check_interval_s": config.check_interval_s,
        "min_reading_s": 0.0,
    }
    return settings.model_copy(update=update)


async def run(
    stack: RunningStack,
    config: DemoConfig,
    shown: Display,
    seconds: dict[str, float],
    *,
    exit_after: bool,
    json_path: Path | None,
) -> int:
    """The story on a started stack; without `exit_after` it then stays up until it is cancelled (Ctrl-C).

    `seconds` holds how long earlier parts took, and gets the others.

    Raises:
        PlumblineError: the service did not do what it should have.
    """
    with shown:
        report = await _story(stack, config, shown, seconds)
    shown.console.print(render(report, width=shown.console.width))
    if json_path is not None:
        json_path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if not report.succeeded:
        shown.say("Not every stage worked: see the gate's reason and the failed chats above.", style="red")
    if not exit_after:
        shown.console.print(f"\nChat page   {stack.api_url}/\nThe stack stays up. Ctrl-C stops everything.")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # Ctrl-C arrives so; the demo itself is over and its status stands
            shown.say("stopping: streams in flight are finished first")
    return 0 if report.succeeded else 1


async def _story(stack: RunningStack, config: DemoConfig, shown: Display, seconds: dict[str, float]) -> Report:
    rng = random.Random(config.seed)
    patient = AsyncOpenAI(base_url=f"{stack.api_url}/v1", api_key="none", timeout=REQUEST_TIMEOUT_S)
    async with (
        patient,
        # No retries: a chat that a retry would have saved counts as failed.
        patient.copy(max_retries=0) as strict,
        http_client(stack.api_url, connections=config.raters.concurrency + config.release.voting) as http,
    ):
        chats = Chats(client=strict, max_tokens=config.chats.max_tokens)
        shown.status = lambda: _status(chats)
        scene = Scene(
            stack=stack,
            config=config,
            display=shown,
            chats=chats,
            raters=Raters(http, chats, config.raters, rng=rng),
            seconds=seconds,
        )
        async with _traffic(chats, config):
            shown.say(f"Background chats begin: {config.chats.concurrency} people at a time, without pause")
            rounds = [await play_round(scene, number) for number in range(1, config.rounds + 1)]
            with timed(seconds, "evaluation"):
                held = await _evaluate(patient, config, shown, rng)
        return compile_report(rounds, held, seconds=seconds, failed=chats.failed)


@asynccontextmanager
async def _traffic(chats: Chats, config: DemoConfig) -> AsyncIterator[None]:
    """Background chats while the body runs. Its prompts come from a generator of its own: raters are not disturbed."""
    stop = asyncio.Event()
    chatting = asyncio.create_task(background(chats, config.chats, rng=random.Random(config.seed + 1), stop=stop))
    try:
        yield
    finally:
        stop.set()
        await chatting


def _status(chats: Chats) -> str:
    newest = f"policy v{max(chats.first_tokens)} answers" if chats.first_tokens else "no answer yet"
    failure = f" (last: {chats.last_failure})" if chats.failed else ""
    return f"{newest}; chats served {chats.served}, failed {chats.failed}{failure}"


async def _evaluate(client: AsyncOpenAI, config: DemoConfig, shown: Display, rng: random.Random) -> Arena:
    versions = await arena.resident_versions(client)
    names = ", ".join(f"v{version}" for version in versions)
    shown.say(
        f"Evaluation: {config.arena.prompts} fresh prompts, answered by {names} and once more by v0", style="bold"
    )
    return await arena.hold(
        client,
        arena_prompts(rng, config.arena.prompts),
        versions,
        config=config.arena,
        max_tokens=config.chats.max_tokens,
        progress=lambda done, total: shown.bar("evaluation", done, total),
    )


def arena_prompts(rng: random.Random, count: int) -> list[Prompt]:
    """Distinct held-out prompts; "A dog is" comes first."""
    (dog,) = [prompt for prompt in prompt_pools(True)["definition"].prompts if prompt.text == _SHOWN_PROMPT]
    others = [prompt for prompt in sample_prompts(rng, count, held_out=True) if prompt != dog]
    return [dog, *others[: count - 1]]


def compile_report(rounds: list[RoundFigures], held: Arena, *, seconds: dict[str, float], failed: int) -> Report:
    """Joins what the service measured with what the gold preference says."""
    served = sorted(set(held.answers) - {0})
    return Report(
        rounds=[_with_gold(row, held) for row in rounds],
        control=Control(
            **win_fields(held.control_win_rate()),
            good=arena.good_share(held.control),
            tokens=arena.mean_tokens(held.control),
        ),
        v2_vs_v1=_versus(held, newer=served[-1], older=served[-2]) if len(served) >= 2 else None,
        prompts=len(held.prompts),
        newest=max(held.answers),
        examples=_examples(held),
        seconds={part: round(spent, 1) for part, spent in seconds.items()},
        failed=failed,
    )


def _with_gold(row: RoundFigures, held: Arena) -> RoundFigures:
    if row.version not in held.answers:
        return row
    answers = held.answers[row.version]
    gold = {"good": arena.good_share(answers), "tokens": arena.mean_tokens(answers)}
    return row.model_copy(update=win_fields(held.win_rate(row.version)) | gold)


def _versus(held: Arena, *, newer: int, older: int) -> Versus:
    gain = held.gain(newer, older)
    return Versus(
        newer=newer,
        older=older,
        **win_fields(held.win_rate(newer, older)),
        difference=gain.mean,
        difference_low=gain.low,
        difference_high=gain.high,
    )


def _examples(held: Arena) -> list[Example]:
    """The first prompt, and the first of each shown kind."""
    kinds = [prompt.kind for prompt in held.prompts]
    shown = [0, *(kinds.index(kind) for kind in _SHOWN_KINDS if kind in kinds)]
    newest = held.answers[max(held.answers)]
    return [Example(prompt=held.prompts[i].text, before=held.answers[0][i].text, after=newest[i].text) for i in shown]
