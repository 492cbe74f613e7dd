"""The site opened in a browser from a file system, offline: navigation, images, console, and no sideways scrolling."""

import json

import pytest

from reports.build import PAGES, build_report
from reports.records import load_records


@pytest.fixture(scope="module")
def site(tmp_path_factory, fabricator):
    folder = tmp_path_factory.mktemp("browsed")
    fabricate = fabricator(folder / "runs")
    fabricate.run()
    fabricate.run("xinggan", "xinggan with a <b>long</b> name scale=multi attention=enhanced fusion=dense")
    fabricate.run("patn", "patn", state="failed")
    fabricate.references()
    return build_report(folder / "runs", folder / "report")


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_reached_whole_and_fits_the_window(browser, site, width):
    page = browser.new_context(viewport={"width": width, "height": 844}, offline=True).new_page()
    page.set_default_timeout(120_000)  # a busy machine is slow, and nothing here is about speed
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(site.as_uri())
    for name in PAGES:
        page.click(f"nav >> text={name.capitalize()}")
        page.wait_for_load_state()
        assert page.inner_text("h1") == name.capitalize()
        broken = "Promise.all([...document.images].map(i => i.decode().then(() => 0, () => i.alt)))"
        assert not any(page.evaluate(broken)), name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert complaints == []
    page.context.close()


def test_runs_are_called_and_ordered_as_the_rows_of_their_study(fabricate):
    first, second = fabricate.run("b", "xinggan scale=multi"), fabricate.run("a", "xinggan")
    listing = [{"title": "both branches", "run": first.name}, {"title": "+ fusion", "run": second.name}]
    (fabricate.folder / "studies").mkdir()
    (fabricate.folder / "studies" / "components.json").write_text(json.dumps(listing))
    (fabricate.folder / "studies" / "damaged.json").write_text("{")
    assert list(load_records(fabricate.folder).titles().values()) == ["both branches", "+ fusion"]
