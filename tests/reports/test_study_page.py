"""The study page shows the pictures that were scored without saying who made them, and a whole session of it in a
browser, with keys at 1280 and with fingers at 390 pixels, gives answers that the suite reads back.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.preferences import preference_table, read, read_key
from reports.study_page import build_study, main
from reports.study_trials import scrambled
from xinggan.data.packed import open_packed
from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

COLOURS = {"alder": (200, 30, 30), "birch": (30, 30, 200)}  # what each method paints; the last value is the pair
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, fabricator):
    """Two runs on the same packed synthetic people, whose generated images are of one colour each."""
    folder = tmp_path_factory.mktemp("study")
    settings = DatasetSettings(height=32, width=16, people_train=2, people_test=12, views=4, test_pairs=40)
    data = prepare(settings, folder / "cache", progress=False)
    found = []
    for name, colour in COLOURS.items():
        facts = {"dataset": {"name": "synthetic"}, "cache": str(folder / "cache"), "digest": data.digest}
        run = fabricator(folder / "runs").run(name, f"{name} {MARKUP}", **facts)
        manifest = []
        for pair, (source, target) in enumerate(data.test.pairs):
            file = run / "generated" / f"{pair:06d}.png"
            Image.new("RGB", (16, 32), (*colour[:2], colour[2] + pair)).save(file)
            names = {"source": data.test.names[source], "target": data.test.names[target]}
            checksum = hashlib.sha256(file.read_bytes()).hexdigest()
            told = {"pair": pair, "pair_id": data.test.pair_id(pair), "file": file.name, "sha256": checksum}
            manifest.append(told | names)
        (run / "generated" / "manifest.json").write_text(json.dumps(manifest))
        found.append(run)
    return found


@pytest.fixture(scope="module")
def data(runs):
    return open_packed(next((runs[0].parents[1] / "cache").glob("synthetic-*"))).test


def told(page: Path) -> dict:
    """What the page knows."""
    return json.loads(re.search(r'id="study">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def pixels(page: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(page.parent / "pictures" / f"{name}.png"))


@pytest.mark.parametrize("kind", ["real-or-generated", "side-by-side"])
def test_every_picture_is_the_one_that_the_key_names(runs, data, tmp_path, kind):
    page, key_file = build_study(runs, tmp_path / "study", kind=kind, pairs=4, seed=3)
    key = read_key(key_file)
    pair_of = {data.pair_id(number): number for number in range(len(data))}
    for entry in told(page)["trials"]:
        trial = key["trials"][entry["trial"]]
        pair = pair_of[trial["pair_id"]]
        source, target = data.pairs[pair]
        for name, maker in trial["pictures"].items():
            if maker == "real":
                expected = data.images[target]
            elif maker == "scrambled":
                expected = scrambled(data.images[target])
                assert not np.array_equal(expected, data.images[target])
                assert np.array_equal(np.sort(expected, axis=None), np.sort(data.images[target], axis=None))
            else:
                red, green, blue = COLOURS[maker.split("-")[0]]
                expected = np.broadcast_to(np.array([red, green, blue + pair]), (32, 16, 3))
            assert np.array_equal(pixels(page, name), expected), (trial, maker)
        if kind == "side-by-side":
            assert np.array_equal(pixels(page, entry["source"]), data.images[source])
            assert pixels(page, entry["target_pose"]).max() > 0


def test_all_methods_are_judged_on_the_same_pairs_and_half_of_the_pictures_are_real(runs, tmp_path):
    _, key_file = build_study(runs, tmp_path / "study", pairs=5)
    judged = [trial for trial in read_key(key_file)["trials"].values() if not trial["practice"]]
    pairs: dict[str, list[str]] = {}
    for trial in judged:
        pairs.setdefault(next(iter(trial["pictures"].values())), []).append(trial["pair_id"])
    first, second = (sorted(pairs[run.name]) for run in runs)
    assert first == second and len(first) == 5
    assert len({pair.split("___")[1] for pair in pairs["real"]}) == 10 and len(pairs["scrambled"]) == 1


def test_nothing_that_participants_get_says_who_made_a_picture(runs, tmp_path):
    page, key_file = build_study(runs, tmp_path / "study", kind="side-by-side", pairs=3)
    names = sorted(path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file())
    assert names == ["index.html", *(f"pictures/{number:03d}.png" for number in range(1, len(names)))]
    text = page.read_text()
    for run in runs:
        assert run.name not in text and run.name.split("-")[0] not in text.split("<script")[1]
    assert MARKUP not in text and str(tmp_path) not in text
    assert not any(word in text for word in ("identical", "truth", "scrambled"))
    for entry in told(page)["trials"]:
        assert set(entry) == {"trial", "practice", "pictures", "source", "target_pose"}
    assert all(not Image.open(path).info for path in page.parent.rglob("*.png"))
    assert MARKUP in key_file.read_text()


def test_text_of_the_command_line_is_escaped_and_nothing_is_loaded_from_elsewhere(runs, tmp_path):
    page, _ = build_study(runs, tmp_path / "study", pairs=2, title=MARKUP, contact=f"me</script>{MARKUP}")
    text = page.read_text()
    assert MARKUP not in text and text.count("&lt;img src=x") == 3
    assert not re.findall(r"(?:src|href)=\"(?!data:,)", text) and "://" not in text


def test_the_same_words_give_the_same_study_and_another_seed_another(runs, tmp_path):
    studies = [
        build_study(runs, tmp_path / str(seed) / name, pairs=3, seed=seed)
        for seed, name in [(1, "a"), (1, "b"), (2, "a")]
    ]
    contents = [
        {
            path.relative_to(page.parent).as_posix(): path.read_bytes()
            for path in page.parent.rglob("*")
            if path.is_file()
        }
        for page, _ in studies
    ]
    keys = [read_key(key) for _, key in studies]
    assert contents[0] == contents[1] and keys[0] == keys[1]
    assert keys[0]["study"] != keys[2]["study"] and keys[0]["trials"] != keys[2]["trials"]


def test_a_record_that_was_copied_elsewhere_gives_its_examples(runs, tmp_path, capsys):
    copied = tmp_path / runs[0].name
    shutil.copytree(runs[0], copied)
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(re.sub(r"(?m)^cache: .*$", "cache: gone", config))
    for path in (copied / "generated" / "examples").iterdir():
        Image.open(path).resize((16, 32)).save(path)
    page, key_file = build_study([copied], tmp_path / "study")
    real = {row["pair_id"] for row in json.loads((copied / "generated" / "manifest.json").read_text())[:12]}
    assert {trial["pair_id"] for trial in read_key(key_file)["trials"].values()} <= real
    assert "12 example pairs" in capsys.readouterr().err and page.is_file()


def test_what_cannot_be_compared_is_refused_before_anything_is_written(runs, tmp_path, fabricator, capsys):
    def refused(*words: object, run: list[Path] = runs) -> str:
        assert main(["--runs", *map(str, run), "--out", str(tmp_path / "study"), *map(str, words)]) == 2
        assert [path.name for path in tmp_path.iterdir() if path.name != "runs"] == []
        return capsys.readouterr().err

    other = fabricator(tmp_path / "runs").run("other", "other", digest="e5" * 32)
    assert "manifest.json" in refused(run=[other])
    shutil.copytree(runs[0] / "generated", other / "generated", dirs_exist_ok=True)
    assert "different data sets" in refused(run=[runs[0], other])
    assert "named twice" in refused(run=[runs[0], runs[0]])
    assert "two runs or more" in refused("--kind", "side-by-side", run=runs[:1])
    assert "allow 1 to" in refused("--pairs", 1000)
    assert "allow 1 to" in refused("--pairs", 0)
    assert "accepted is 0" in refused("--seconds", "nan")
    assert "no such folder" in refused(run=[tmp_path / "nowhere"])
    assert "not a complete packed data set" in refused("--dataset", runs[0])
    manifest = other / "generated" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("000001.png", "../status.json"))
    assert "accepted is a file in generated/" in refused(run=[other])


def test_an_image_that_was_not_scored_is_refused_and_leaves_nothing(runs, tmp_path):
    changed = tmp_path / runs[0].name
    shutil.copytree(runs[0], changed)
    for path in (changed / "generated").glob("0*.png"):
        Image.new("RGB", (16, 32)).save(path)
    with pytest.raises(ValueError, match="is not the image that was scored"):
        build_study([changed], tmp_path / "out" / "study", pairs=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_study_that_people_may_be_answering_is_not_overwritten(runs, tmp_path):
    page, key_file = build_study(runs, tmp_path / "study", pairs=2)
    with pytest.raises(ValueError, match="not empty"):
        build_study(runs, tmp_path / "study", pairs=2)
    shutil.rmtree(page.parent)
    with pytest.raises(ValueError, match="key of another study"):
        build_study(runs, tmp_path / "study", pairs=3)
    assert build_study(runs, tmp_path / "study", pairs=2) == (page, key_file)


def test_help_and_refusals_load_nothing_heavy(tmp_path):
    script = (
        "import sys\nfrom reports.study_page import main\n"
        f"main(['--runs', {str(tmp_path / 'none')!r}, '--out', 'x'])\n"
        "print({'torch', 'numpy', 'pandas', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# In a browser


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium by Playwright, which downloads none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        pytest.skip("no Chromium: apt-get install chromium, or name one by the environment variable CHROMIUM")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


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
