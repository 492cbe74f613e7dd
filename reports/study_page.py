"""`python -m reports.study_page`: a human study as a folder that works from a disk, without a server or a network.

The folder holds index.html and pictures under neutral names; participants get nothing else. The key file, which says
who made which picture, is written beside the folder and stays with the researcher, who reads the participants' answers
with it (`reports.preferences`). The same words and seed give the same study.
"""

import argparse
import base64
import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from reports.study_pictures import StudyPictures
    from reports.study_trials import Trial

TEMPLATES = Path(__file__).parent / "template"
SCHEMA = 1  # of the page's data, the key and the answers
LONGEST_S = 60.0  # that a picture may be shown
TITLES = {"real-or-generated": "Real or generated?", "side-by-side": "Which picture is better?"}
OF_THE_PAGE = ("schema", "study", "kind", "seconds", "width", "height", "trials")  # what the browser is told


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
    """Write the folder `out` and the key beside it; gives the paths of the page and of the key.

    The folder appears whole or not at all. Raises ValueError, before anything is written, for runs that cannot be
    compared and for a folder that is not empty.
    """
    from reports.records import Records
    from reports.study_pictures import open_pictures
    from reports.study_trials import SECONDS, key_entry, plan_trials
    from xinggan.files import write_atomically

    out = out.resolve()
    key_file = out.with_name(f"{out.name}-key.json")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already and not empty; people may be answering it. Name another by --out")
    pictures = open_pictures(runs, dataset)
    if pictures.split is None:
        print(
            f"note: the data set of {pictures.records[0].run} is not where it was packed; only the "
            f"{len(pictures.pairs)} example pairs of the run record can be shown. --dataset names the packed folder",
            file=sys.stderr,
        )
    trials = plan_trials(kind, pictures, pairs, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "study"
        checksums = write_pictures(folder / "pictures", trials, pictures)
        height, width = pictures.given(trials[0].pair, "source").shape[:2]
        study: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": kind,
            "seconds": SECONDS[kind] if seconds is None else seconds,
            "width": width,
            "height": height,
            "trials": [page_entry(number, trial) for number, trial in enumerate(trials)],
            "pictures": checksums,
        }
        study["study"] = hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest()[:16]
        titles = Records(pictures.records).titles()
        key = study | {
            "seed": seed,
            "runs": {record.run: titles[record.run] for record in pictures.records},
            "trials": {entry["trial"]: key_entry(trial) for entry, trial in zip(study["trials"], trials, strict=True)},
        }
        content = json.dumps(key, indent=1, sort_keys=True) + "\n"
        if key_file.exists() and key_file.read_text(encoding="utf-8") != content:
            raise ValueError(f"{key_file} is the key of another study, which answers are read with; name another --out")
        page = render(study, title or TITLES[kind], contact)
        (folder / "index.html").write_text(page, encoding="utf-8")
        write_atomically(key_file, content)
        folder.replace(out)
    return out / "index.html", key_file


def page_entry(number: int, trial: "Trial") -> dict[str, Any]:
    """What the page says of a trial: its pictures by their neutral names, sorted."""
    return {"trial": f"t{number:03d}", "practice": trial.practice, "pictures": sorted(trial.pictures), **trial.given}


def write_pictures(folder: Path, trials: list["Trial"], pictures: "StudyPictures") -> dict[str, str]:
    """Write <name>.png of all trials, all encoded alike, in the order of their names; gives their SHA-256.

    Raises ValueError when they are not of one size.
    """
    from reports.study_trials import trial_pictures
    from xinggan.progress import track

    shown: dict[str, np.ndarray] = {}
    for trial in track(trials, "reading pictures", len(trials), "trials"):
        shown |= trial_pictures(trial, pictures)
    sizes = {image.shape for image in shown.values()}
    if len(sizes) > 1:
        listed = ", ".join(f"{width}x{height}" for height, width, _ in sorted(sizes))
        raise ValueError(f"the runs' pictures are of several sizes (width x height: {listed}); choose runs of one size")
    folder.mkdir(parents=True)
    checksums = {}
    for name in track(sorted(shown), "writing pictures", len(shown), "pictures"):
        content = encode(shown[name])
        (folder / f"{name}.png").write_bytes(content)
        checksums[name] = hashlib.sha256(content).hexdigest()
    return checksums


def encode(image: "np.ndarray") -> bytes:
    """uint8 [H, W, 3] as a PNG without any text in it."""
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(image).save(written, format="PNG")
    return written.getvalue()


def render(study: dict[str, Any], title: str, contact: str) -> str:
    """The page. Its policy lets the browser run the one script, use the one style sheet and load its own pictures."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    parts = {name: (TEMPLATES / f"study_page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("study_page.html.j2")
    told = {key: study[key] for key in OF_THE_PAGE}
    practice = sum(entry["practice"] for entry in study["trials"])
    return page.render(
        title=title,
        contact=contact,
        study=told,
        practice=practice,
        judged=len(study["trials"]) - practice,
        minutes=max(1, round(len(study["trials"]) * (2.5 + (study["seconds"] or 2.5)) / 60)),
        style=Markup(parts["css"]),
        script=Markup(parts["js"]),
        allowed={name: allowance(text) for name, text in parts.items()},
    )


def allowance(text: str) -> str:
    """A content security policy's word for exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 with the paths of page and key on standard output, 2 for what is refused."""
    options = _parser().parse_args(arguments)
    if options.seconds is not None and not 0 <= options.seconds <= LONGEST_S:
        print(f"--seconds {options.seconds:g}: accepted is 0 (until the answer) to {LONGEST_S:g}", file=sys.stderr)
        return 2
    missing = [str(run) for run in options.runs if not run.is_dir()]
    if missing:
        print(f"--runs: no such folder: {', '.join(missing)}; name run folders <label>-<hash>", file=sys.stderr)
        return 2
    try:
        page, key = build_study(**vars(options))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the study could not be written: {error}", file=sys.stderr)
        return 1
    print(f"{page}\n{key}")
    print(
        f"Give participants the folder {page.parent.name} (as a zip archive, or on a web site). Keep the key; read the "
        f"answers with\n  python -m reports.preferences ANSWERS.json ... --key {key.name}",
        file=sys.stderr,
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.study_page",
        allow_abbrev=False,
        description="Make a human study: a page that shows real and generated pictures, or two methods side by side.",
    )
    parser.add_argument("--runs", type=Path, nargs="+", action="extend", required=True, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for the page")
    parser.add_argument("--kind", choices=tuple(TITLES), default="real-or-generated", help="(default: %(default)s)")
    parser.add_argument("--pairs", type=int, help="test pairs a method is judged on (default: 50, or all of fewer)")
    parser.add_argument(
        "--seconds", type=float, help="how long a picture is shown, 0: until the answer (default: 1; side by side: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pairs and of the names (default: 0)")
    parser.add_argument("--title", help="of the page (default: by kind)")
    parser.add_argument("--contact", default="the person who gave you this page", help="who wants the answers")
    parser.add_argument("--dataset", type=Path, metavar="FOLDER", help="the packed data set, when it was moved")
    return parser


if __name__ == "__main__":
    sys.exit(main())
