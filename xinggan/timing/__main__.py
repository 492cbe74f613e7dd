"""A quick look at what methods cost here: side by side, each in a process of its own, as a table on the terminal.

    python -m xinggan.timing xinggan pidm --preset smoke --batch 1 8 --training

METHOD is a method's name with any settings after it, joined by commas: xinggan,scale=single,blocks=3. Nothing is
written but the packed data set; `python -m ablations.study efficiency` measures everything and keeps it.
"""

import argparse
import sys
from functools import partial

from xinggan.timing.scenario import MODES, PRECISIONS


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns 2 for refused input, 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m xinggan.timing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("methods", nargs="+", metavar="METHOD", help="such as xinggan, pidm or xinggan,scale=single")
    parser.add_argument("--preset", default="small", help="small, smoke or paper (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images a call (default: 1)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32"], help="(default: fp32)")
    parser.add_argument("--mode", nargs="+", choices=MODES, default=["eager"], help="(default: eager)")
    parser.add_argument("--training", action="store_true", help="time a training step of the preset's batch too")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each scenario (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--cache", default="data", help="folder of packed data sets (default: %(default)s)")
    options = parser.parse_args(arguments)
    if min(*options.batch, options.rounds, 1) < 1:
        parser.error("--batch and --rounds: accepted are 1 and more")

    # The names of methods and their sizes are the configurations', which stand above this package: only here.
    from ablations.config import compose
    from ablations.efficiency import prepare_row

    shared = [f"preset={options.preset}", f"device={options.device}", f"cache={options.cache}"]
    try:
        asked = [[f"method={words.split(',')[0]}", *words.split(",")[1:]] for words in options.methods]
        configs = [compose([*words, *shared]) for words in asked]
        rows = [prepare_row(" ".join(words), words, config) for words, config in zip(asked, configs, strict=True)]
    except (ValueError, OSError) as error:
        print(f"xinggan.timing: {error}", file=sys.stderr)
        return 2
    return look([row.subject for row in rows], options)


def look(subjects: list, options: argparse.Namespace) -> int:
    """Measure the subjects under the options' circumstances and print the table; the exit status."""
    from xinggan.progress import Progress
    from xinggan.timing.plan import Plan, grid
    from xinggan.timing.table import print_timing
    from xinggan.timing.turns import Pace, measure_together

    training = tuple(mode for mode in options.mode if mode != "cudagraph") if options.training else ()
    plan = Plan(
        precisions=tuple(options.precision), modes=tuple(options.mode), batches=tuple(options.batch),
        training_modes=training, samplers=(), steps=(),
    )  # fmt: skip
    groups = grid(subjects, plan)
    found = []
    with Progress("timing", sum(map(len, groups)), "scenarios") as shown:
        for group in groups:
            found += measure_together(group, Pace(rounds=options.rounds), tell=partial(shown.update, 0))
            shown.update(len(group), str(group[-1]))
    rows = []
    for subject in subjects:
        scenarios = [one.scenario.record() for one in found if one.task.method == subject.title
                     and one.task.kind != "counts"]  # fmt: skip
        rows.append((subject.title, {"scenarios": scenarios}))
    print_timing(rows)
    for one in found:
        if one.counts:
            macs = one.counts["macs_per_image"]
            counted = "no operations counted" if macs is None else f"{macs / 1e9:.3g} GMACs an image"
            print(f"{one.task.method}: {one.counts['parameters']:,} parameters, {counted}")
    return 0 if any(scenario["median_ms"] is not None for _, timing in rows for scenario in timing["scenarios"]) else 1


if __name__ == "__main__":
    sys.exit(main())
