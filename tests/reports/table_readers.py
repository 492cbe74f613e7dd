"""Readers of the report's table files that know the formats and nothing of the code that writes them."""

import csv
import html
import io
import re

MACROS = {
    **{f"\\{sign}": sign for sign in "&%$#_{}"},
    **{"\\textbackslash{}": "\\", "\\textasciitilde{}": "~", "\\textasciicircum{}": "^", "\\textless{}": "<"},
    **{"\\textgreater{}": ">", "\\textbar{}": "|", "$\\uparrow$": "↑", "$\\downarrow$": "↓", "--": "–"},
    **{"$-$": "−", "$\\times$": "×", "$\\geq$": "≥", "$\\cdot$": "·", "$\\to$": "→", "$\\leftarrow$": "←"},
    **{"{[}": "[", "{*}": "*"},
}
MACRO = re.compile("|".join(map(re.escape, sorted(MACROS, key=len, reverse=True))))


def read_csv(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def read_markdown(text: str) -> list[list[str]]:
    """As GitHub does: cells part at a bar without a backslash, which stands for the sign after it."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\|[:-]-+:?\|", line)]
    cells = [re.findall(r"((?:\\.|[^|\\])*)\|", line[1:]) for line in lines]
    return [[html.unescape(re.sub(r"\\(.)", r"\1", cell)).strip(" ") for cell in row] for row in cells]


def read_latex(text: str) -> list[list[str]]:
    """Small print follows its value."""
    rows = [line.removesuffix(" \\\\") for line in text.splitlines() if line.endswith(" \\\\")]
    rows = [re.sub(r"\{\\scriptsize ((?:[^{}]|\\[{}]|\{[^{}]*\})*)\}", r"\1", row) for row in rows]
    return [[MACRO.sub(lambda m: MACROS[m[0]], cell) for cell in re.split(r" (?<!\\)& ", row)] for row in rows]


def without_bold(cells: list[list[str]]) -> list[list[str]]:
    return [[re.sub(r"(?:\*\*|\\textbf\{)(.*?)(?:\*\*|\})", r"\1", cell) for cell in row] for row in cells]
