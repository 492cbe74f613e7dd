"""What one participant of a study is asked: trials made of test pairs, under names that do not say who made a picture.

Two kinds. `real-or-generated` is the user study of the field's papers (Ma et al. 2017, XingGAN):
real and generated pictures in random order, a second each, the first few for practice. `side-by-side` shows what two
methods generated for the same source image and target pose. Among them are catch trials, which tell whether somebody
looks: a scrambled picture, the real one beside a generated one, one picture twice.
"""

import random
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from reports.study_pictures import ScoredPair, StudyPictures

if TYPE_CHECKING:
    import numpy as np

KINDS = ("real-or-generated", "side-by-side")
SECONDS = {"real-or-generated": 1.0, "side-by-side": 0.0}  # 0: shown until the answer
PRACTICE = {"real-or-generated": 10, "side-by-side": 2}  # trials that are not counted
PAIRS = 50  # at most, unless asked for: with one method 50 real and 50 generated pictures are judged
CATCH_SHARE = 0.05  # of the judged trials, of each kind of catch trial
REAL, SCRAMBLED = "real", "scrambled"  # who made a picture, beside the runs


@dataclass
class Trial:
    """One question. Who made its pictures stands in the key file and not on the page."""

    role: str  # real, generated, scrambled; or pair, truth, identical
    practice: bool
    pair: ScoredPair
    makers: list[str]  # a run's directory name, REAL or SCRAMBLED: one picture, or the two of side-by-side
    pictures: list[str] = field(default_factory=list)  # their neutral names, in the order of `makers`
    given: dict[str, str] = field(default_factory=dict)  # side-by-side: neutral names of source and target_pose


def plan_trials(kind: str, pictures: StudyPictures, pairs: int | None, seed: int) -> list[Trial]:
    """The trials of a study in an order of their own, each with neutral picture names.

    No target image is judged twice as the real one, and all methods are judged on the same `pairs` test pairs.
    Raises ValueError when the test set has too few.
    """
    chance = random.Random(seed)
    runs = [record.run for record in pictures.records]
    if reserved := {REAL, SCRAMBLED}.intersection(runs):
        raise ValueError(f"a run's folder may not be called {', '.join(reserved)}; rename it")
    if kind == "side-by-side" and len(runs) < 2:
        raise ValueError("side-by-side compares methods: name two runs or more by --runs")
    chosen = different_targets(pictures.pairs, chance)
    count = number_of_pairs(kind, len(runs), len(chosen), pairs)
    plan = plan_side_by_side if kind == "side-by-side" else plan_real_or_generated
    trials = plan(runs, chosen, count, chance)
    chance.shuffle(trials)
    name_pictures(trials, kind == "side-by-side", chance)
    return trials


def different_targets(pairs: list[ScoredPair], chance: random.Random) -> list[ScoredPair]:
    """The pairs in random order, of those with the same target image the first."""
    first: dict[str, ScoredPair] = {}
    for pair in chance.sample(pairs, len(pairs)):
        first.setdefault(pair.target, pair)
    return list(first.values())


def number_of_pairs(kind: str, runs: int, there: int, wanted: int | None) -> int:
    """How many pairs each method is judged on; `there` counts pairs with different targets."""
    most = max((n for n in range(there + 1) if pairs_needed(kind, runs, there, n) <= there), default=0)
    if most < 1:
        raise ValueError(f"{there} different target images are too few for a study of {runs} runs")
    if wanted is not None and not 1 <= wanted <= most:
        raise ValueError(
            f"--pairs {wanted}: the {there} different target images at hand allow 1 to {most} pairs for {runs} runs; "
            "where only the examples of a run record were found, name the packed data set by --dataset"
        )
    return min(most, PAIRS) if wanted is None else wanted


def practice_trials(kind: str, there: int) -> int:
    """As many as the papers have, and fewer of a small test set."""
    return min(PRACTICE[kind], there // 4)


def catch_trials(kind: str, runs: int, pairs: int) -> int:
    """Of each kind of catch trial."""
    judged = 2 * pairs * runs if kind == "real-or-generated" else pairs * runs * (runs - 1) // 2
    return max(1, round(CATCH_SHARE * judged))


def pairs_needed(kind: str, runs: int, there: int, pairs: int) -> int:
    """Pairs with different targets for everything that is shown."""
    others = practice_trials(kind, there) + catch_trials(kind, runs, pairs)
    if kind == "side-by-side":
        return pairs + others + catch_trials(kind, runs, pairs)
    return max(pairs, pairs * runs) + others  # as many real pictures as generated ones


def plan_real_or_generated(runs: list[str], chosen: list[ScoredPair], count: int, chance: random.Random) -> list[Trial]:
    """Half of the judged pictures are real, of other pairs than the generated ones as far as there are others."""
    kind = "real-or-generated"
    practice, catches = practice_trials(kind, len(chosen)), catch_trials(kind, len(runs), count)
    judged, rest = chosen[:count], chosen[count:]
    trials = [Trial("generated", False, pair, [run]) for pair in judged for run in runs]
    for number in range(practice):
        maker = REAL if number % 2 else chance.choice(runs)
        trials.append(Trial("real" if number % 2 else "generated", True, rest.pop(), [maker]))
    trials += [Trial("scrambled", False, rest.pop(), [SCRAMBLED]) for _ in range(catches)]
    trials += [Trial("real", False, pair, [REAL]) for pair in (rest + judged)[: count * len(runs)]]
    return trials


def plan_side_by_side(runs: list[str], chosen: list[ScoredPair], count: int, chance: random.Random) -> list[Trial]:
    """Every two methods on the same pairs; what a method made beside the real picture, and beside itself."""
    kind = "side-by-side"
    judged, rest = chosen[:count], chosen[count:]
    duos = list(combinations(runs, 2))
    trials = [Trial("pair", False, pair, list(duo)) for pair in judged for duo in duos]
    for _ in range(practice_trials(kind, len(chosen))):
        trials.append(Trial("pair", True, rest.pop(), list(chance.choice(duos))))
    for _ in range(catch_trials(kind, len(runs), count)):
        trials.append(Trial("truth", False, rest.pop(), [REAL, chance.choice(runs)]))
        trials.append(Trial("identical", False, rest.pop(), [chance.choice(runs)] * 2))
    return trials


def name_pictures(trials: list[Trial], with_given: bool, chance: random.Random) -> None:
    """Number all pictures of all trials in random order: 001, 002, ..."""
    given = ("source", "target_pose") if with_given else ()
    places = [(trial, maker) for trial in trials for maker in (*range(len(trial.makers)), *given)]
    numbers = chance.sample(range(1, len(places) + 1), len(places))
    for (trial, place), number in zip(places, numbers, strict=True):
        name = f"{number:03d}"
        if isinstance(place, str):
            trial.given[place] = name
        else:
            trial.pictures.append(name)


def trial_pictures(trial: Trial, pictures: StudyPictures) -> dict[str, "np.ndarray"]:
    """Neutral name -> picture, uint8 [H, W, 3], of everything that the trial shows."""
    made = {}
    for name, maker in zip(trial.pictures, trial.makers, strict=True):
        if maker in (REAL, SCRAMBLED):
            target = pictures.given(trial.pair, "target")
            made[name] = scrambled(target) if maker == SCRAMBLED else target
        else:
            made[name] = pictures.generated(trial.pair, maker)
    return made | {name: pictures.given(trial.pair, which) for which, name in trial.given.items()}


def scrambled(image: "np.ndarray") -> "np.ndarray":
    """What nobody who looks takes for real: six bands of a picture's rows, then four of its columns, change places."""
    import numpy as np

    rows = np.array_split(image, 6, axis=0)
    mixed = np.concatenate([rows[band] for band in (3, 0, 5, 1, 4, 2)], axis=0)
    columns = np.array_split(mixed, 4, axis=1)
    return np.concatenate([columns[band] for band in (2, 0, 3, 1)], axis=1)


def key_entry(trial: Trial) -> dict[str, Any]:
    """What the key file says of a trial."""
    makers = dict(zip(trial.pictures, trial.makers, strict=True))
    return {"role": trial.role, "practice": trial.practice, "pair_id": trial.pair.pair_id, "pictures": makers}
