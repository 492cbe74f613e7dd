"""How figures look, in one place: readable in print and for colour-blind readers, a method the same everywhere.

Colours are those of Okabe and Ito (2008) and of Tol's muted set; a marker says the same a second time, so that nothing
depends on seeing colour.
"""

from dataclasses import dataclass
from itertools import cycle
from typing import Any

from reports.records import Records

WIDE_INCHES, NARROW_INCHES = 10.4, 3.7  # at 96 pixels an inch: the page's column on a desk, the page on a phone
METHOD_COLOURS = {
    "xinggan": "#0072B2",
    "pidm": "#D55E00",
    "gfla": "#009E73",
    "patn": "#CC79A7",
    "cfld": "#E69F00",
    "bigraph": "#56B4E9",
    "pocold": "#882255",
    "deform": "#44AA99",
    "pg2": "#999933",
    "pix2pix": "#332288",
}
REFERENCE_COLOURS = {
    "copy_source": "#7a7a7a",
    "mean_image": "#a8a8a8",
    "vae_roundtrip": "#525252",
    "ground_truth": "#1a1a1a",
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p")
DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))  # matplotlib's line styles

SETTINGS: Any = {
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9.5,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#8a8a8a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3 fonts
    "svg.hashsalt": "report",  # the same records give the same file
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash pattern of one run in every figure of a report."""

    colour: str
    marker: str
    dashes: Any


def looks(records: Records) -> dict[str, Look]:
    """A look for each run (by directory name), the same in every figure of the report that the records belong to.

    A method's first variant has the method's colour, further ones colours of methods that are not in this report; when
    colours run out they start again with other dashes.
    """
    every = records.whole
    present = {record.method for record in every}
    spare = cycle([colour for method, colour in METHOD_COLOURS.items() if method not in present] or ["#555555"])
    owned = {**METHOD_COLOURS, **REFERENCE_COLOURS}
    chosen: dict[str, Look] = {}
    for number, record in enumerate(every):
        colour = owned.pop(record.method, None) or next(spare)
        dashes = DASHES[number // len(METHOD_COLOURS) % len(DASHES)]
        chosen[record.run] = Look(colour, MARKERS[number % len(MARKERS)], dashes)
    return {record.run: chosen[record.run] for record in records}
