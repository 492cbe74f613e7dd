"""Named studies: the tables of the papers, each a list of runs that differ in what is studied.

    python -m ablations.study components
    python -m ablations.study blocks seed=0,1,2 preset=small
    python -m ablations.study efficiency preset=smoke timing.batches=1,2

Further words are those of `ablations.run` and hold for every row. Finished rows are not computed again. The study
`efficiency` times the methods of `comparison` and scores nothing; timing.* say what (see `xinggan.timing.plan`).
"""

import argparse
from pathlib import Path

from ablations.config import compose, reference
from ablations.efficiency import run_efficiency
from ablations.record import RunRecord, list_rows, titled
from ablations.run import build, prepare_folders, print_table, run_grid
from ablations.words import expand, key_of
from baselines import REFERENCES
from xinggan.command import exit_status, run_command
from xinggan.model.from_settings import use_methods

XINGGAN = ["scale=single", "attention=plain", "fusion=coattention"]

# study -> rows of (title, overrides); XingGAN ECCV 2020 tables 3 and 4, XingGAN++ TPAMI 2025 ablation.
STUDIES: dict[str, list[tuple[str, list[str]]]] = {
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
STUDIES["efficiency"] = STUDIES["comparison"]  # timed only, under every precision, mode and batch: `efficiency`


def main(arguments: list[str] | None = None) -> int:
    """Run every row that is not finished, then print the table and build the report. Exit status as `ablations.run`."""
    lines = "\n".join(
        f"  {study:<12} {', '.join(title for title, _ in rows[:4])}{' ...' if len(rows) > 4 else ''}"
        for study, rows in STUDIES.items()
    )
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m ablations.study",
        description=__doc__,
        epilog=f"studies:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        return run_efficiency(STUDIES["efficiency"], options.overrides, report=not options.no_report)
    rows = study_rows(options.study, options.overrides)
    configs = [compose(overrides) for _, overrides in rows]
    rows = [(titled(title, config), words) for (title, words), config in zip(rows, configs, strict=True)]
    configs += [reference(configs[0], name) for name in REFERENCES]
    folders = prepare_folders(configs)
    code = run_grid(rows)
    listed = list(zip([*(title for title, _ in rows), *REFERENCES], folders, strict=True))
    done = [(title, folder) for title, folder in listed if RunRecord(folder).finished]
    if done:
        print_table(done)
        runs = folders[0].parent
        list_rows(runs, options.study, [(title, folder.name) for title, folder in listed])
        if not options.no_report:
            build([folder for _, folder in done], runs.parent / "report" / options.study)
    return code


def study_rows(study: str, overrides: list[str]) -> list[tuple[str, list[str]]]:
    """Title and overrides of each row of the study, once a combination of the comma lists in `overrides`.

    Raises ValueError for an override of what the study itself varies, and for a list of data sets.
    """
    varied = {key_of(word) for _, own in STUDIES[study] for word in own}
    if taken := sorted({key_of(word) for word in overrides if any(overlap(key_of(word), key) for key in varied)}):
        raise ValueError(
            f"{', '.join(taken)}: the study {study} sets {', '.join(sorted(varied))} itself, row by row. Leave it out, "
            "or use python -m ablations.run for a run of your own"
        )
    rows = []
    for combination in expand(overrides):
        sweep = [word for word in combination if word not in overrides]
        if listed := [key_of(word) for word in sweep if overlap(key_of(word), "dataset")]:
            raise ValueError(
                f"{listed[0]}: a list is not accepted here, because the rows of one table are scored on one test set. "
                "Run the study once for each data set"
            )
        rows += [(" ".join([title, *sweep]), [*own, *combination]) for title, own in STUDIES[study]]
    return rows


def overlap(key: str, other: str) -> bool:
    """Whether one of two keys is, or contains, the other: `losses` and `losses.l1`."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


if __name__ == "__main__":
    run_command(main)
