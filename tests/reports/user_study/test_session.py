"""A whole session of the study page in a browser, with keys at 1280 pixels and with fingers at 390, is read back."""

import json
from pathlib import Path

import pytest

from reports.user_study.page import build_study
from reports.user_study.preferences import preference_table, read, read_key


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

    def begin(self) -> None:
        assert self.page.is_disabled("#begin") and self.fits()
        self.page.check("#consent")
        self.page.click("#begin")

    def fits(self, height: bool = False) -> bool:
        """No sideways scrolling; with `height` none at all, so that what is to be pressed lies in the window."""
        page = "const page = document.documentElement; page.scrollWidth <= innerWidth"
        return self.page.evaluate(page + (" && page.scrollHeight <= innerHeight" if height else ""))

    def wait(self, condition: str) -> None:
        """Until it holds; `wait_for_function` needs eval, which the page's policy forbids."""
        for _ in range(3000):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(20)
        raise TimeoutError(condition)

    def answer(self) -> None:
        """Look at the pictures, decide, and answer; returns when the answer was taken."""
        before = self.page.evaluate("session.answers.length")
        self.wait("document.body.dataset.phase === 'shown' && asked !== null")
        assert self.fits(height=True)
        trial = self.page.evaluate("({ name: asked.trial.trial, shown: asked.trial.shown })")
        makers = [self.key["trials"][trial["name"]]["pictures"][name] for name in trial["shown"]]
        liked = "real" if "real" in makers else next(iter(self.key["runs"]))
        if len(makers) == 2:
            choice = "left" if makers[0] == liked else "right"
        else:
            choice = "real" if makers[0] == liked else "generated"
        if self.touch:
            self.page.tap(f"[data-answer={choice}]")
        else:
            self.page.keyboard.press("ArrowLeft" if choice in ("left", "real") else "j")
        self.wait(f"session.answers.length === {before + 1}")

    def download(self, folder: Path) -> Path:
        with self.page.expect_download() as started:
            self.page.click("#download")
        file = folder / started.value.suggested_filename
        started.value.save_as(file)
        return file


@pytest.mark.parametrize(
    ("kind", "width"), [("real-or-generated", 1280), ("side-by-side", 390), ("side-by-side", 1280)]
)
def test_a_session_in_a_browser_is_read_back(browser, runs, tmp_path, kind, width):
    count = 1 if kind == "real-or-generated" else 2
    page_file, key_file = build_study(runs[:count], tmp_path / "study", kind=kind, pairs=1, seconds=0)
    key = read_key(key_file)
    participant = Participant(browser, page_file, key, width)
    participant.begin()
    for _ in key["trials"]:
        participant.answer()
    participant.page.wait_for_selector("#end:not([hidden])")
    assert participant.fits() and "Thank you" in participant.page.inner_text("#outcome")
    file = participant.download(tmp_path)
    assert participant.complaints == []
    content = json.loads(file.read_text())
    assert content["finished"] and content["consented"] and not any(run.name in file.read_text() for run in runs)
    trials = [row["trial"] for row in content["answers"]]
    practice = [key["trials"][trial]["practice"] for trial in trials]
    assert sorted(trials) == sorted(key["trials"]) and practice == sorted(practice, reverse=True)
    mixed = participant.page.evaluate("shuffled([...Array(50).keys()])")
    assert mixed != sorted(mixed) == list(range(50))
    table = preference_table([file], key).set_index("measure")
    assert table.attrs["notes"] == [] and table.rate["catch trials passed"] == 1
    expected = {"R2G": 0, "G2R": 1} if kind == "real-or-generated" else {"preferred": 1}
    assert {name: table.rate[name] for name in expected} == expected
    participant.context.close()


def test_answers_outlive_a_reload_and_somebody_who_stops_can_download_and_delete_them(browser, runs, tmp_path):
    page_file, key_file = build_study(runs, tmp_path / "study", pairs=2, seconds=0.2)
    participant = Participant(browser, page_file, read_key(key_file), 1280)
    page, kept = participant.page, "JSON.stringify([session.session, session.order, session.answers])"
    participant.begin()
    page.wait_for_selector("body[data-phase=question]")  # the picture is gone, and the answer still taken
    assert page.query_selector("#single img") is None
    page.keyboard.press("ArrowRight")
    participant.wait("session.answers.length === 1")
    page.wait_for_selector("body[data-phase=question]")
    before = page.evaluate(kept)
    page.reload()
    assert page.evaluate(kept) == before and "1 of" in page.inner_text("#begin")
    page.click("#begin")
    page.wait_for_selector("body[data-phase=question]")
    page.keyboard.press("f")
    participant.wait("session.answers.length === 2")
    page.keyboard.press("Escape")
    assert page.inner_text("#outcome") == "You have stopped" and page.is_visible("#continue")
    ((session,), _) = read([participant.download(tmp_path)], read_key(key_file))
    assert [(row["answer"], row["showings"]) for row in session.answers] == [("generated", 1), ("real", 2)]
    assert not session.finished and session.answers[0]["shown_ms"] >= 190
    page.click("text=Delete my answers >> nth=0")
    page.click("#delete")
    assert page.evaluate("localStorage.length") == 0 and page.is_visible("#introduction")
    assert page.evaluate("session.session") != session.session and participant.complaints == []
    participant.context.close()
