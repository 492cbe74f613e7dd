"""A table says the same in CSV, Markdown and LaTeX, whatever its cells hold; nothing on a page is taken for markup."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_readers import read_csv, read_latex, read_markdown

from reports import page

signs = st.text(alphabet="ab1 &%$#_{}\\~^<>|[]*↑↓–−×\u00a0'`.", max_size=10).map(str.strip)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(signs, min_size=width, max_size=width), min_size=1))
PLAIN = np.zeros((9, 9), bool)


def in_all_formats(frame, bold=None):
    bold = np.zeros(frame.shape, bool) if bold is None else bold
    return (
        read_csv(page.as_csv(frame)),
        read_markdown(page.as_markdown(frame, "caption", bold)),
        read_latex(page.as_latex(frame, "caption", bold)),
    )


@settings(deadline=None)
@given(tables)
def test_all_formats_hold_the_same_cells(rows):
    rows = [[cell.replace("--", "-") for cell in row] for row in rows]  # which LaTeX takes for a dash
    heads = [f"{cell}{place}" for place, cell in enumerate(rows[0])]
    for read in in_all_formats(pd.DataFrame(rows, columns=heads)):
        assert read == [heads, *rows]


def test_bold_and_small_print_survive_where_a_format_has_them():
    frame = pd.DataFrame([["a", "0.41 & <b>\n[0.40, 0.42]"]], columns=["run", "SSIM ↑\nclean, n = 48"])
    bold = np.array([[False, True]])
    assert read_csv(page.as_csv(frame)) == [["run", "SSIM ↑ clean, n = 48"], ["a", "0.41 & <b> [0.40, 0.42]"]]
    assert "**0.41 &amp; &lt;b&gt;** [0.40, 0.42]" in page.as_markdown(frame, "c", bold)
    assert "\\textbf{0.41 \\& \\textless{}b\\textgreater{}} {\\scriptsize" in page.as_latex(frame, "c", bold)
    shown = page.as_html(frame, bold, "numbers")
    assert "<td><strong>0.41 &amp; &lt;b&gt;</strong><small>[0.40, 0.42]</small></td>" in shown
    assert '<th scope="row">a</th>' in shown and '<th scope="col">SSIM ↑<small>clean, n = 48</small></th>' in shown


def test_columns_of_one_name_stay_apart():
    frame = pd.DataFrame([["a", "1", "2"]], columns=["run", "claim", "claim"])
    assert all(read == [["run", "claim", "claim"], ["a", "1", "2"]] for read in in_all_formats(frame))


@pytest.mark.parametrize("first", ["[1,3] bins", "*"])
def test_first_cell_is_no_argument_of_the_line_end_before_it(first):
    """TeX reads a bracket or a star after a line end, over white space, as the end's own."""
    told = page.as_latex(pd.DataFrame({"run": [first]}), "caption", PLAIN[:1, :1])
    assert f"\\midrule\n{{{first[0]}}}" in told


def test_table_keeps_its_files_with_caption_and_notes_escaped(tmp_path):
    frame = pd.DataFrame({"run": ["a"], "value": ["– [1]"]})
    shown = page.table(frame, "100 % of <b>", tmp_path, "one.1", notes=["no <i>value</i>"])
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {f"one.1.{kind}" for kind in ("csv", "md", "tex")}
    assert "100 \\% of \\textless{}b\\textgreater{}" in (tmp_path / "tables" / "one.1.tex").read_text()
    told = (tmp_path / "tables" / "one.1.md").read_text()
    assert "**100 % of &lt;b&gt;**" in told and "[1] no &lt;i&gt;value&lt;/i&gt;" in told
    assert "<b>" not in shown and "<li>no &lt;i&gt;value&lt;/i&gt;</li>" in shown and "tables/one.1.tex" in shown


def test_nothing_is_shown_of_nothing(tmp_path):
    assert page.table(pd.DataFrame(), "empty", tmp_path, "empty") == page.listing([]) == page.details("more") == ""
    assert page.figure(lambda inches: None, output=tmp_path, name="none", caption="none") == ""
    assert not list(tmp_path.iterdir())


def test_text_with_markup_stays_text():
    evil = "<script>alert(1)</script>"
    for shown in (
        page.paragraph(evil, "lead"),
        page.listing([evil]),
        page.details(evil, evil),
        page.preformatted(evil),
    ):
        assert "<script>" not in shown and "&lt;script&gt;" in shown
