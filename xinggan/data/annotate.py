"""Find the joints in a folder of photographs and write them as `python -m xinggan.data.prepare folder` reads them.

    python -m xinggan.data.annotate --images people --estimator movenet --weights movenet.tflite

annotates people/train and people/test and writes people/people-annotation-{train,test}.csv, each with its scores, its
origin and a sheet of drawn skeletons beside it. Everything wrong with the photographs is said at once; exit status 2
and nothing written then.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xinggan.data.estimators import DEFAULT_THRESHOLDS, ESTIMATORS, IdentifiedEstimator, open_estimator
from xinggan.data.layout import ENDING, IMAGE_SUFFIXES
from xinggan.data.options import add_proportions
from xinggan.data.problems import ROWS_SHOWN, LayoutProblems, Problem
from xinggan.data.tables import name_trouble

if TYPE_CHECKING:
    from xinggan.data.annotation_files import Annotated

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Task:
    """One folder of photographs and the table that it gets."""

    folder: Path
    out: Path


class PhotographProblems(LayoutProblems):
    """Everything wrong with the photographs."""

    consequence = "nothing was annotated"


def plan(images: Path, out: Path | None) -> list[Task]:
    """Which folders to annotate into which tables: both splits of a data set, one of them, or a folder by itself.

    A split's table is called as one that is there already, else after the data set's folder. Raises ValueError.
    """
    if not images.is_dir():
        what = "is a file" if images.exists() else "does not exist"
        raise ValueError(f"--images {images} {what}; expected a folder of photographs, or one with train/ and test/")
    splits = [split for split in SPLITS if (images / split).is_dir()]
    if splits and out:
        both = " and ".join(f"{split}/" for split in splits)
        raise ValueError(f"--out {out}: {images} has {both}, each with a table of its own; leave --out away")
    if splits:
        return [Task(images / split, _table_of(images, split)) for split in splits]
    if out:
        if out.is_dir() or out.suffix.lower() != ".csv":
            raise ValueError(f"--out {out}: expected the name of a .csv file")
        if above := next((folder for folder in out.parents if folder.exists() and not folder.is_dir()), None):
            raise ValueError(f"--out {out}: {above} is a file, not a folder")
        return [Task(images, out)]
    name = images.resolve().name
    if name in SPLITS:
        return [Task(images, _table_of(images.resolve().parent, name))]
    return [Task(images, images / f"{name}-annotation.csv")]


def _table_of(root: Path, split: str) -> Path:
    endings = [ENDING.replace("train", each) for each in SPLITS]
    sets = {table.name.removesuffix(ending) for ending in endings for table in root.glob(f"*{ending}")}
    prefix = sets.pop() if len(sets) == 1 else root.resolve().name
    return root / f"{prefix}-annotation-{split}.csv"


def list_photographs(folder: Path, problems: list[Problem]) -> list[Path]:
    """The image files lying in a folder, sorted by name; what no table can hold is appended to `problems`."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
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


def annotate(paths: list[Path], estimator: IdentifiedEstimator, problems: list[Problem]) -> "Annotated":
    """Estimate the pose in each photograph. Those that cannot be read are appended to `problems`."""
    import numpy as np

    from xinggan.data.annotation_files import SHOWN, Annotated, small_picture
    from xinggan.data.pose_files import read_photograph
    from xinggan.progress import track

    done = Annotated([], [], [], [])
    shown = set(np.linspace(0, max(len(paths) - 1, 0), SHOWN).astype(int).tolist())
    where = paths[0].parent.name if paths else ""
    for number, path in enumerate(track(paths, f"annotating {where}", len(paths), "images")):
        try:
            image = read_photograph(path)
        except ValueError as error:
            problems.append(Problem(f"{where}/{path.name}", None, str(error)))
            continue
        if problems:  # nothing will be written: go on only to find the others
            continue
        poses, scores = estimator.estimate(image[None])
        done.names.append(path.name)
        done.poses.append(poses[0])
        done.scores.append(scores[0])
        if number in shown:
            done.pictures.append(small_picture(image, poses[0]))
    return done


def run(options: argparse.Namespace) -> list[str]:
    """Do it; the lines to print. Raises ValueError before anything is written."""
    from xinggan.data.annotation_files import beside, write_annotations

    tasks = plan(options.images, options.out)
    if there := [str(task.out) for task in tasks if task.out.exists() and not options.overwrite]:
        other = "" if tasks[0].folder != options.images else ", or name another with --out"
        raise ValueError(f"{' and '.join(there)}: there already; --overwrite to replace{other}")
    problems: list[Problem] = []
    photographs = [list_photographs(task.folder, problems) for task in tasks]
    estimator = open_estimator(options.estimator, options.weights, options.threshold, options.proportions)
    done = [annotate(paths, estimator, problems) for paths in photographs]
    if problems:
        raise PhotographProblems(str(options.images), problems)
    origin = _origin(options, estimator)
    write_annotations({task.out: annotated for task, annotated in zip(tasks, done, strict=True)}, origin)
    lines = []
    for task, annotated in zip(tasks, done, strict=True):
        found = [int((pose[:, 2] > 0).sum()) for pose in annotated.poses]
        mean = sum(found) / len(found)
        lines.append(f"{task.out}: {len(found)} photographs, {mean:.1f} of 18 joints found in one on average")
        if without := found.count(0):
            example = annotated.names[found.index(0)]
            lines.append(f"  in {without} no joint was found, {example} for one; they can take part in no pair")
        lines.append(f"  look at {beside(task.out, '-sheet.png')}")
    lines.append("seen from behind a person is often given a nose and eyes that nobody sees: the sheet shows it")
    return lines


def _origin(options: argparse.Namespace, estimator: IdentifiedEstimator) -> dict[str, Any]:
    least = DEFAULT_THRESHOLDS[estimator.name] if options.threshold is None else options.threshold
    return {
        "estimator": estimator.name,
        "weights_sha256": estimator.weights_sha256,
        "threshold": least,
        "proportions": options.proportions and f"{options.proportions[0]}:{options.proportions[1]}",
    }


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        lines = run(options)
    except PhotographProblems as problems:
        print(problems.table(options.rows), file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"xinggan.data.annotate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    print("\n".join(lines))
    return 0


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number, for example 0.2")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xinggan.data.annotate",
        allow_abbrev=False,
        description="Find the joints in a folder of photographs and write the annotation table, its scores, its "
        "origin and a sheet of drawn skeletons.",
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
    sys.exit(main())
