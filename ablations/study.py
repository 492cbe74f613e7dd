"""Named studies: the tables of the papers, each a list of runs that differ in what is studied.

    python -m ablations.study components
    python -m ablations.study blocks seed=0,1,2 preset=small
    python -m ablations.study comparison only=pidm,xmdpt
    python -m ablations.study tuning
    python -m ablations.study comparison tuned=runs
    python -m ablations.study efficiency preset=smoke timing.batches=1,2

Further words are those of `ablations.run` and hold for every row. Finished rows are not computed again. Of every study
`only=` runs some rows: titles, or methods of its rows. The study `tuning` trains the methods of `comparison` a little
with several learning rates, and chooses one on a validation split; `tuned=FOLDER` takes what its records there say.
The study `efficiency` times the methods of `comparison` and scores nothing; timing.* say what (see
`xinggan.timing.plan`).
"""

import argparse
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from ablations.config import Experiment, compose, flat, plain_values, reference
from ablations.efficiency import run_efficiency
from ablations.record import SAME_RESULT, RunRecord, list_rows, titled, without_seed
from ablations.run import build, prepare_folders, print_table, run_grid
from ablations.tuning import Rows, grid_rows, tuned_rows, write_choice
from ablations.words import chosen_rows, expand, key_of
from baselines import REFERENCES
from xinggan.command import exit_status, parser_of, run_command
from xinggan.model.from_settings import use_methods

XINGGAN = ["scale=single", "attention=plain", "fusion=coattention"]

# study -> rows of (title, overrides); XingGAN ECCV 2020 tables 3 and 4, XingGAN++ TPAMI 2025 ablation.
STUDIES: dict[str, Rows] = {
    "components": [
        ("appearance branch only", ["scale=single", "attention=plain", "fusion=concat", "branches=appearance"]),
        ("shape branch only", ["scale=single", "attention=plain", "fusion=concat", "branches=shape"]),
        ("both branches, concatenated", ["scale=single", "attention=plain", "fusion=concat"]),
        ("+ co-attention fusion (= XingGAN)", XINGGAN),
        ("+ multi-scale", ["scale=multi", "attention=plain", "fusion=coattention"]),
        ("+ enhanced attention", ["scale=multi", "attention=enhanced", "fusion=coattention"]),
        ("+ dense fusion (= XingGAN++)", ["scale=multi", "attention=enhanced", "fusion=dense"]),
        ("XingGAN++ with AiATrack's attention", ["scale=multi", "attention=aiatrack", "fusion=dense"]),
    ],
    "milestones": [
        ("XingGAN", XINGGAN),
        ("+ multi-scale", ["scale=multi", "attention=plain", "fusion=coattention"]),
        ("+ enhanced attention and dense fusion (= XingGAN++)", ["scale=multi", "attention=enhanced", "fusion=dense"]),
    ],
    "losses": [
        ("L1", ["losses.adversarial=0", "losses.perceptual=0"]),
        ("+ appearance discriminator", ["discriminators=appearance", "losses.perceptual=0"]),
        ("+ shape discriminator", ["discriminators=both", "losses.perceptual=0"]),
        ("+ perceptual", ["discriminators=both"]),
    ],
    "blocks": [(f"{count} blocks", [f"blocks={count}"]) for count in range(1, 14)],
    "scales": [
        ("all positions (single scale)", ["scale=single"]),
        *((f"pyramid {bins}", ["scale=multi", f"pyramid={bins}"]) for bins in ("[1]", "[3]", "[6]", "[8]")),
        *((f"pyramid {bins}", ["scale=multi", f"pyramid={bins}"]) for bins in ("[1,3]", "[1,3,6]", "[1,3,6,8]")),
    ],
    "candidates": [(f"{count} a branch", [f"candidates={count}"]) for count in (1, 5, 10, 20)],
    "pose_map": [(kind, [f"pose_map={kind}"]) for kind in ("gaussian", "onehot")],
    "comparison": [
        ("XingGAN++", ["method=xinggan"]),
        ("XingGAN", ["method=xinggan", *XINGGAN]),
        ("PATN", ["method=patn"]),
        ("BiGraphGAN", ["method=bigraph"]),
        ("GFLA", ["method=gfla"]),
        ("DPTN", ["method=dptn"]),
        ("NTED", ["method=nted"]),
        ("Deformable GAN", ["method=deform"]),
        ("PG2", ["method=pg2"]),
        ("pix2pix", ["method=pix2pix"]),
        ("PIDM", ["method=pidm"]),
        ("PIDM in a few steps", ["method=pidm_few_step"]),
        ("PIDM in a few steps, adversarial", ["method=pidm_adversarial"]),
        ("PoCoLD", ["method=pocold"]),
        ("CFLD", ["method=cfld"]),
        ("X-MDPT", ["method=xmdpt"]),
        ("autoencoder of the latent methods", ["method=vae_roundtrip"]),
    ],
    "projections": [("tied", ["tie_projections=true"]), ("untied", ["tie_projections=false"])],
}
STUDIES["tuning"] = STUDIES["comparison"][:-1]  # each of them a grid (see `tuning`); the autoencoder has no choice
STUDIES["efficiency"] = STUDIES["comparison"]  # timed only, under every precision, mode and batch: `efficiency`
MODEL = ("method", "published", "training", "budget", "amount", "precision", "compile")  # keys of a run's configuration
STUDY_WORDS = ("only", "tuned", "timing.methods")  # keys that are no settings of a run; the last is only=, as before


def main(arguments: list[str] | None = None) -> int:
    """Run every row that is not finished, then print the table and build the report. Exit status as `ablations.run`."""
    lines = "\n".join(
        textwrap.fill(f"  {study:<12} " + "; ".join(title for title, _ in rows), 110, subsequent_indent=" " * 15)
        for study, rows in STUDIES.items()
    )
    parser = parser_of("ablations.study", __doc__, f"studies:\n{lines}")
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--methods", type=Path, metavar="FOLDER", help="methods of your own (see CONTRIBUTING.md)")
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report at the end")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides for every row")
    options = parser.parse_intermixed_args(arguments)

    return exit_status("ablations.study", lambda: run_study(options))


def run_study(options: argparse.Namespace) -> int:
    """Run the study of parsed options; the exit status as `ablations.run`.

    Raises ValueError or OSError for what cannot be used, before any work.
    """
    if options.methods:
        use_methods(options.methods)
    if options.study == "efficiency":
        rows, words, _ = selection("efficiency", options.overrides)
        return run_efficiency(rows, words, report=not options.no_report)
    rows = study_rows(options.study, options.overrides)
    configs = [compose(overrides) for _, overrides in rows]
    rows = [(titled(title, config), words) for (title, words), config in zip(rows, configs, strict=True)]
    configs += [reference(configs[0], name) for name in REFERENCES]
    folders = prepare_folders(configs)
    listed = list(zip([*(title for title, _ in rows), *REFERENCES], folders, strict=True))
    runs, models = folders[0].parent, [model(config) for config in configs]
    own = [(title, folder.name, of) for (title, folder), of in zip(listed, models, strict=True)]
    # Before any of them is there, so that a report can say which are missing.
    list_rows(runs, options.study, merged(runs, options.study, own))
    code = run_grid(rows)
    done = [(title, folder) for title, folder in listed if RunRecord(folder).finished]
    if done:
        told, chosen = write_choice(runs) if options.study == "tuning" else ({}, set())
        print_table([(f"{title} *" if folder.name in chosen else title, folder) for title, folder in done])
        if told:
            print("\n* chosen:\n" + "\n".join(f"  {row}: {choice}" for row, choice in told.items()))
        if not options.no_report:
            build([folder for _, folder in done], runs.parent / "report" / options.study)
    return code


def selection(study: str, words: list[str]) -> tuple[Rows, list[str], str | None]:
    """The rows of a study that `only=` chooses, the words that are settings of runs, and the folder of `tuned=`.

    Raises ValueError for a row that the study has not.
    """
    own = {key: text for key, _, text in (word.partition("=") for word in words) if key in STUDY_WORDS}
    only = own.get("only", own.get("timing.methods"))
    rows = STUDIES[study] if only is None else chosen_rows(STUDIES[study], only)
    return rows, [word for word in words if key_of(word) not in STUDY_WORDS], own.get("tuned")


def study_rows(study: str, words: list[str]) -> Rows:
    """Title and overrides of each row of the study, once a combination of the comma lists in `words`.

    Raises ValueError for an override of what the study itself varies, for a list of data sets, and as `selection`,
    `grid_rows` and `tuned_rows`.
    """
    chosen, overrides, tuned = selection(study, words)
    combinations = expand(overrides)
    if study == "tuning":
        if len(combinations) > 1 or tuned:
            raise ValueError("the study tuning accepts neither tuned= nor a list of values beside only=")
        chosen = grid_rows(chosen, overrides)
    elif tuned:
        chosen = tuned_rows(chosen, tuned, combinations[0])
    varied = {key_of(word) for _, own in chosen for word in own}
    if taken := sorted({key_of(word) for word in overrides if any(overlap(key_of(word), key) for key in varied)}):
        raise ValueError(
            f"{', '.join(taken)}: the study {study} sets {', '.join(sorted(varied))} itself, row by row. Leave it out, "
            "or use python -m ablations.run for a run of your own"
        )
    rows = []
    for combination in combinations:
        sweep = [word for word in combination if word not in overrides]
        if listed := [key_of(word) for word in sweep if overlap(key_of(word), "dataset")]:
            raise ValueError(
                f"{listed[0]}: a list is not accepted here, because the rows of one table are scored on one test set. "
                "Run the study once for each data set"
            )
        rows += [(" ".join([title, *sweep]), [*own, *combination]) for title, own in chosen]
    return rows


def model(config: Experiment | dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of what the runs of one row share: the method and its training, their seeds aside."""
    plain = plain_values(config) if isinstance(config, Experiment) else config
    idle = ("method.seed", *(f"training.{key}" for key in SAME_RESULT))
    return {key: value for key, value in flat({key: plain.get(key) for key in MODEL}) if key not in idle}


def merged(
    runs: Path, study: str, rows: list[tuple[str, str, dict[str, Any]]], table: str = ""
) -> list[tuple[str, str]]:
    """Title and run of the rows (title, run, model) of a study, and of those of its last table on the same data.

    table: its name, where that is not the study's.

    So a study can be run some rows or seeds at a time, and stands in its own order. An old row is left out where a
    new one is of the same run, or of the same title and seed, or trains another model under the title.
    """
    new = [(title, run) for title, run, _ in rows]
    before = [(row["title"], row["run"]) for row in RunRecord(runs).read(f"studies/{table or study}.json", [])]
    if {row for row in before if row[0] in REFERENCES} != {row for row in new if row[0] in REFERENCES}:
        return new
    names, models = [title for title, _ in STUDIES[study]], {without_seed(title): of for title, _, of in rows}
    taken = {run for _, run in new} | {(without_seed(title), _seed(run)) for title, run in new}

    def stays(title: str, run: str) -> bool:
        called, config = without_seed(title), runs / run / "config.yaml"
        if run in taken or (called, _seed(run)) in taken or (study == "tuning" and called in models):
            return False  # a point of a grid is a single run
        if called not in models or not config.is_file():
            return True
        own = model(yaml.safe_load(config.read_bytes()) or {})
        return all(models[called][key] == own[key] for key in own.keys() & models[called].keys())

    def place(row: tuple[str, str]) -> int:
        fitting = [name for name in names if row[0].startswith(name)]
        return names.index(max(fitting, key=len)) if fitting else len(names) + (row[0] in REFERENCES)

    found = sorted([*(row for row in before if stays(*row)), *new], key=place)
    alike = Counter(without_seed(title) for title, _ in found)
    return [(f"{title} seed={_seed(run)}" if alike[title] > 1 and _seed(run) else title, run) for title, run in found]


def _seed(run: str) -> str:
    """The seed in the name of a run's folder; "" of one that has none."""
    found = re.search(r"-s(\d+)-\w+$", run)
    return found[1] if found else ""


def overlap(key: str, other: str) -> bool:
    """Whether one of two keys is, or contains, the other: `losses` and `losses.l1`."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


if __name__ == "__main__":
    run_command(main)
