"""What a participant of a user study is asked: trials made of test pairs, whose pictures have neutral names.

`real-or-generated` is the user study of the field's papers (Ma et al. 2017, XingGAN): real and generated pictures in
random order, a second each, the first few for practice. `side-by-side` shows what two methods generated for the same
source image and target pose. Catch trials among them show whether a participant looks: a scrambled picture, or the real
one beside a generated one; one picture beside itself shows whether a participant prefers a side.
"""

import random
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from reports.user_study.pictures import REAL, SCRAMBLED

if TYPE_CHECKING:
    from reports.user_study.pictures import ScoredPair

SCHEMA = 1  # of the page's data, the key and the answers
PAIRS = 50  # at most, unless asked for: with one method 50 real and 50 generated pictures are judged
CATCH_SHARE = 0.05  # of the judged trials, of each kind of catch trial


@dataclass(frozen=True)
class Kind:
    """A kind of study."""

    title: str
    seconds: float  # that a picture is shown, 0: until the answer
    practice: int  # trials that are not counted
    choices: tuple[str, str]  # the two answers


KINDS = {
    "real-or-generated": Kind("Real or generated?", 1.0, 10, ("real", "generated")),
    "side-by-side": Kind("Which picture is better?", 0.0, 2, ("left", "right")),
}


@dataclass
class Trial:
    """One question. The makers of its pictures stand in the key file and not on the page."""

    role: str  # real, generated, scrambled; or pair, truth, identical
    practice: bool
    pair: "ScoredPair"
    makers: tuple[str, ...]  # a run directory's name, REAL or SCRAMBLED: of one picture, or of the two side by side
    name: str = ""
    pictures: dict[str, str] = field(default_factory=dict)  # neutral name -> maker
    given: dict[str, str] = field(default_factory=dict)  # side by side: source, target_pose -> neutral name


def plan_trials(kind: str, runs: list[str], pairs: list["ScoredPair"], count: int | None, seed: int) -> list[Trial]:
    """The trials of a study in random order, each with neutral picture names.

    Every run is judged on the same `count` test pairs (default: PAIRS, or as many as there are), and no target image is
    judged twice as the real one. Raises ValueError when the test set has too few.
    """
    chance = random.Random(seed)
    if reserved := {REAL, SCRAMBLED}.intersection(runs):
        raise ValueError(f"a run's folder may not be called {', '.join(reserved)}; rename it")
    if kind == "side-by-side" and len(runs) < 2:
        raise ValueError("side-by-side compares methods: name two runs or more by --runs")
    targets = list({pair.target: pair for pair in chance.sample(pairs, len(pairs))}.values())
    practice = min(KINDS[kind].practice, len(targets) // 4)
    room = len(targets) - practice
    most = max((n for n in range(1, room + 1) if _pairs_shown(kind, len(runs), n) <= room), default=0)
    if not most:
        raise ValueError(f"{len(targets)} different target images are too few for a study of {len(runs)} runs")
    if count is not None and not 1 <= count <= most:
        raise ValueError(
            f"--pairs {count}: the {len(targets)} different target images at hand allow 1 to {most} pairs for "
            f"{len(runs)} runs; where only the examples of a run record were found, name the packed data set by "
            "--dataset"
        )
    count = min(most, PAIRS) if count is None else count
    judged, rest = targets[:count], targets[count:]
    catches = range(_catch_trials(kind, len(runs), count))
    if kind == "side-by-side":
        duos = list(combinations(runs, 2))
        trials = [Trial("pair", False, pair, duo) for pair in judged for duo in duos]
        trials += [Trial("pair", True, rest.pop(), chance.choice(duos)) for _ in range(practice)]
        trials += [Trial("truth", False, rest.pop(), (REAL, chance.choice(runs))) for _ in catches]
        trials += [Trial("identical", False, rest.pop(), (chance.choice(runs),) * 2) for _ in catches]
    else:  # half of the judged pictures are real, of other pairs than the generated ones while there are others
        trials = [Trial("generated", False, pair, (run,)) for pair in judged for run in runs]
        trials += [Trial("generated", True, rest.pop(), (chance.choice(runs),)) for _ in range(0, practice, 2)]
        trials += [Trial("real", True, rest.pop(), (REAL,)) for _ in range(1, practice, 2)]
        trials += [Trial("scrambled", False, rest.pop(), (SCRAMBLED,)) for _ in catches]
        trials += [Trial("real", False, pair, (REAL,)) for pair in (rest + judged)[: count * len(runs)]]
    chance.shuffle(trials)
    given = ("source", "target_pose") if kind == "side-by-side" else ()
    shown = sum(len(trial.makers) + len(given) for trial in trials)
    numbers = iter(chance.sample(range(1, shown + 1), shown))
    for number, trial in enumerate(trials):
        trial.name = f"t{number:03d}"
        trial.pictures = {f"{next(numbers):03d}": maker for maker in trial.makers}
        trial.given = {which: f"{next(numbers):03d}" for which in given}
    return trials


def _catch_trials(kind: str, runs: int, pairs: int) -> int:
    """How many there are of each kind of catch trial."""
    judged = pairs * runs * (runs - 1) // 2 if kind == "side-by-side" else 2 * pairs * runs
    return max(1, round(CATCH_SHARE * judged))


def _pairs_shown(kind: str, runs: int, pairs: int) -> int:
    """How many pairs with different targets a study shows, practice aside."""
    catches = _catch_trials(kind, runs, pairs)
    return pairs + 2 * catches if kind == "side-by-side" else pairs * runs + catches
