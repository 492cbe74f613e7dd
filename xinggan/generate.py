"""A person from a photograph in other poses, on the command line.

    python -m xinggan.generate --run runs/<run> --source photo.png --pose other.json --out out.png
    python -m xinggan.generate --run runs/<run> --source photo.png --pose poses/ --out walk.gif --annotation table.csv

One pose gives its image, several a strip (the source, then each pose's skeleton above its image), or with --out *.gif
an animation. Everything that is wrong with the input is said at once; exit status 2 and nothing written then.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xinggan.command import exit_status, parser_of, run_command
from xinggan.data.settings import add_proportions
from xinggan.trained import RunFacts, Trained, load_published_method, load_trained, published_methods, read_run

if TYPE_CHECKING:
    import numpy as np

    from xinggan.data.pose_files import Person

FRAMES_PER_SECOND = 8.0
FASTEST = 50.0  # frames a second that programs show a GIF at


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    return exit_status("xinggan.generate", lambda: generate(options))


def generate(options: argparse.Namespace) -> None:
    """Generate and write. Raises ValueError with everything that is wrong with the input before any work."""
    problems = _wrong_options(options)
    origin = None
    try:
        origin = _origin(options)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    person = _read_person(options, origin, problems)
    if problems or origin is None or person is None:
        heading = f"{len(problems)} problems, nothing was written\n  " if len(problems) > 1 else ""
        raise ValueError(heading + "\n  ".join(problems))

    from xinggan.distributed import resolve_device
    from xinggan.training.generation import generate_poses

    device = resolve_device(options.device)
    trained = load_trained(origin, device) if isinstance(origin, RunFacts) else origin
    trained.method.to(device)
    for note in filter(None, [*person.notes, trained.note]):
        print(f"note: {note}", file=sys.stderr)
    images = generate_poses(
        trained.method, person.image, person.pose, person.poses, seed=options.seed, device=device, batch=options.batch
    )
    try:
        what = _write(options, person, images)
    except OSError as error:
        raise ValueError(f"--out {options.out}: cannot be written: {error.strerror or error}") from error
    print(f"{options.out}: {what} of {trained.width} x {trained.height} pixels")


def _wrong_options(options: argparse.Namespace) -> list[str]:
    """The faults of the options themselves, one sentence each."""
    problems, out = [], options.out
    if out.suffix.lower() not in (".png", ".gif"):
        problems.append(f"--out {out}: accepted are .png (an image, or a strip over several poses) and .gif")
    if out.is_dir():
        problems.append(f"--out {out}: is a folder")
    if above := next((folder for folder in out.parents if folder.exists() and not folder.is_dir()), None):
        problems.append(f"--out {out}: {above} is a file, not a folder")
    inputs = [options.source, options.annotation, options.source_pose, *options.pose]
    if out.exists() and any(out.samefile(path) for word in inputs if word for path in _files_of(Path(word))):
        problems.append(f"--out {out}: is one of the inputs and would be overwritten")
    if options.fps is not None and not 0 < options.fps <= FASTEST:
        problems.append(f"--fps {options.fps:g}: accepted is more than 0, up to {FASTEST:g} frames a second")
    if options.fps is not None and out.suffix.lower() != ".gif":
        problems.append("--fps: belongs to --out *.gif")
    if options.method and not options.published:
        problems.append("--method: belongs to --published; a run says itself which method it has trained")
    for key in ("weights", "proportions"):
        if getattr(options, key) and not options.estimator:
            problems.append(f"--{key}: belongs to --estimator")
    for key in ("seed", "batch"):
        if (value := getattr(options, key)) < (least := int(key == "batch")):
            problems.append(f"--{key} {value}: accepted is {least} or more")
    return problems


def _files_of(word: Path) -> list[Path]:
    """The files that a word names: the poses of a folder, a file itself, or nothing that is there."""
    if word.is_dir():
        from xinggan.data.pose_files import poses_in

        return poses_in(word)
    return [word] if word.exists() else []


def _origin(options: argparse.Namespace) -> RunFacts | Trained:
    """The run to load, or the published method: only the tensors of its file say which size it is for."""
    if not options.published:
        return read_run(options.run)
    if not options.published.is_file():
        raise ValueError(f"--published {options.published}: there is no such file")
    return load_published_method(options.published, options.method or "xinggan")


def _read_person(
    options: argparse.Namespace, origin: RunFacts | Trained | None, problems: list[str]
) -> "Person | None":
    """Photograph and poses in the size that the method was trained on. What is wrong is appended to `problems`."""
    from xinggan.data.pose_files import PoseReader, read_person

    estimator = None
    if options.estimator:
        from xinggan.data.estimators import open_estimator

        try:
            estimator = open_estimator(options.estimator, options.weights, proportions=options.proportions)
        except (ValueError, OSError) as error:
            problems.append(f"--estimator {options.estimator}: {error}")
    reader = PoseReader(options.annotation, estimator)
    size = (origin.height, origin.width) if origin else None
    person = read_person(options.source, options.source_pose, options.pose, reader, size, options.resize)
    for problem in dict.fromkeys(reader.problems):
        row = "" if problem.row is None else f", row {problem.row}"
        problems.append(f"{problem.file}{row}: {problem.what}")
    if person and len(person.poses) < 2 and options.out.suffix.lower() == ".gif":
        problems.append(f"--out {options.out}: an animation needs two poses or more, and --pose gives one")
    return person


def _write(options: argparse.Namespace, person: "Person", images: "np.ndarray") -> str:
    """Write what the output's name and the number of poses ask for; says what that is."""
    from xinggan.pictures import pose_strip, save_gif, save_png

    if options.out.suffix.lower() == ".gif":
        fps = options.fps or FRAMES_PER_SECOND
        save_gif(options.out, images, fps)
        return f"an animation at {fps:g} frames a second, {len(images)} images"
    if len(images) == 1:
        save_png(options.out, images[0])
        return "one image"
    save_png(options.out, pose_strip(person.image, person.pose, person.poses, images))
    return f"a strip of the source and {len(images)} images"


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "xinggan.generate",
        "Generate the person of a photograph in other poses.",
        "A pose is a .json file (our own or OpenPose's), a row TABLE.csv:NAME or all rows of TABLE.csv, another "
        "photograph (its joints from --annotation or --estimator), or a folder of .json files or photographs. One pose "
        "gives an image; several a strip of skeletons above images; --out *.gif an animation.",
    )
    made_with = parser.add_mutually_exclusive_group(required=True)
    made_with.add_argument("--run", type=Path, help="a run's folder: its averaged weights, as they were scored")
    made_with.add_argument("--published", type=Path, metavar="FILE", help="a published checkpoint (state dict)")
    parser.add_argument("--method", choices=sorted(published_methods()), help="whose --published is (default: xinggan)")
    parser.add_argument("--source", type=Path, required=True, metavar="PHOTO", help="the person to generate")
    parser.add_argument("--source-pose", metavar="POSE", help="the pose in PHOTO (default: found like a photograph's)")
    parser.add_argument("--pose", nargs="+", action="extend", required=True, metavar="POSE", help="see below")
    parser.add_argument("--out", type=Path, required=True, help="a .png or .gif file")
    parser.add_argument("--annotation", type=Path, metavar="TABLE", help="joints of photographs, Pose-Transfer layout")
    parser.add_argument("--estimator", help="movenet or keypointrcnn: finds the joints of photographs without a row")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the estimator's weights (movenet: a .tflite file)"
    )
    add_proportions(parser)
    parser.add_argument("--resize", action="store_true", help="accept photographs of another size than in training")
    parser.add_argument("--fps", type=float, help=f"frames a second of a .gif (default: {FRAMES_PER_SECOND:g})")
    parser.add_argument("--seed", type=int, default=0, help="of what a method draws at random (default: 0)")
    parser.add_argument("--batch", type=int, default=16, help="images at once (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    return parser


if __name__ == "__main__":
    run_command(main)
