"""`python -m reports.user_study.page`: a user study as a folder that works from a disk, without server or network.

The folder holds index.html and pictures under neutral names; participants get nothing else. The key file, which says
who made which picture, is written beside the folder and stays with the researcher, who reads the participants' answers
with it (`reports.user_study.preferences`). The same arguments and seed give the same study.
"""

import base64
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.user_study.trials import KINDS, SCHEMA, Trial, plan_trials
from xinggan.command import exit_status, parser_of, run_command

if TYPE_CHECKING:
    from reports.user_study.pictures import StudyPictures

TEMPLATES = Path(__file__).parent / "template"
LONGEST_S = 60.0  # that a picture may be shown
TOLD = ("schema", "study", "kind", "seconds", "width", "height", "trials")  # to the browser


def build_study(
    runs: list[Path],
    out: Path,
    *,
    kind: str = "real-or-generated",
    pairs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    title: str | None = None,
    contact: str = "the person who gave you this page",
    dataset: Path | None = None,
) -> tuple[Path, Path]:
    """Write the folder `out` and the key beside it; returns the paths of the page and of the key.

    The folder appears whole or not at all. Raises ValueError, before anything is written, for runs that cannot be
    compared and for a folder that is not empty.
    """
    from reports.user_study.pictures import open_pictures
    from xinggan.files import write_atomically

    if seconds is not None and not 0 <= seconds <= LONGEST_S:
        raise ValueError(f"--seconds {seconds:g}: accepted is 0 (until the answer) to {LONGEST_S:g}")
    if missing := [str(run) for run in runs if not run.is_dir()]:
        raise ValueError(f"--runs: no such folder: {', '.join(missing)}; name run folders <label>-<hash>")
    out = out.resolve()
    key_file = out.with_name(f"{out.name}-key.json")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and not empty; people may be answering it. Name another by --out")
    pictures = open_pictures(runs, dataset)
    if pictures.split is None:
        print(
            f"note: the data set of {runs[0].name} is not where it was packed; only the {len(pictures.pairs)} example "
            "pairs of the run record can be shown. --dataset names the packed folder",
            file=sys.stderr,
        )
    trials = plan_trials(kind, list(pictures.titles), pictures.pairs, pairs, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "study"
        checksums = write_pictures(folder / "pictures", trials, pictures)
        height, width = pictures.given(trials[0].pair, "source").shape[:2]
        asked = [
            {"trial": trial.name, "practice": trial.practice, "pictures": sorted(trial.pictures), **trial.given}
            for trial in trials
        ]
        told = {"schema": SCHEMA, "kind": kind, "seconds": KINDS[kind].seconds if seconds is None else seconds}
        study = told | {"width": width, "height": height, "trials": asked, "pictures": checksums}
        study["study"] = hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest()[:16]
        makers = {
            trial.name: {"role": trial.role, "practice": trial.practice, "pictures": trial.pictures}
            | {"pair_id": trial.pair.pair_id}
            for trial in trials
        }
        key = study | {"seed": seed, "runs": pictures.titles, "trials": makers}
        content = json.dumps(key, indent=1, sort_keys=True) + "\n"
        if key_file.exists() and key_file.read_text(encoding="utf-8") != content:
            raise ValueError(f"{key_file} is the key of another study, which answers are read with; name another --out")
        (folder / "index.html").write_text(render(study, title or KINDS[kind].title, contact), encoding="utf-8")
        write_atomically(key_file, content)
        folder.replace(out)
    return out / "index.html", key_file


def write_pictures(folder: Path, trials: list[Trial], pictures: "StudyPictures") -> dict[str, str]:
    """Write <name>.png of all trials, all encoded alike, in the order of their names; returns their SHA-256.

    Raises ValueError when they are not of one size.
    """
    from PIL import Image

    from xinggan.files import sha256_of
    from xinggan.progress import track

    folder.mkdir(parents=True)
    shown = [
        *((name, trial.pair, pictures.made_by, maker) for trial in trials for name, maker in trial.pictures.items()),
        *((name, trial.pair, pictures.given, which) for trial in trials for which, name in trial.given.items()),
    ]
    shown.sort(key=lambda row: row[0])
    checksums, sizes = {}, set()
    for name, pair, read, what in track(shown, "writing pictures", len(shown), "pictures"):
        image = Image.fromarray(read(pair, what))
        sizes.add(image.size)
        image.save(folder / f"{name}.png")
        checksums[name] = sha256_of(folder / f"{name}.png")
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise ValueError(f"the runs' pictures are of several sizes (width x height: {listed}); choose runs of one size")
    return checksums


def render(study: dict[str, Any], title: str, contact: str) -> str:
    """The page. Its policy lets the browser run the one script, use the one style sheet and load its own pictures."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    parts = {name: (TEMPLATES / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    digests = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()) for name, text in parts.items()}
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("page.html.j2")
    return page.render(
        title=title,
        contact=contact,
        study={name: study[name] for name in TOLD},
        practice=sum(trial["practice"] for trial in study["trials"]),
        minutes=max(1, round(len(study["trials"]) * (2.5 + (study["seconds"] or 2.5)) / 60)),
        style=Markup(parts["css"]),
        script=Markup(parts["js"]),
        allowed={name: f"sha256-{digest.decode()}" for name, digest in digests.items()},
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the paths of page and key on standard output, 2 for what is refused."""
    parser = parser_of(
        "reports.user_study.page",
        "Make a user study: a page that shows real and generated pictures, or two methods side by side.",
    )
    parser.add_argument("--runs", type=Path, nargs="+", action="extend", required=True, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for the page")
    parser.add_argument("--kind", choices=tuple(KINDS), default="real-or-generated", help="(default: %(default)s)")
    parser.add_argument("--pairs", type=int, help="test pairs a method is judged on (default: 50, or all of fewer)")
    parser.add_argument(
        "--seconds", type=float, help="how long a picture is shown, 0: until the answer (default: 1; side by side: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pairs and of the names (default: 0)")
    parser.add_argument("--title", help="of the page (default: by kind)")
    parser.add_argument("--contact", default="the person who gave you this page", help="who wants the answers")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="the packed data set, when it was moved")
    options = parser.parse_args(arguments)

    def build() -> None:
        page, key = build_study(**vars(options))
        print(f"{page}\n{key}")
        print(
            f"Give participants the folder {page.parent.name} (as a zip archive, or on a web site). Keep the key; read "
            f"the answers with\n  python -m reports.user_study.preferences ANSWERS.json ... --key {key.name}",
            file=sys.stderr,
        )

    return exit_status("reports.user_study.page", build)


if __name__ == "__main__":
    run_command(main)
