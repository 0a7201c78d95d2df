"""The page of rater tasks in a real Chromium, over the real feedback API and a real Redis."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Route, expect

import feedback.app
import plumbline.page
import web
from core import http, keys
from core.records import SIDES, Comparison
from core.redis import connect_async
from core.settings import Settings
from feedback import store, task_endpoints
from feedback.task_schemas import TaskResult
from tests.feedback.conftest import completion_record

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=window.ran=1>"


@pytest.fixture
def address(redis_server: str, redis_client: redis.Redis) -> Iterator[str]:
    """Where the page and the raters' API are."""
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20)
    feedback.app.attach(app, redis_server, Settings())
    app.mount("/", plumbline.page.Page(web.directory(), plumbline.page.VISITORS))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def add(redis_server: str, redis_client: redis.Redis) -> Callable[..., TaskResult]:
    """Adds a task about answers of its own."""

    def put(kind: str, answers: list[str], **more: object) -> TaskResult:
        ids = [f"chatcmpl-{kind}-{index}" for index in range(len(answers))]
        for each, text in zip(ids, answers, strict=True):
            record = completion_record(each, choices=[{"index": 0, "text": text, "token_ids": [4]}])
            redis_client.hset(keys.completion(each), mapping={"record": record.to_json(), "state": record.state})
        target = {"type": "completion", "id": ids[0]}
        if len(ids) > 1:
            target = {"type": "comparison", "id": f"cmp_{kind}"}
            places = list(range(len(ids)))
            compared = Comparison(
                id=target["id"], created=1.0, completion_ids=ids, policy_versions=places, order=places
            )
            redis_client.hset(keys.comparison(target["id"]), "record", compared.to_json())

        async def work() -> list[TaskResult]:
            client = connect_async(redis_server)
            try:
                return await task_endpoints.add(client, [{"kind": kind, "target": target} | more], window_s=3600)
            finally:
                await client.aclose()

        results: list[TaskResult] = []
        worker = threading.Thread(target=lambda: results.extend(asyncio.run(work())))
        worker.start()  # Playwright's event loop keeps others out of this thread
        worker.join()
        assert [result.status for result in results] == [201], results
        return results[0]

    return put


def start(page: Page, address: str) -> None:
    page.goto(f"{address}/tasks")
    page.get_by_label("Your rater id").fill("ann")
    page.keyboard.press("Enter")


def test_all_kinds_by_keyboard(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """Pick, rank, rate and correct, each with the keyboard alone; then there is nothing left."""
    add("compare", ["A pet.", HOSTILE], instructions=f"Prefer what is *true*. {HOSTILE}")
    add("rank", ["One.", "Two.", "Three.", "Four."])
    add("rate", ["A pet."])
    add("correct", ["A pte."])
    with browser.new_context(viewport={"width": 375, "height": 740}) as context:
        page = context.new_page()
        start(page, address)
        expect(page.locator(".instructions em")).to_have_text("true")
        expect(page.locator("#progress")).to_have_text("0 done, 4 to do")
        page.keyboard.press("3")
        expect(page.get_by_role("heading", name="Rank the answers")).to_be_visible()
        for key in "52113":  # there is no fifth place
            page.keyboard.press(key)
        expect(page.get_by_role("button", name="Send the ranking")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_have_text("2 done, 2 to do")
        page.get_by_role("button", name="Excellent").wait_for()
        page.keyboard.press("4")
        page.get_by_label("The answer as it should be").fill("A pet.")
        page.keyboard.press("Control+Enter")
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
        assert page.evaluate("window.ran") is None
        widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert page.evaluate(widths) == [375, 375]
    said = {vote.feedback.kind: vote.feedback.value for vote in store.log(redis_client)[0]}
    assert said == {
        "preference": "b",
        "ranking": [["b", "c"], ["a"], ["d"]],
        "rating": 4,
        "correction": "A pet.",
    }


def test_ranking_by_mouse(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """An answer without a place is asked for; a place can be changed, by its menu or by the key while it has focus."""
    add("rank", ["One.", "Two.", "Three."])
    with browser.new_context() as context:
        page = context.new_page()
        start(page, address)
        place = [page.locator("article", has_text=f"Answer {side.upper()}").get_by_label("Place") for side in SIDES[:3]]
        place[0].select_option("1")
        place[1].select_option("3")
        page.get_by_role("button", name="Send the ranking").click()
        expect(page.locator("#toast")).to_contain_text("Give every answer a place")
        place[2].select_option("2")
        place[0].press("2")
        page.get_by_role("button", name="Send the ranking").click()
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    assert [vote.feedback.value for vote in store.log(redis_client)[0]] == [[["a", "c"], ["b"]]]


def test_ranking_by_drag(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """A card goes where its handle is dragged, or moved by the arrow keys; each then has the place where it stands."""
    add("rank", ["One.", "Two.", "Three."])
    with browser.new_context() as context:
        page = context.new_page()
        start(page, address)
        cards = page.locator(".ranking article")
        handle = page.get_by_role("button", name="Move answer C").bounding_box()
        top = cards.first.bounding_box()
        assert handle and top
        page.mouse.move(handle["x"] + 5, handle["y"] + 5)
        page.mouse.down()
        page.mouse.move(handle["x"] + 5, top["y"] + 5, steps=8)
        page.mouse.up()
        expect(cards.locator("h3")).to_have_text(["Answer C", "Answer A", "Answer B"])
        page.get_by_role("button", name="Move answer A").press("ArrowDown")
        expect(cards.locator("h3")).to_have_text(["Answer C", "Answer B", "Answer A"])
        expect(page.get_by_role("button", name="Move answer A")).to_be_focused()
        page.get_by_role("button", name="Send the ranking").click()
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    assert [vote.feedback.value for vote in store.log(redis_client)[0]] == [[["c"], ["b"], ["a"]]]


def test_ranking_by_finger(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """On a touch screen a card follows the finger on its handle, and the page does not scroll meanwhile."""
    add("rank", ["One.", "Two.", "Three."])
    with browser.new_context(viewport={"width": 375, "height": 500}, has_touch=True) as context:
        page = context.new_page()
        start(page, address)
        cards = page.locator(".ranking article")
        cards.last.scroll_into_view_if_needed()
        scrolled = page.evaluate("scrollY")
        handle = page.get_by_role("button", name="Move answer C").bounding_box()
        goal = cards.nth(1).bounding_box()
        assert handle and goal
        finger, x = context.new_cdp_session(page), handle["x"] + 5
        for kind, y in [
            ("touchStart", handle["y"] + 5),
            ("touchMove", (handle["y"] + goal["y"]) / 2),
            ("touchMove", goal["y"] + 5),
            ("touchEnd", None),
        ]:
            points = [] if y is None else [{"x": x, "y": y}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        expect(cards.locator("h3")).to_have_text(["Answer A", "Answer C", "Answer B"])
        assert page.evaluate("scrollY") == scrolled
        page.wait_for_timeout(500)  # what Chromium sees at once after, it may take for a part of the same gesture
        page.get_by_role("button", name="Send the ranking").tap()
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    assert [vote.feedback.value for vote in store.log(redis_client)[0]] == [[["a"], ["c"], ["b"]]]


def test_what_cannot_be_saved_stays(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """A refusal is told and the task stays; skipping goes on."""
    add("correct", ["A pet."])
    with browser.new_context() as context:
        page = context.new_page()
        start(page, address)
        page.get_by_role("button", name="Send the correction").click()
        expect(page.locator("#toast")).to_contain_text("nothing was corrected")
        page.get_by_role("button", name="Skip").click()
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    assert redis_client.hget(keys.task_rater("ann"), "@skipped") == "1"


def test_one_thing_is_sent_at_a_time(browser: Browser, address: str, add, redis_client: redis.Redis) -> None:
    """While a skip is on its way, neither an answer nor another skip is."""
    add("compare", ["One.", "Two."])
    held: list[Route] = []
    with browser.new_context() as context:
        page = context.new_page()
        start(page, address)
        buttons = page.get_by_role("group", name="Which answer is better?")
        expect(buttons).to_be_visible()
        page.route("**/skip", lambda route: held.append(route))
        with page.expect_request("**/skip"):
            page.keyboard.press("0")
        expect(buttons).to_have_attribute("aria-busy", "true")
        page.keyboard.press("0")
        page.keyboard.press("1")
        held[0].continue_()
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    assert len(held) == 1
    assert store.log(redis_client)[0] == []
