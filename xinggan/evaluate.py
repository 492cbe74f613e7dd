"""Score a folder of images that any program generated for a data set's test pairs, under every protocol side by side.

    python -m xinggan.evaluate RESULTS market1501 --root ../market_data
    python -m xinggan.evaluate RESULTS deepfashion --root ../fashion_data --json scores.json --per-image scores.parquet

Exit status 2, with everything that is wrong with the folder in one message and nothing scored, unless it holds exactly
one readable image of the right size for each test pair.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from textwrap import fill, indent
from typing import TYPE_CHECKING

from xinggan.command import ROWS_SHOWN, LayoutProblems, exit_status, parser_of, run_command
from xinggan.data.settings import Fit, add_dataset_options, add_proportions, dataset_settings
from xinggan.files import atomic_path, write_atomically
from xinggan.metrics.catalogue import caution, heading, in_order, title
from xinggan.metrics.protocol import LPIPS_NETWORKS, PROTOCOLS, plain, protocols_for

if TYPE_CHECKING:
    from xinggan.data.packed import PackedDataset
    from xinggan.data.results import Results
    from xinggan.metrics.values import Scores

LINE = 110  # characters


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 2 with one message on standard error, or 130 when interrupted."""
    options = _parser().parse_args(arguments)
    return exit_status("xinggan.evaluate", lambda: evaluate(options))


def evaluate(options: argparse.Namespace) -> None:
    """Score a folder, print the table and write the files that were asked for.

    Raises ValueError before anything is scored when options, data set, folder or device cannot be used.
    """
    from xinggan.metrics.values import per_image_table

    _check_options(options)
    try:
        dataset, results, scores = score_folder(options)
    except LayoutProblems as problems:
        listing = problems.table(len(problems.problems))
        count = listing.splitlines()[0]
        below = f"\n\n{count}" if len(problems.problems) > ROWS_SHOWN else ""  # the first line has scrolled away
        raise ValueError(listing + below) from None
    report = as_json(options, dataset, results, scores)
    print(report if options.json == "-" else table(options, dataset, results, scores))
    if options.per_image:
        per_image = per_image_table(scores.values(), dataset.test)
        with atomic_path(options.per_image) as temporary:
            per_image.dropna(subset="value").to_parquet(temporary, index=False)
    if options.json not in (None, "-"):
        write_atomically(Path(options.json), report + "\n")


def score_folder(options: argparse.Namespace) -> "tuple[PackedDataset, Results, dict[str, Scores]]":
    """The data set, the images as they were read, and their scores under each protocol."""
    import numpy as np

    from xinggan.data.estimators import open_estimator
    from xinggan.data.prepare import prepare
    from xinggan.data.results import read_results
    from xinggan.distributed import resolve_device
    from xinggan.metrics.score import score

    device = resolve_device(options.device)
    estimator = None
    if options.estimator:
        estimator = open_estimator(options.estimator, options.weights, proportions=options.proportions)
    if not options.images.is_dir():
        raise ValueError(f"{options.images} is not a folder; expected one with an image for each test pair")
    dataset = prepare(dataset_settings(options), options.cache)
    results = read_results(options.images, dataset.test, Fit(options.fit))
    known = protocols_for(options.name)
    scores = score(
        results.images,
        dataset.test,
        np.arange(len(dataset.test)),
        protocols=[known[name] for name in dict.fromkeys(options.protocol or known)],
        train_split=dataset.train,
        synthetic=options.name == "synthetic",
        lpips_net=options.lpips_net,
        estimator=estimator,
        device=device,
    )
    return dataset, results, scores


def as_json(
    options: argparse.Namespace, dataset: "PackedDataset", results: "Results", scores: "dict[str, Scores]"
) -> str:
    """The evaluation as JSON, each value with the whole of its protocol, how images of another size were fitted too."""
    from xinggan.data.image_files import RESIZED_BY

    fitted = {} if options.fit == Fit.none else {"fit": str(options.fit)}
    fitted |= {"resized_by": RESIZED_BY} if options.fit == Fit.resize else {}
    return json.dumps(
        {
            "images": str(options.images),
            "read": results.notes,
            "dataset": {"name": options.name, "digest": dataset.digest, "test_pairs": len(dataset.test)},
            "protocols": {name: plain(scored.protocol) for name, scored in scores.items()},
            "metrics": {
                name: [asdict(value) | {"protocol": value.protocol | fitted} for value in scored.values]
                for name, scored in scores.items()
            },
        },
        indent=1,
        allow_nan=False,
    )


def table(
    options: argparse.Namespace, dataset: "PackedDataset", results: "Results", scores: "dict[str, Scores]"
) -> str:
    """One row a metric, one column a protocol; what each protocol means by SSIM; what is not available, and why."""
    import pandas as pd

    cells: dict[str, dict[str, str]] = {name: {} for name in scores}
    notes: dict[tuple[str, str], dict[str, None]] = {}  # (kind, text) -> titles, each once
    for name, scored in scores.items():
        for value in scored.values:
            cells[name][value.metric] = "none" if value.value is None else f"{value.value:.4f}"
            note = value.value is not None and caution(value.metric, value.value, value.n)
            for kind, text in (("note", note), ("unavailable", value.unavailable_because)):
                if text:
                    notes.setdefault((kind, text), {})[title(value.metric)] = None
    grid = pd.DataFrame(cells).fillna("-")
    grid = grid[~grid.isin(["-", "none"]).all(axis=1)]
    grid = grid.loc[in_order(grid.index)].rename(index=heading)

    split = dataset.test
    size = f"{split.width} x {split.height} pixels (width x height)"
    lines = [f"{options.images}: {len(split):,} test pairs of {options.name}, {size}"]
    lines += [f"  {note}" for note in results.notes or ["images as they are: nothing was cropped or resized"]]
    lines += ["", grid.to_string(), "", "-: the protocol does not define the metric. By SSIM it means"]
    width = max(map(len, scores))
    lines += [f"  {name:<{width}}  {scored.protocol.ssim.in_words}" for name, scored in scores.items()]
    for (kind, text), titles in sorted(notes.items(), key=lambda note: note[0][0]):
        lines += ["", fill(f"{kind}: {', '.join(titles)}", LINE, subsequent_indent="  ")]
        lines += [indent(fill(text, LINE, break_long_words=False, break_on_hyphens=False), "  ")]
    return "\n".join(lines)


def _check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for files that could not be written in the end, and for options without the one they need."""
    written: dict[Path, str] = {}
    files = {"--json": None if options.json == "-" else options.json, "--per-image": options.per_image}
    for option, path in files.items():
        if path is None:
            continue
        file = Path(path).resolve()
        if str(path) == "-" or file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"{option} {path}: expected a file's name in a folder that is there")
        if file.parent == options.images.resolve() and file.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"):
            raise ValueError(f"{option} {path}: would be one of the images that are scored")
        if file in written:
            raise ValueError(f"{option} {path}: is what {written[file]} writes too")
        written[file] = option
    for option in ("weights", "proportions"):
        if getattr(options, option) and not options.estimator:
            raise ValueError(f"--{option}: belongs to --estimator, which was not given")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "xinggan.evaluate",
        (__doc__ or "").split("\n\n")[0],
        "Images are found by their names: SOURCE___TARGET.png, SOURCE_2_TARGET.png, SOURCE_to_TARGET.png, each "
        "also with _vis at the end; a strip of five panels (source, pose, target, pose, generated) counts by its last.",
    )
    parser.add_argument("images", type=Path, metavar="RESULTS", help="folder with one image for each test pair")
    add_dataset_options(parser)
    parser.add_argument(
        "--protocol", action="append", choices=PROTOCOLS, help="only this one; may be given again (default: all)"
    )
    parser.add_argument(
        "--fit",
        choices=[*Fit],
        default=Fit.none,
        help="images of another size: refuse them (none), take the middle (crop)"
        " or resize them; what was done is said (default: none)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all values with their protocols; - prints them instead")
    parser.add_argument("--per-image", type=Path, metavar="FILE", help="write every pair's values as Parquet")
    parser.add_argument(
        "--lpips-net", choices=LPIPS_NETWORKS, default="alex", help="network of LPIPS where the protocol leaves it open"
    )
    parser.add_argument("--estimator", help="pose estimator of PCKh: movenet or keypointrcnn (default: none)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the estimator's (movenet: a .tflite file)")
    add_proportions(parser)
    parser.add_argument("--device", default="cpu", help="where networks run: cpu, cuda, cuda:N, auto (default: cpu)")
    return parser


if __name__ == "__main__":
    run_command(main)
