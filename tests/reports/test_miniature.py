"""The report of the committed run records: its tables are those that are committed, and it opens in a browser offline.

tests/reports/make_miniature.py made the records from real runs and says how to renew both.
"""

import contextlib
import math
import re

import pytest
from make_miniature import MACHINE_PATH, RUNS, TABLES
from table_readers import read_csv, read_latex, read_markdown, without_bold
from test_build import SHOWN

from reports.build import build_report, file_of
from reports.records import load_records

RENEW = "if that is meant: python tests/reports/make_miniature.py --tables, and look at what git shows as changed"
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
TOLERANCE = 1e-9  # relative


def parted(cell: str) -> tuple[str, list[float]]:
    """A cell's words and its numbers: `0.41 [0.40, 0.42]` -> `# [#, #]` and three."""
    numbers = [float(found.replace(",", "").replace("−", "-")) for found in NUMBER.findall(cell)]
    return NUMBER.sub("#", cell), numbers


def differing(found: list[list[str]], expected: list[list[str]]) -> list[str]:
    """A line for each cell that differs in words or, by more than TOLERANCE, in numbers; or that the shapes do."""
    if [len(row) for row in found] != [len(row) for row in expected]:
        return [f"{len(found)} rows of {len(found[0])} cells, committed are {len(expected)} of {len(expected[0])}"]
    lines = []
    for number, (row, committed) in enumerate(zip(found, expected, strict=True)):
        for head, cell, other in zip(found[0], row, committed, strict=True):
            (words, values), (other_words, other_values) = parted(cell), parted(other)
            same = words == other_words and len(values) == len(other_values)
            if not same or not all(map(lambda a, b: math.isclose(a, b, rel_tol=TOLERANCE), values, other_values)):
                lines.append(f"row {number} ({row[0]}), {head}: {cell!r}, committed is {other!r}")
    return lines


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniature")
    with contextlib.chdir(folder):  # where no packed data lie
        return build_report(RUNS, folder / "report")


def test_every_table_is_the_committed_one(site):
    found = {path.name: read_csv(path.read_text()) for path in (site.parent / "tables").glob("*.csv")}
    committed = {path.name: read_csv(path.read_text()) for path in TABLES.glob("*.csv")}
    assert sorted(found) == sorted(committed), RENEW
    problems = [f"{name}, {line}" for name in found for line in differing(found[name], committed[name])]
    assert not problems, "\n".join([*problems[:20], f"{len(problems)} cells differ; {RENEW}"])


def test_every_table_says_the_same_in_all_formats(site):
    for path in sorted((site.parent / "tables").glob("*.tex")):
        heads, *rows = read_csv(path.with_suffix(".csv").read_text())
        markdown = read_markdown(path.with_suffix(".md").read_text())
        assert without_bold(markdown)[1:] == rows, path.name
        assert without_bold(read_latex(path.read_text())) == [heads, *rows], path.name
    assert len(list((site.parent / "tables").glob("*.tex"))) >= 10


def test_records_are_of_all_states_and_name_no_machine():
    records = load_records(RUNS)
    assert {record.state for record in records} == {"finished", "failed"}
    assert {"xinggan", "patn", "pix2pix", "pidm"} <= {record.method for record in records.methods}
    assert any(record.is_timing_only for record in records) and len(records.where(seed=1)) == 7
    for path in RUNS.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml"):
            assert not MACHINE_PATH.search(path.read_text(encoding="utf-8")), path


def test_sweep_that_was_interrupted_is_told(site):
    texts = {name: (site.parent / file_of(name)).read_text(encoding="utf-8") for name in SHOWN}
    assert "Deformable GAN failed" in texts["overview"] and "Divergence" in texts["provenance"]
    assert re.search(r"CFLD: .*never ran", texts["ablation"])


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_reached_by_clicking_whole_and_fits_the_window(browser, site, width):
    page = browser.new_context(viewport={"width": width, "height": 844}, offline=True).new_page()
    page.set_default_timeout(240_000)  # a busy machine is slow, and nothing here is about speed
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
    )
    page.goto(site.as_uri())
    for name in SHOWN:
        page.click(f"nav >> text={name.capitalize()}")
        page.wait_for_load_state()
        assert page.url == (site.parent / file_of(name)).as_uri()
        assert page.inner_text("h1") == name.capitalize()
        broken = page.evaluate(
            "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0, () => false)"
            ".then(whole => whole ? '' : i.alt)))"
        )
        assert not any(broken), (name, broken)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert complaints == []
    page.context.close()
