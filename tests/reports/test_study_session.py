"""A whole session of the study page in a browser, with keys at 1280 pixels and with fingers at 390, is read back."""

import json
from pathlib import Path

import pytest
from study_runs import painted_runs, told

from reports.preferences import preference_table, read, read_key
from reports.study_page import build_study


@pytest.fixture(scope="module")
def runs(tmp_path_factory, fabricator):
    return painted_runs(tmp_path_factory.mktemp("study"), fabricator)


class Participant:
    """Somebody with the page open, who takes the first method's pictures for real ones and prefers them."""

    def __init__(self, browser, page_file: Path, key: dict, width: int):
        touch = width < 640
        self.context = browser.new_context(
            viewport={"width": width, "height": 844 if touch else 800}, has_touch=touch, is_mobile=touch, offline=True
        )
        self.key, self.touch, self.complaints = key, touch, []
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # a busy machine is slow, and nothing here is about speed
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(page_file.as_uri())

    def press(self, selector: str) -> None:
        (self.page.tap if self.touch else self.page.click)(selector)

    def begin(self) -> None:
        assert self.page.is_disabled("#begin")
        self.page.check("#consent")
        self.press("#begin")

    def fits(self) -> bool:
        """No sideways scrolling, and what is to be pressed lies in the window."""
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def answer(self) -> None:
        """Look at the pictures, decide, and answer; returns when the answer was taken."""
        before = self.page.evaluate("session.answers.length")
        self.page.wait_for_selector("body[data-phase=shown]")
        assert self.fits() and self.page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        trial = self.page.evaluate(
            "({ name: order[session.answers.length].trial, shown: order[session.answers.length].shown })"
        )
        makers = [self.key["trials"][trial["name"]]["pictures"][name] for name in trial["shown"]]
        first = next(iter(self.key["runs"]))
        if len(makers) == 2:
            liked = "real" if "real" in makers else first
            choice = "left" if makers[0] == liked else "right"
        else:
            choice = "real" if makers[0] in ("real", first) else "generated"
        self.page.wait_for_function("asked !== null")
        if self.touch:
            self.press(f"[data-answer={choice}]")
        else:
            self.page.keyboard.press("ArrowLeft" if choice in ("left", "real") else "j")
        self.page.wait_for_function(f"session.answers.length === {before + 1}")

    def download(self, folder: Path) -> Path:
        with self.page.expect_download() as started:
            self.press("#download")
        file = folder / started.value.suggested_filename
        started.value.save_as(file)
        return file


def order_from(seed: int, trials: list[dict]) -> list[tuple[str, str]]:
    """(trial, its first picture) in the order that follows from a session's seed (xorshift, Fisher and Yates)."""
    state = seed

    def random() -> float:
        nonlocal state
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        return state / 2**32

    order = []
    for practice in (True, False):
        part = [trial for trial in trials if trial["practice"] is practice]
        for last in range(len(part) - 1, 0, -1):
            other = int(random() * (last + 1))
            part[last], part[other] = part[other], part[last]
        order += part
    return [(trial["trial"], trial["pictures"][0] if random() < 0.5 else trial["pictures"][-1]) for trial in order]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["real-or-generated", "side-by-side"])
def test_a_session_in_a_browser_is_read_back(browser, runs, tmp_path, kind, width):
    page_file, key_file = build_study(
        runs[:1] if kind == "real-or-generated" else runs, tmp_path / "study", kind=kind, pairs=1, seconds=0
    )
    key = read_key(key_file)
    participant = Participant(browser, page_file, key, width)
    assert participant.fits()
    participant.begin()
    for _ in key["trials"]:
        participant.answer()
    participant.page.wait_for_selector("#end:not([hidden])")
    assert participant.fits() and "Thank you" in participant.page.inner_text("#outcome")
    file = participant.download(tmp_path)
    assert participant.complaints == []
    content = json.loads(file.read_text())
    assert content["finished"] and content["consented"] and not any(run.name in file.read_text() for run in runs)
    order = order_from(content["seed"], told(page_file)["trials"])
    assert [row["trial"] for row in content["answers"]] == [trial for trial, _ in order]
    if kind == "side-by-side":
        assert [row["left"] for row in content["answers"]] == [left for _, left in order]
    table = preference_table([file], key).set_index("measure")
    assert table.attrs["notes"] == [] and table.rate["catch trials passed"] == 1
    expected = {"R2G": 0, "G2R": 1} if kind == "real-or-generated" else {"preferred": 1}
    assert {name: table.rate[name] for name in expected} == expected
    participant.context.close()


def test_answers_outlive_a_reload_and_somebody_who_stops_can_download_and_delete_them(browser, runs, tmp_path):
    page_file, key_file = build_study(runs, tmp_path / "study", pairs=2, seconds=0.2)
    key = read_key(key_file)
    participant = Participant(browser, page_file, key, 1280)
    page = participant.page
    participant.begin()
    page.wait_for_selector(
        "body[data-phase=question]"
    )  # after its time the picture is gone, and the answer still taken
    assert page.query_selector("#single img") is None
    page.keyboard.press("ArrowRight")
    page.wait_for_function("session.answers.length === 1")
    page.wait_for_selector("body[data-phase=question]")
    before = page.evaluate("JSON.stringify([session.session, session.seed, session.answers])")
    page.reload()
    assert page.evaluate("JSON.stringify([session.session, session.seed, session.answers])") == before
    assert "1 of" in page.inner_text("#begin")
    page.click("#begin")
    page.wait_for_selector("body[data-phase=question]")
    page.keyboard.press("f")
    page.wait_for_function("session.answers.length === 2")
    page.keyboard.press("Escape")
    assert page.inner_text("#outcome") == "You have stopped" and page.is_visible("#continue")
    file = participant.download(tmp_path)
    (session,) = read([file], key).sessions
    assert [(row["answer"], row["showings"]) for row in session.answers] == [("generated", 1), ("real", 2)]
    assert not session.finished and session.answers[0]["shown_ms"] >= 190
    page.click("text=Delete my answers >> nth=0")
    page.click("#delete")
    assert page.evaluate("localStorage.length") == 0 and page.is_visible("#introduction")
    assert page.evaluate("session.session") != session.session
    assert participant.complaints == []
    participant.context.close()
