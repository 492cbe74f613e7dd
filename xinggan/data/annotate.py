"""Find the joints in a folder of photographs and write them as `python -m xinggan.data.prepare folder` reads them.

    python -m xinggan.data.annotate --images people --estimator movenet --weights movenet.tflite

annotates people/train and people/test and writes, for each,

    people/people-annotation-train.csv              name:keypoints_y:keypoints_x
    people/people-annotation-train-scores.csv       name and a score for each joint
    people/people-annotation-train-estimator.json   estimator, hash of its weights, settings
    people/people-annotation-train-sheet.png        skeletons over some of the photographs

All problems of the photographs are reported together; exit status 2 and nothing written then.
"""

import argparse
import json
import math
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xinggan.command import ROWS_SHOWN, LayoutProblems, Problem, exit_status, parser_of, run_command
from xinggan.data.estimators import DEFAULT_THRESHOLDS, ESTIMATORS, Estimator, open_estimator
from xinggan.data.image_files import (
    IMAGE_SUFFIXES,
    UnusableImage,
    hidden_note,
    list_images,
    read_image,
    resized,
    visible,
)
from xinggan.data.layout import ENDING
from xinggan.data.packed import SPLITS
from xinggan.data.poses import JOINTS, draw_skeleton
from xinggan.data.settings import add_proportions
from xinggan.data.tables import ANNOTATION_HEADER, name_trouble
from xinggan.files import atomic_path
from xinggan.progress import track

SHOWN, COLUMNS = 48, 12  # photographs on the sheet
TALL, WIDEST = 256, 384  # pixels of a photograph on the sheet


class Annotated(NamedTuple):
    """A photograph with its pose in its own pixels."""

    name: str
    pose: np.ndarray  # [18, 3] float32
    scores: np.ndarray  # [18] float32
    picture: np.ndarray | None  # [h, w, 3] uint8, small, for the sheet
    notes: list[str]  # on the file's kind


def plan(images: Path, out: Path | None) -> dict[Path, Path]:
    """Table -> folder of its photographs: both splits of a data set, one of them, or a folder by itself.

    A split's table has the prefix of the tables that are there already, else the name of the data set's folder. Raises
    ValueError for `images` that are no folder and for an `out` that is no place for the one table.
    """
    if not images.is_dir():
        what = "is a file" if images.exists() else "does not exist"
        raise ValueError(f"--images {images} {what}; expected a folder of photographs, or one with train/ and test/")
    splits = [split for split in SPLITS if (images / split).is_dir()]
    if splits and out:
        both = " and ".join(f"{split}/" for split in splits)
        raise ValueError(f"--out {out}: {images} has {both}, each with a table of its own; leave --out away")
    if out:
        if out.is_dir() or out.suffix.lower() != ".csv":
            raise ValueError(f"--out {out}: expected the name of a .csv file")
        if above := next((folder for folder in out.parents if folder.exists() and not folder.is_dir()), None):
            raise ValueError(f"--out {out}: {above} is a file, not a folder")
        return {out: images}
    name = images.resolve().name
    if splits:
        root, folders = images, {split: images / split for split in splits}
    elif name in SPLITS:
        root, folders = images.resolve().parent, {name: images}
    else:
        return {images / f"{name}-annotation.csv": images}
    endings = [ENDING.replace("train", split) for split in SPLITS]
    tables = [path.name for path in visible(root)]
    prefixes = {name.removesuffix(ending) for ending in endings for name in tables if name.endswith(ending)}
    prefix = prefixes.pop() if len(prefixes) == 1 else root.resolve().name
    return {root / f"{prefix}-annotation-{split}.csv": folder for split, folder in folders.items()}


def list_photographs(folder: Path, problems: list[Problem]) -> list[Path]:
    """The image files lying in a folder, sorted by name. Names that no table can hold are appended to `problems`."""
    paths = list_images(folder)
    if not paths:
        accepted = ", ".join(sorted(IMAGE_SUFFIXES))
        problems.append(Problem(f"{folder.name}/", None, f"no photographs in it; accepted are {accepted}"))
    for path in paths:
        trouble = name_trouble(path.name)
        if not trouble and (":" in path.name or path.name.splitlines() != [path.name.strip()]):
            trouble = "the name has a colon, a line break or spaces at an end, which the table cannot hold; rename it"
        if trouble:
            problems.append(Problem(f"{folder.name}/{path.name!r}", None, trouble))
    return paths


def annotate(paths: list[Path], estimator: Estimator, problems: list[Problem]) -> list[Annotated]:
    """Estimate the pose in each photograph. Those that cannot be read are appended to `problems`."""
    done = []
    shown = set(np.linspace(0, max(len(paths) - 1, 0), SHOWN).astype(int).tolist())
    where = paths[0].parent.name if paths else ""
    for number, path in enumerate(track(paths, f"annotating {where}", len(paths), "images")):
        try:
            image, notes = read_image(path)
        except UnusableImage as error:
            problems.append(Problem(f"{where}/{path.name}", None, str(error)))
            continue
        if not problems:  # with a problem nothing is written, and the rest is read to find the other problems
            (pose,), (scores,) = estimator.estimate(image[None])
            picture = _small_picture(image, pose) if number in shown else None
            done.append(Annotated(path.name, pose, scores, picture, notes))
    return done


def _small_picture(image: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A photograph uint8 [H, W, 3] and its skeleton, at most TALL x WIDEST pixels."""
    scale = min(TALL / image.shape[0], WIDEST / image.shape[1])
    height, width = (max(1, round(pixels * scale)) for pixels in image.shape[:2])
    moved = pose.copy()
    moved[:, :2] = (moved[:, :2] + 0.5) * scale - 0.5
    return draw_skeleton(moved, height, width, background=resized(image, height, width))


def write_annotations(annotated: dict[Path, list[Annotated]], origin: dict[str, object]) -> None:
    """Write the four files of each table, all or, on an error, none: files get their names after all are written.

    The table has the form of the published files: a space after each colon, -1 where a joint is missing.
    """
    import pandas as pd

    from xinggan.pictures import contact_sheet, save_png

    with ExitStack() as stack:

        def temporary(path: Path) -> Path:
            return stack.enter_context(atomic_path(path))

        for out, photographs in annotated.items():  # files get their names in reverse: the table is the last
            rows = [":".join(ANNOTATION_HEADER)]
            for name, pose, *_ in photographs:
                x, y = pose[:, :2].astype(int).T.tolist()
                rows.append(f"{name}: {y}: {x}")
            temporary(out).write_text("\n".join(rows) + "\n", "utf-8")
            scores = pd.DataFrame([each.scores for each in photographs], [each.name for each in photographs], JOINTS)
            scores.to_csv(temporary(_beside(out, "-scores.csv")), index_label="name", float_format="%.4f")
            temporary(_beside(out, "-estimator.json")).write_text(json.dumps(origin, indent=2) + "\n", "utf-8")
            pictures = [each.picture for each in photographs if each.picture is not None]
            save_png(temporary(_beside(out, "-sheet.png")), contact_sheet(pictures, COLUMNS))


def _beside(out: Path, ending: str) -> Path:
    """The file with this ending that belongs to the table `out`."""
    return out.with_name(out.stem + ending)


def annotate_folders(options: argparse.Namespace) -> list[str]:
    """Annotate the photographs of the options; returns the lines to print. Raises ValueError before writing."""
    tables = plan(options.images, options.out)
    if there := [str(table) for table in tables if table.exists() and not options.overwrite]:
        other = "" if options.images not in tables.values() else ", or name another with --out"
        raise ValueError(f"{' and '.join(there)}: there already; --overwrite to replace{other}")
    problems: list[Problem] = []
    photographs = {table: list_photographs(folder, problems) for table, folder in tables.items()}
    estimator = open_estimator(options.estimator, options.weights, options.threshold, options.proportions)
    done = {table: annotate(paths, estimator, problems) for table, paths in photographs.items()}
    if problems:
        raise LayoutProblems(options.images, problems, "nothing was annotated")
    origin = {
        "estimator": estimator.name,
        "weights_sha256": estimator.weights_sha256,
        "threshold": DEFAULT_THRESHOLDS[estimator.name] if options.threshold is None else options.threshold,
        "proportions": options.proportions and f"{options.proportions[0]}:{options.proportions[1]}",
    }
    write_annotations(done, origin)
    lines = []
    for table, annotated in done.items():
        found = [int((each.pose[:, 2] > 0).sum()) for each in annotated]
        lines.append(f"{table}: {len(found)} photographs, {np.mean(found):.1f} of 18 joints found in one on average")
        if without := found.count(0):
            example = annotated[found.index(0)].name
            lines.append(f"  in {without} no joint was found, {example} for one; they can take part in no pair")
        kinds = Counter(note for each in annotated for note in each.notes)
        lines += [f"  note: {number:,} images: {what}" for what, number in kinds.items()]
        lines += [f"  note: {note}" for note in hidden_note(tables[table])]
        lines.append(f"  look at {_beside(table, '-sheet.png')}")
    lines.append("seen from behind a person is often given a nose and eyes that nobody sees: the sheet shows it")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    return exit_status("xinggan.data.annotate", lambda: print("\n".join(annotate_folders(options))), options.rows)


def _threshold(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r}; expected a number, for example 0.2")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "xinggan.data.annotate",
        "Find the joints in a folder of photographs and write the annotation table, its scores, its origin and a sheet "
        "of drawn skeletons.",
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="photographs, or a folder with train/ and test/"
    )
    what = "; ".join(f"{name}: {text}" for name, text in ESTIMATORS.items())
    parser.add_argument("--estimator", choices=ESTIMATORS, default="movenet", help=f"{what} (default: movenet)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the .tflite file of movenet")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="the table (default: where `prepare folder` finds it)"
    )
    defaults = ", ".join(f"{name} {value:g}" for name, value in DEFAULT_THRESHOLDS.items())
    parser.add_argument("--threshold", type=_threshold, help=f"joints of a lower score are missing ({defaults})")
    add_proportions(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace tables that are there")
    parser.add_argument("--rows", type=int, default=ROWS_SHOWN, help="problems to print (default: %(default)s)")
    return parser


if __name__ == "__main__":
    run_command(main)
