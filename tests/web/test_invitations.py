"""Links with an invitation, in a real Chromium on a whole API whose page is open to everybody."""

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from core import keys
from feedback import store
from tests.plumbline.replicas import Deployment, Replica
from tests.plumbline.visiting import Visitor, invitation
from tests.web.chromium import visit
from tests.web.driving import good
from tests.web.test_accessible import LOOKS, axe

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Replica:
    return deployment.replica(page="open")


def question(page: Page):
    return page.get_by_role("alertdialog", name="An invitation")


def add_task(replica: Replica) -> None:
    """About what a stranger asked."""
    asked = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}
    compared = Visitor(replica.url).send("POST", "/v1/comparisons", json=asked).json()["id"]
    item = {"kind": "compare", "target": {"type": "comparison", "id": compared}}
    added = httpx.post(f"{replica.admin_url}/v1/tasks", json={"items": [item]}).json()
    assert [it["status"] for it in added["results"]] == [201], added


def test_from_the_link_to_an_answered_task(browser: Browser, deployment: Deployment, replica: Replica) -> None:
    """The token leaves the address at once; after the yes the browser is the rater of the link, also when it comes
    again without it."""
    add_task(replica)
    link = invitation(deployment, "ann")
    with visit(browser, replica.url, f"/tasks#invitation={link}") as page:
        expect(question(page)).to_contain_text("You are invited to rate here as ann, until ")
        assert page.url == f"{replica.url}/tasks"
        assert page.context.cookies() == [], "nobody is anybody before the yes"
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#progress")).to_have_text("0 done, 1 to do")
        page.reload()
        expect(page.get_by_text("You rate as ann.")).to_be_visible()
        expect(page.get_by_role("button", name="A is better")).to_be_visible()
        page.keyboard.press("1")
        expect(page.get_by_text("Nothing is left for you.")).to_be_visible()
    [vote] = store.log(deployment.store.client())[0]
    assert (vote.feedback.rater, vote.feedback.value) == ("ann", "a")


def test_a_browsers_own_session_is_not_replaced_unasked(
    browser: Browser, deployment: Deployment, replica: Replica
) -> None:
    """By a link that is followed on an open chat: who says no stays who they were, with their conversations."""
    link = invitation(deployment, "ann")
    with visit(browser, replica.url) as page:
        page.get_by_label("Message", exact=True).fill("A dog is")
        page.keyboard.press("Enter")
        expect(good(page)).to_be_visible()
        [before] = page.context.cookies()
        page.evaluate(f"location.hash = 'invitation={link}'")
        expect(question(page)).to_contain_text("as ann")
        question(page).get_by_role("button", name="Not me").click()
        expect(page.get_by_role("navigation").get_by_text("A dog is")).to_be_visible()
        assert [it["value"] for it in page.context.cookies()] == [before["value"]]


def test_what_a_link_that_is_over_says(browser: Browser, deployment: Deployment, replica: Replica) -> None:
    """Nothing is asked, and the visitor goes on as themselves, whom tasks are not for."""
    link = invitation(deployment, "ann")
    deployment.store.client().delete(keys.INVITATIONS)
    with visit(browser, replica.url, f"/tasks#invitation={link}") as page:
        expect(page.locator("#toast")).to_contain_text("This invitation is not good any more")
        expect(page.get_by_role("alert")).to_contain_text("for raters who were invited")
        assert page.url == f"{replica.url}/tasks"
        expect(page.get_by_text("You rate as web-")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious(
    browser: Browser, deployment: Deployment, replica: Replica, scheme: str, width: int
) -> None:
    """While the question is open, on either page."""
    link = invitation(deployment, "ann")
    look = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    for path in ("/", "/tasks"):
        with visit(browser, replica.url, f"{path}#invitation={link}", **look) as page:
            expect(question(page)).to_be_visible()
            assert axe(page) == []
