"""Makes tests/reports/miniature again: the run records that a report is built from in the tests, and its tables.

    python tests/reports/make_miniature.py            # trains, scores and times in a scratch folder: some ten minutes
    python tests/reports/make_miniature.py --tables   # the tables only, after a change to the report that is meant

The records are those of real runs on rendered people: the components of XingGAN++ with two seeds, a comparison of which
one row diverged and one never ran, and an efficiency study. Left out is what reports do not read (checkpoints, samples)
and all but the first test pairs' pictures; and where code and weights lay, in tracebacks and reasons.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from xinggan.files import without_places

MINIATURE = Path(__file__).parent / "miniature"
RUNS, TABLES = MINIATURE / "runs", MINIATURE / "tables"
PICTURES = 3  # test pairs whose pictures are kept
FILES = ("config.yaml", "status.json", "environment.json", "history.jsonl", "metrics.json", "timing.json")

WORDS = ["preset=smoke", "device=cpu", "runs=runs", "cache=cache", "dataset.people_test=8", "dataset.test_pairs=24"]
TRAINING = ["training.steps=40", "training.decay_steps=20", "training.log_every=4"]
TRAINING += ["training.sample_every=20", "training.checkpoint_every=20"]
COMPARED = ("XingGAN++", "XingGAN", "PATN", "pix2pix", "PIDM")
DIVERGED = ("Deformable GAN", ["method=deform", "learning_rate=1e30"])
NEVER_RAN = "CFLD"
TIMING = ["only=xinggan,pix2pix,pidm", "timing.modes=eager", "timing.training_modes=eager"]
TIMING += ["timing.precisions=fp32", "timing.batches=1,4", "timing.samplers=ddim", "timing.steps=1,4"]
MACHINE_PATH = re.compile(r"(?<![\w./:<])/(home|root|tmp|work|Users|usr|opt|mnt|var|srv)/")


def make(scratch: Path) -> None:
    """Run everything below `scratch` and put the thinned records into RUNS."""
    from ablations import study

    os.chdir(scratch)
    if study.main(["components", "seed=0,1", *WORDS, *TRAINING, "--no-report"]):
        raise SystemExit("the study of components did not finish")
    compare()
    if study.main(["efficiency", *WORDS, *TIMING, "--no-report"]):
        raise SystemExit("the study of efficiency did not finish")
    if RUNS.is_dir():
        shutil.rmtree(RUNS)
    for directory in sorted(path for path in Path("runs").iterdir() if (path / "config.yaml").is_file()):
        thin(directory, RUNS / directory.name)
    shutil.copytree("runs/studies", RUNS / "studies")
    for path in RUNS.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml") and (found := MACHINE_PATH.search(path.read_text())):
            raise SystemExit(f"{path} holds a path of this machine: ...{found.group()}...")


def compare() -> None:
    """A comparison of COMPARED, stopped before its last row began; the row DIVERGED is meant to fail."""
    from ablations import study
    from ablations.config import compose, reference
    from ablations.record import list_rows
    from ablations.run import prepare_folders, run_grid
    from baselines import REFERENCES

    rows = [row for row in study.STUDIES["comparison"] if row[0] in COMPARED] + [DIVERGED]
    last = [row for row in study.STUDIES["comparison"] if row[0] == NEVER_RAN]
    rows, last = ([(title, [*own, *WORDS, *TRAINING]) for title, own in some] for some in (rows, last))
    configs = [compose(overrides) for _, overrides in [*rows, *last]]
    configs += [reference(configs[0], name) for name in REFERENCES]
    folders = prepare_folders(configs)
    run_grid(rows)
    titles = [title for title, _ in [*rows, *last]]
    listed = zip([*titles, *REFERENCES], folders, strict=True)
    list_rows(folders[0].parent, "comparison", [(title, folder.name) for title, folder in listed])


def thin(directory: Path, kept: Path) -> None:
    """Copy what reports read of a run directory, pictures of the first PICTURES pairs only."""
    kept.mkdir(parents=True)
    for name in FILES:
        if (directory / name).is_file():
            (kept / name).write_text(without_places((directory / name).read_text()))
    if (directory / "per_image.parquet").is_file():
        shutil.copy(directory / "per_image.parquet", kept)
    manifest = directory / "generated" / "manifest.json"
    if not manifest.is_file():
        return
    examples = kept / "generated" / "examples"
    examples.mkdir(parents=True)
    shutil.copy(manifest, kept / "generated")
    for row in json.loads(manifest.read_text())[:PICTURES]:
        shutil.copy(directory / "generated" / row["file"], kept / "generated")
    for path in (directory / "generated" / "examples").iterdir():
        number = re.match(r"(\d+)_", path.name)
        if number is None or int(number[1]) < PICTURES:
            shutil.copy(path, examples)


def keep_tables() -> None:
    """Build the report of RUNS and put every CSV of it into TABLES."""
    from reports.build import build_report

    with tempfile.TemporaryDirectory(prefix="miniature-") as scratch, contextlib.chdir(scratch):
        report = build_report(RUNS, Path(scratch, "report")).parent  # where no packed data lie
        if TABLES.is_dir():
            shutil.rmtree(TABLES)
        TABLES.mkdir(parents=True)
        for path in sorted((report / "tables").glob("*.csv")):
            shutil.copy(path, TABLES)
    size = sum(path.stat().st_size for path in MINIATURE.rglob("*") if path.is_file())
    counted = f"{len(list(RUNS.glob('*-*')))} records, {len(list(TABLES.iterdir()))} tables"
    print(f"{MINIATURE}: {counted}, {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="renew the tables only")
    parser.add_argument("--scratch", type=Path, help="folder for the whole runs; finished ones stay")
    options = parser.parse_args()
    if not options.tables:
        scratch = options.scratch or Path(tempfile.mkdtemp(prefix="miniature-"))
        scratch.mkdir(parents=True, exist_ok=True)
        make(scratch)
    keep_tables()


if __name__ == "__main__":
    main()
