"""Train a method on a few pairs of real photographs and generate these same pairs: a test that the method learns.

    python -m ablations.overfit --root ../people method=patn training.steps=800
    python -m ablations.overfit --root ../people --all

A method that cannot bring its own training pairs to a high SSIM has a defect; of a diffusion model, look at the falling
loss and at the pictures. Run on demand: minutes for each method.
"""

from dataclasses import replace
from pathlib import Path

from ablations.config import Experiment, build_method, choices_of, compose
from ablations.record import RunRecord, run_id
from baselines import REFERENCES
from xinggan.command import exit_status, parser_of, run_command


def main(arguments: list[str] | None = None) -> int:
    """Overfit one method, or each in turn; one line and one picture for each. Returns 2 for what cannot be used."""
    parser = parser_of("ablations.overfit", __doc__)
    parser.add_argument("--root", required=True, help="folder of photographs in Pose-Transfer layout")
    parser.add_argument("--pairs", type=int, default=16, help="training pairs (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every method that is trained, in place of method=")
    parser.add_argument("--out", type=Path, default=Path("overfit"), help="pictures and losses (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="words of ablations.run")
    options = parser.parse_intermixed_args(arguments)
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: accepted are whole numbers from 1")

    def overfit_each() -> None:
        chosen = [method for method in choices_of("method") if method not in REFERENCES] if options.all else [None]
        for method in chosen:
            words = [f"method={method}"] if method else []
            config = compose([*words, "dataset=folder", f"dataset.root={options.root}", *options.overrides])
            line = overfit(config, options.pairs, options.out)
            print(f"{config.method_name:<16} {line}", flush=True)

    return exit_status("ablations.overfit", overfit_each)


def overfit(config: Experiment, count: int, out: Path) -> str:
    """Train on `count` training pairs of as many different people as there are; returns a line with SSIM, L1, losses.

    Each experiment has a folder of its own in `out`, in which the same one goes on where it was. Raises ValueError for
    a method that is not trained.
    """
    import numpy as np

    from xinggan.data.prepare import prepare
    from xinggan.distributed import resolve_device
    from xinggan.training.loop import sample, train

    if config.training is None:
        raise ValueError(f"method={config.method_name} is not trained")
    device = resolve_device(config.device)
    method = build_method(config, device)
    data = prepare(config.dataset, config.cache)
    folder = out / f"{run_id(config, data.digest)}-{count}-pairs"
    identities = data.train.identities[data.train.pairs[:, 0]]
    nth = np.array([np.count_nonzero(identities[:i] == identity) for i, identity in enumerate(identities[:5000])])
    rows = np.sort(np.argsort(nth, kind="stable")[:count])  # each person's first pair, then everybody's second, ...
    few = replace(data.train, pairs=data.train.pairs[rows])
    same = replace(data, train=few, test=replace(few, name="test"))
    result = train(method, same, config.training, folder, seed=config.seed, device=device)
    result.average.swap()
    found = sample(method, few, range(len(few)), folder / "pairs.png", config.seed, device)
    losses = [line["losses"] for line in RunRecord(folder).logged_losses()]
    fell = ", ".join(
        f"{name} {losses[0][name]:.3g} -> {losses[-1][name]:.3g}"
        for name in losses[0]
        if not name.startswith("gradient") and name in losses[-1]
    )
    return f"SSIM {found['ssim']:.3f}, L1 {found['l1']:.3f}, {result.step} steps. {fell}. {folder / 'pairs.png'}"


if __name__ == "__main__":
    run_command(main)
