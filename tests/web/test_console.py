"""The operator console on the whole admin API, over a real Redis; only the engine is scripted."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from core import audit, keys, registry, releases
from core.records import AuditEvent
from feedback import rater_review
from tests.plumbline.replicas import Deployment, Replica, chat
from tests.waiting import eventually
from tests.web import lived_in
from tests.web.chromium import visit
from tests.web.payloads import PAYLOADS

pytestmark = pytest.mark.browser
SECTIONS = ["Loop", "Versions", "Feedback", "Runs", "Lineage", "Compare", "Audit"]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Version 2 is live, the release of version 4 at 10 %."""
    it = lived_in.lived_in(tmp_path)
    yield it
    it.stop()


@pytest.fixture
def replica(deployment: Deployment) -> Replica:
    return deployment.replica()


@pytest.fixture
def console(browser: Browser, replica: Replica) -> Iterator[Page]:
    with visit(browser, replica.admin_url, "/console") as page:
        expect(page.locator("#live")).to_contain_text("assistant@v2")
        yield page


def newest(deployment: Deployment) -> AuditEvent:
    return audit.history(deployment.store.client())[-1]


def tab_to(page: Page, name: str) -> None:
    """Goes on by Tab until a control of that name has the focus."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    raise AssertionError(f"no control {name!r} is reached by Tab")


def act(page: Page, button: str, reason: str) -> None:
    """An act from its button to its end, by keys alone."""
    tab_to(page, button)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    page.keyboard.type(reason)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_promote_and_roll_back_by_keyboard_alone(console: Page, deployment: Deployment, replica: Replica) -> None:
    """Each is in traffic and in the audit trail, with the reason; promoting by hand ends the open release."""
    client = deployment.store.client()
    console.keyboard.press("2")
    expect(console.get_by_role("heading", name="Versions")).to_be_visible()
    act(console, "Promote v1…", "v2 is too terse")
    expect(console.locator("#live")).to_contain_text("assistant@v1")
    told = newest(deployment)
    assert (told.action, told.version, told.actor, told.reason) == ("promote", 1, "api:local", "v2 is too terse")
    assert releases.release(client, "rel_4").state == "stopped"
    eventually(lambda: chat(replica.url, "").json()["model"] == "assistant@v1")

    console.keyboard.press("1")
    act(console, "Roll back to v0…", "it was not")
    expect(console.locator("#live")).to_contain_text("assistant@v0")
    told = newest(deployment)
    assert (told.action, told.version, told.actor, told.reason) == ("rollback", 0, "api:local", "it was not")
    eventually(lambda: chat(replica.url, "").json()["model"] == "assistant@v0")

    console.keyboard.press("7")
    rows = console.get_by_role("group", name="Audit").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("it was not")
    expect(console.get_by_text("whole and in order")).to_be_visible()


def test_what_happens_is_said_before_and_a_refusal_after(console: Page, deployment: Deployment) -> None:
    """Without a reason nothing is sent; what the server refuses stands in the dialog, with the reason still there."""
    console.get_by_role("button", name="Stop the release…").click()
    dialog = console.get_by_role("dialog", name="Stop the release of v4?")
    expect(dialog).to_contain_text("v2 answers everybody again")
    dialog.get_by_label("Reason").press("Control+Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("Say why")
    client = deployment.store.client()
    releases.end(client, "rel_4", state="stopped", actor="cli:ann", reason="I was faster")
    dialog.get_by_label("Reason").fill("not today")
    dialog.get_by_role("button", name="Stop the release").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not open any more")
    expect(dialog.get_by_label("Reason")).to_have_value("not today")
    console.keyboard.press("Escape")
    expect(console.get_by_role("region", name="Release")).to_contain_text("Last release")
    assert newest(deployment).reason == "I was faster"
    console.get_by_role("button", name="Train now…").click()
    console.get_by_label("Reason").fill("the votes are worth it")
    console.get_by_role("button", name="Train now", exact=True).click()
    expect(console.get_by_text("A round was asked for.")).to_be_visible()


def test_a_dialog_that_is_left_while_it_is_sent(console: Page, deployment: Deployment) -> None:
    """What came of it is said all the same, a refusal as well as a success, and the dialog opened since stays open."""
    held: list[Route] = []
    console.route("**/promote", lambda route: held.append(route))
    for refused in (True, False):
        console.keyboard.press("2")
        console.get_by_role("button", name="Promote v1…").click()
        console.get_by_label("Reason").fill("v2 is too terse")
        with console.expect_request("**/promote"):
            console.get_by_role("button", name="Promote v1", exact=True).click()
        console.keyboard.press("Escape")
        expect(console.get_by_role("dialog")).to_have_count(0)
        console.keyboard.press("1")
        console.get_by_role("button", name="Stop the release…").click()
        stop = console.get_by_role("dialog", name="Stop the release of v4?")
        expect(stop).to_be_visible()
        if refused:
            held.pop().fulfill(status=503, json={"error": {"message": "Not now.", "type": "server_error"}})
            expect(console.locator("#toast")).to_have_text("Not now.")
        else:
            held.pop().continue_()
            expect(console.locator("#toast")).to_contain_text("v1")
            assert newest(deployment).action == "promote"
        expect(stop).to_be_visible()
        console.keyboard.press("Escape")
        expect(stop).to_have_count(0)


def test_a_rater_is_set_aside_and_taken_back(console: Page, deployment: Deployment) -> None:
    """By their id, with a reason; the table follows."""
    client = deployment.store.client()
    console.keyboard.press("3")
    aside = console.get_by_role("region", name="Raters in quarantine")
    expect(aside).to_contain_text("@acme/reviewer-9")
    aside.get_by_label("Put a rater in quarantine").fill("person-7")
    act(console, "Quarantine…", "a script")
    expect(aside.get_by_role("rowheader", name="person-7")).to_be_visible()
    assert client.sismember(keys.QUARANTINED, "person-7")
    row = aside.get_by_role("row").filter(has_text="@acme/reviewer-9")
    row.get_by_role("button").click()
    console.get_by_label("Reason").fill("I know them")
    console.get_by_role("button", name="Take back", exact=True).click()
    expect(console.get_by_role("dialog")).to_have_count(0)
    expect(row).to_have_count(0)
    assert not client.sismember(keys.QUARANTINED, "@acme/reviewer-9")


def test_a_run_is_watched_and_cancelled(console: Page, deployment: Deployment) -> None:
    """Its progress on the first screen, its log as it grows, and why it ended."""
    run = lived_in.running(deployment.store.client())
    expect(console.get_by_role("region", name="Training")).to_contain_text("candidate, 40 %")
    console.keyboard.press("4")
    log = deployment.settings.artifacts / "runs" / run / "attempt-1" / "candidate.log"
    log.parent.mkdir(parents=True)
    log.write_text("step 1\n")
    expect(console.get_by_role("log", name="candidate.log")).to_contain_text("step 1")
    with log.open("a") as end:
        end.write("step 2\n")
    expect(console.get_by_role("log", name="candidate.log")).to_contain_text("step 2")
    row = console.get_by_role("row").filter(has_text=run[:12])
    row.get_by_role("button", name="Cancel").click()
    console.get_by_label("Reason").fill("the recipe is wrong")
    console.get_by_role("button", name="Cancel the run").click()
    expect(row).to_contain_text("cancelled")


def test_figures_are_shown_as_they_are(console: Page, deployment: Deployment) -> None:
    """The picture of the evidence has the API's numbers, also as a table; the next votes move it."""
    release = console.get_by_role("region", name="Release")
    picture = release.get_by_role("img", name="Evidence")
    expect(picture).to_have_accessible_name(re.compile("After 140 people"))
    lived_in.votes(deployment, lived_in.CANDIDATE, people=20, preferred=1.0, named="later")
    expect(picture).to_have_accessible_name(re.compile("After 160 people"))
    release.get_by_text("As a table").first.click()
    expect(release.get_by_role("group", name="Evidence").get_by_role("row").last).to_contain_text("160")
    console.keyboard.press("2")
    expect(console.get_by_role("region", name="Leaderboard").get_by_role("row")).to_have_count(5)
    for name in ("Win rate over the version before", "Refusals"):
        expect(console.get_by_role("img", name=name)).to_be_visible()
    console.keyboard.press("5")
    expect(console.locator(".lineage > li")).to_have_count(3)
    expect(console.locator(".lineage > li").first).to_contain_text("800 pairs")


def test_versions_answer_beside_each_other(console: Page, replica: Replica) -> None:
    """Both arms of the open release by themselves; what people said of them stands below."""
    replica.engine.words = {"assistant@v2": ("old ", None), "assistant@v4": ("**new** ", None)}
    console.keyboard.press("6")
    console.get_by_label("Prompt").fill("A dog is")
    console.get_by_role("button", name="Answer by both").click()
    cards = console.get_by_role("article")
    expect(cards.nth(0)).to_contain_text("old old")
    expect(cards.nth(1).locator("strong").first).to_have_text("new")
    expect(console.get_by_role("region", name="People")).to_contain_text("140 votes of 140 raters")


def test_whatever_is_shown_is_only_text(browser: Browser, deployment: Deployment, replica: Replica) -> None:
    """Logs, samples, reasons and the names of raters: nothing runs, nothing loads, no policy is violated."""
    client, image, drawing = deployment.store.client(), PAYLOADS[0], PAYLOADS[2]
    hostile = "\n\n".join(PAYLOADS)
    rater_review.quarantine(client, image, reason=drawing, actor=drawing, seen="")
    registry.promote(client, 1, actor=drawing, reason=image)
    run = lived_in.running(client)
    log = deployment.settings.artifacts / "runs" / run / "attempt-1" / "candidate.log"
    log.parent.mkdir(parents=True)
    log.write_text(hostile)
    replica.engine.words = {f"assistant@v{version}": (f"{hostile}\n\n", None) for version in range(3)}
    with visit(browser, replica.admin_url, "/console") as page:
        page.keyboard.press("3")
        expect(page.get_by_role("rowheader", name=image)).to_be_visible()
        page.keyboard.press("4")
        expect(page.get_by_role("log", name="candidate.log")).to_contain_text("<script>window.ran=1</script>")
        page.keyboard.press("7")
        expect(page.get_by_role("cell", name=drawing).first).to_be_visible()
        page.keyboard.press("6")
        page.get_by_label("Prompt").fill("A dog is")
        page.get_by_role("button", name="Answer by both").click()
        expect(page.get_by_role("article").first).to_contain_text("<script>window.ran=1</script>")
        assert page.evaluate("window.ran") is None
        made = "img, iframe, object, base, video, script:not([src]), [onerror], [onload]"
        assert page.locator(made).count() == 0


def test_figures_that_are_not_of_now_say_so(console: Page, deployment: Deployment) -> None:
    """While Redis is away the last ones stay, marked; acts are refused kindly; all goes on when it is back."""
    release = console.get_by_role("region", name="Release")
    expect(release).to_contain_text("won, tied, lost")
    deployment.store.stop()
    expect(console.locator("#live")).to_contain_text("not of now")
    expect(release.get_by_role("status").first).to_contain_text("cannot be reached right now")
    expect(release).to_contain_text("won, tied, lost")
    console.get_by_role("button", name="Roll back to v1…").click()
    console.get_by_label("Reason").fill("it is bad")
    console.get_by_role("button", name="Roll back to v1", exact=True).click()
    expect(console.get_by_role("alert").filter(has_text="cannot be reached")).to_be_visible()
    deployment.store.start()
    expect(console.locator("#live")).not_to_contain_text("not of now")
    console.get_by_role("button", name="Roll back to v1", exact=True).click()
    expect(console.locator("#live")).to_contain_text("assistant@v1")


def test_a_key_is_asked_for_where_one_is_needed(browser: Browser, deployment: Deployment) -> None:
    """The document needs none and holds nothing. A wrong key is refused, one that may only look cannot act, a tenant's
    sees nothing; it is kept for this tab, and nowhere else."""
    reading, _ = deployment.key("read")
    tenants, _ = deployment.key("admin", tenant="acme")
    acting, admin = deployment.key("admin")
    replica = deployment.replica()
    replica.knows(admin)
    with visit(browser, replica.admin_url, "/console") as page:
        field, enter = page.get_by_label("API key"), page.get_by_role("button", name="Open the console")
        expect(field).to_be_focused()
        field.fill(reading[:-1] + ("0" if reading[-1] != "0" else "1"))
        enter.click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        field.fill(tenants)
        enter.click()
        expect(page.get_by_text("it is a tenant's").first).to_be_visible()
        page.get_by_role("button", name="Forget the key").click()
        field.fill(reading)
        field.press("Enter")
        expect(page.locator("#live")).to_contain_text("assistant@v2")
        page.get_by_role("button", name="Roll back to v1…").click()
        page.get_by_label("Reason").fill("may I?")
        page.get_by_role("button", name="Roll back to v1", exact=True).click()
        expect(page.get_by_role("alert").filter(has_text="lacks the scope: admin")).to_be_visible()
        page.keyboard.press("Escape")
        page.reload()
        expect(page.locator("#live")).to_contain_text("assistant@v2")
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie").count("plumb_") == 0
        page.get_by_role("button", name="Forget the key").click()
        field.fill(acting)
        field.press("Enter")
        page.get_by_role("button", name="Roll back to v1…").click()
        page.get_by_label("Reason").fill("I may")
        page.get_by_role("button", name="Roll back to v1", exact=True).click()
        expect(page.locator("#live")).to_contain_text("assistant@v1")
    assert newest(deployment).actor == f"api:{admin}"


def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, deployment: Deployment, replica: Replica) -> None:
    """375 px: every section, long names and reasons too; wide tables scroll by themselves."""
    client = deployment.store.client()
    registry.promote(client, 1, actor="a" * 200, reason="r" * 500)
    with visit(browser, replica.admin_url, "/console", viewport={"width": 375, "height": 740}) as page:
        for at, title in enumerate(SECTIONS, start=1):
            page.keyboard.press(str(at))
            expect(page.get_by_role("main", name=title)).to_be_visible()
            expect(page.get_by_text("Looking it up…")).to_have_count(0)
            widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert widths == [375, 375], title
        page.keyboard.press("2")
        page.get_by_role("button", name="Promote v4…").click()
        expect(page.get_by_role("dialog")).to_be_in_viewport()


def test_a_section_asks_only_while_it_is_shown_and_once_at_a_time(console: Page) -> None:
    """What is not on the screen is not looked up; what is, never before the answer to the last look."""
    console.keyboard.press("4")
    expect(console.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    asked: list[str] = []
    ended: list[str] = []
    console.on("request", lambda request: asked.append(request.url.rpartition("/v1/")[2]))
    console.on("requestfinished", lambda request: ended.append(request.url.rpartition("/v1/")[2]))
    looks = "runs?limit=30"
    for _ in range(2):
        with console.expect_request(lambda request: request.url.endswith(f"/v1/{looks}")):
            pass
    assert asked.count(looks) - ended.count(looks) <= 1
    assert not {"audit", "leaderboard", "trust", "rounds/next"} & set(asked)


def test_the_public_listener_has_no_console(replica: Replica) -> None:
    """Nor the admin listener a chat; both have what pages load."""
    paths = ("/console", "/console.html", "/", "/tasks")
    assert [httpx.get(f"{replica.url}{path}").status_code for path in paths] == [404, 404, 200, 200]
    assert [httpx.get(f"{replica.admin_url}{path}").status_code for path in paths] == [200, 404, 404, 404]
    assert httpx.delete(f"{replica.admin_url}/v1/audit").headers["allow"] == "GET"
