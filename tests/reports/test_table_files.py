"""A table says the same in CSV, Markdown and LaTeX, whatever its cells hold, read back by readers of its own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from table_readers import read_csv, read_latex, read_markdown

from reports.table_files import FORMATS, as_csv, as_latex, as_markdown, write_table

BOLD = Markup("<strong>{}</strong><small>{}</small>")

signs = st.text(alphabet="ab1 &%$#_{}\\~^<>|[]*↑↓–−×\u00a0'`.", max_size=10).map(str.strip)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(signs, min_size=width, max_size=width), min_size=1))


@settings(deadline=None)
@given(tables)
def test_all_formats_hold_the_same_cells(rows):
    rows = [[cell.replace("--", "-") for cell in row] for row in rows]  # which LaTeX takes for a dash
    heads = rows[0]
    assert read_csv(as_csv(heads, rows)) == [heads, *rows]
    assert read_markdown(as_markdown(heads, rows, "caption")) == [heads, *rows]
    assert read_latex(as_latex(heads, rows, "caption")) == [heads, *rows]


def test_bold_survives_where_a_format_has_it_and_other_markup_nowhere():
    cell = BOLD.format("0.41 & <b>", "[0.40, 0.42]")
    table = ["run", "SSIM ↑"], [["a", cell]], "caption"
    assert read_csv(as_csv(*table[:2]))[1] == ["a", "0.41 & <b> [0.40, 0.42]"]
    assert "| **0.41 &amp; &lt;b&gt;** [0.40, 0.42] |" in as_markdown(*table)
    footnote = Markup("–<sup>{}</sup>").format(1)
    assert read_csv(as_csv(["run"], [[footnote]]))[1] == ["– [1]"]
    value = "\\textbf{0.41 \\& \\textless{}b\\textgreater{}}"
    below = f"\\begin{{tabular}}[t]{{@{{}}r@{{}}}}{value}\\\\{{\\scriptsize [0.40, 0.42]}}\\end{{tabular}}"
    assert f"a & {below} \\\\" in as_latex(*table)


@pytest.mark.parametrize("first", ["[1,3] bins", "*"])
def test_first_cell_is_no_argument_of_the_line_end_before_it(first):
    """TeX reads a bracket or a star after a line end, over white space, as the end's own."""
    assert f"\\midrule\n{{}}{first}" in as_latex(["run"], [[first]], "caption")


def test_line_break_in_a_cell_does_not_break_the_row():
    heads, rows = ["run", "why"], [["a\nb", "one\r\ntwo"]]
    assert read_csv(as_csv(heads, rows))[1] == ["a b", "one two"]
    assert read_markdown(as_markdown(heads, rows, ""))[1] == ["a b", "one two"]
    assert read_latex(as_latex(heads, rows, ""))[1] == ["a b", "one two"]


def test_captions_are_escaped_and_every_format_is_a_file(tmp_path):
    write_table(tmp_path / "tables" / "one.1", ["a"], [["b"]], "100 % of <b>")
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {f"one.1.{kind}" for kind in FORMATS}
    assert "\\caption{100 \\% of \\textless{}b\\textgreater{}}" in (tmp_path / "tables" / "one.1.tex").read_text()
    assert "**100 % of &lt;b&gt;**" in (tmp_path / "tables" / "one.1.md").read_text()
