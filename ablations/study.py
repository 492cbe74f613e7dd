"""Named studies: the tables of the papers, each a list of runs that differ in what is studied.

    python -m ablations.study components
    python -m ablations.study blocks seed=0,1,2 preset=small

Further words are those of `ablations.run` and hold for every row. Finished rows are not computed again.
"""

import argparse
import json
import sys
from pathlib import Path

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
    "projections": [("tied", ["tie_projections=true"]), ("untied", ["tie_projections=false"])],
}


def main(arguments: list[str] | None = None) -> int:
    """Run every row that is not finished, then print the table and build the report. Exit status as `ablations.run`."""
    lines = "\n".join(
        f"  {study:<12} {', '.join(title for title, _ in rows[:4])}{' ...' if len(rows) > 4 else ''}"
        for study, rows in STUDIES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m ablations.study",
        description=__doc__,
        epilog=f"studies:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--no-report", action="store_true", help="leave out the HTML report at the end")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides for every row")
    options = parser.parse_args(arguments)

    from ablations.config import ConfigurationError, compose
    from ablations.run import run_grid

    try:
        rows = study_rows(options.study, options.overrides)
        configs = [compose(overrides) for _, overrides in rows]
    except ConfigurationError as error:
        print(f"ablations.study: {error}", file=sys.stderr)
        return 2
    code = run_grid(rows)
    finish(options.study, rows, configs, report=not options.no_report)
    return code


def study_rows(study: str, overrides: list[str]) -> list[tuple[str, list[str]]]:
    """Title and overrides of each row of the study, once a combination of the comma lists in `overrides`."""
    from ablations.config import expand

    rows = []
    for combination in expand(overrides):
        for title, own in STUDIES[study]:
            sweep = [word for word in combination if word not in overrides]
            rows.append((" ".join([title, *sweep]), [*own, *combination]))
    return rows


def finish(study: str, rows: list[tuple[str, list[str]]], configs: list, report: bool) -> None:
    """Print one table of all rows that are done, write the study's list of runs, build its report."""
    from omegaconf import OmegaConf

    from ablations.config import REFERENCES, reference, run_id
    from ablations.record import RunRecord
    from ablations.run import build
    from ablations.summary import print_table
    from xinggan.data.prepare import digest
    from xinggan.data.settings import DatasetSettings
    from xinggan.files import write_atomically

    def folder_of(config) -> Path:
        settings: DatasetSettings = OmegaConf.to_object(config.dataset)  # type: ignore[assignment]
        return Path(config.runs) / run_id(config, digest(settings, config.cache))

    runs = Path(configs[0].runs)
    titled = [(title, folder_of(config)) for (title, _), config in zip(rows, configs, strict=True)]
    titled += [(name, folder_of(reference(configs[0], name))) for name in REFERENCES]
    done = [(title, folder) for title, folder in titled if RunRecord(folder).finished]
    if not done:
        return
    print_table(done)
    listing = [{"title": title, "run": folder.name} for title, folder in titled]
    write_atomically(runs / "studies" / f"{study}.json", json.dumps(listing, indent=1) + "\n")
    if report:
        build([folder for _, folder in done], runs.parent / "report" / study)


if __name__ == "__main__":
    sys.exit(main())
