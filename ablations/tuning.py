"""The study `tuning`: the same small budget for every method before a long comparison, and what is chosen by it.

    python -m ablations.study tuning only=pidm,xmdpt
    python -m ablations.study comparison tuned=runs

Each method trains on PAIRS pairs with four learning rates, a diffusion model with two parametrisations each. The run
that looks most like its targets is chosen, on the validation split: people who are neither trained on nor in the test
split. The grid is the study's run records. <runs>/tuning.json has grid and choice in one table; `tuned=<runs>` computes
the choice again.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import yaml

from ablations.config import compose
from ablations.record import RunRecord
from ablations.words import key_of
from baselines.diffusion.settings import Prediction, Weighting
from xinggan.data.prepare import digest
from xinggan.data.settings import Split
from xinggan.files import user_path

PAIRS = 4000  # that each run trains on; training.images= is another number
PAIRS_OF = {"smoke": 24}  # of a preset that is not to learn anything
FACTORS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0}  # of the preset's learning rate
# What a diffusion model predicts and how timesteps are weighted: as published, and as one would choose today. PIDM's
# versions in a few steps predict v in any case, since their students start where a noise prediction says little.
EPSILON, V, MIN_SNR_V = "epsilon", "v", "v and min-SNR"
PARAMETRISATIONS = {
    EPSILON: [f"prediction={Prediction.epsilon}", f"weighting={Weighting.uniform}"],
    V: [f"weighting={Weighting.uniform}"],
    MIN_SNR_V: [f"prediction={Prediction.v}", f"weighting={Weighting.min_snr}"],
}
TITLE = re.compile(rf"(.+?)(?:, ({'|'.join(PARAMETRISATIONS)}))?, rate x({'|'.join(FACTORS)})(?: \(.*\))?")
DIVERGED = ("Divergence: ", "it is not recorded")  # in the error of a loss, or a score, that is not finite
PERCEPTUAL = ("lpips", "perceptual_embedded")  # lower is better; the first that all of a method's runs have decides
Rows = list[tuple[str, list[str]]]  # title and overrides


def grid_rows(rows: Rows, words: list[str]) -> Rows:
    """The grid of each method of `rows`, whose runs get further `words`; training.images among them is their length.

    Raises ValueError for words that are refused, and for a method that has no learning rate.
    """
    given, found = any(key_of(word) == "training.images" for word in words), []
    for title, own in rows:
        usual = compose([*own, "training.decay_steps=0", *words])
        if usual.training is None or "learning_rate" not in usual.method:
            raise ValueError(f"{title} has no learning rate to tune")
        images = PAIRS_OF.get(usual.preset, PAIRS)
        steps = usual.training.steps if given else -(-images // usual.training.batch)
        shared = [f"training.steps={steps}", f"training.decay_steps={steps // 2}", "budget=images", "amount=null"]
        for name, (factor, times) in product(parametrisations(usual.method), FACTORS.items()):
            rate = f"learning_rate={usual.method['learning_rate'] * times!r}"
            called = ", ".join(filter(None, [title, name, f"rate x{factor}"]))
            found.append((called, [*own, *words_of(name, usual.method), rate, *shared, "evaluation.split=validation"]))
    return found


def parametrisations(method: dict[str, Any]) -> list[str]:
    """Names in PARAMETRISATIONS of those that a method with these settings is tuned over; one of "" if it has none."""
    if "weighting" not in method:
        return [""]
    return [EPSILON if "prediction" in method else V, MIN_SNR_V]


def words_of(parametrisation: str, method: dict[str, Any]) -> list[str]:
    """The overrides that a parametrisation means, of the keys that the method has."""
    return [word for word in PARAMETRISATIONS.get(parametrisation, []) if key_of(word) in method]


@dataclass(frozen=True)
class Point:
    """A run of the grid."""

    row: str  # of the comparison
    parametrisation: str  # "" where there is no choice
    factor: str  # of the preset's learning rate
    run: str  # name of the run directory
    state: str  # that of the record; "missing" where there is none
    data: str | None  # digest of the validation people
    error: str  # why it failed
    config: dict[str, Any]
    scores: dict[str, float]  # of PERCEPTUAL, on the validation split

    @property
    def settled(self) -> bool:
        """Whether the run has a result. A training that diverged has lost; what failed otherwise is to be run again."""
        diverged = self.state == "failed" and any(sign in self.error for sign in DIVERGED)
        return diverged or (self.state == "finished" and bool(self.scores))

    @property
    def overrides(self) -> list[str]:
        """The words that choose this point."""
        method = self.config["method"]
        return [*words_of(self.parametrisation, method), f"learning_rate={method['learning_rate']!r}"]

    @property
    def at_edge(self) -> bool:
        """Whether the next rate to try lies outside the grid."""
        return self.factor in (next(iter(FACTORS)), next(reversed(FACTORS)))


def read_grid(runs: Path) -> dict[str, list[Point]]:
    """Row of the comparison -> its points, from a folder of run records and its studies/tuning.json.

    Raises ValueError where there is no such table.
    """
    listing = RunRecord(runs).read("studies/tuning.json", None)
    if not isinstance(listing, list):
        raise ValueError(f"{runs}: no studies/tuning.json there; `python -m ablations.study tuning` writes it")
    points = []
    for entry in listing:
        if not (match := TITLE.fullmatch(entry["title"])):
            continue  # a reference
        record = RunRecord(runs / entry["run"])
        state, found = record.status.get("state", "missing"), record.scores()
        scores = {metric: value for metric in PERCEPTUAL if (value := found.get(metric)) is not None}
        try:
            config = yaml.safe_load((record.folder / "config.yaml").read_bytes())
        except (OSError, yaml.YAMLError):
            config = None
        if not isinstance(config, dict) or not isinstance(config.get("method"), dict):
            state, config = "missing", {}
        about = entry["run"], state, record.status.get("dataset_digest"), str(record.status.get("error") or "")
        points.append(Point(match[1], match[2] or "", match[3], *about, config, scores))
    return {row: list(own) for row, own in groupby(points, key=lambda point: point.row)}


def deciding_metric(points: Iterable[Point]) -> str | None:
    """The first of PERCEPTUAL that all finished points of a row have."""
    finished = [point for point in points if point.state == "finished"]
    return next((m for m in PERCEPTUAL if finished and all(m in point.scores for point in finished)), None)


def choose(points: list[Point]) -> Point:
    """The point of a row with the lowest perceptual distance; of equal ones, that with the lowest rate.

    Raises ValueError for a grid that is not complete, and for one without a finished run.
    """
    expected = list(product(dict.fromkeys(point.parametrisation for point in points), FACTORS))
    settled = {(point.parametrisation, point.factor) for point in points if point.settled}
    if not settled:
        raise ValueError(f"none of {len(expected)} runs has a result")
    if lacking := [f"{name} x{factor}".strip() for name, factor in expected if (name, factor) not in settled]:
        raise ValueError(f"{len(lacking)} of {len(expected)} runs have no result ({', '.join(lacking)})")
    metric = deciding_metric(points)
    if metric is None:
        raise ValueError("no run is finished with a perceptual distance")
    finished = [point for point in points if point.state == "finished"]
    return min(finished, key=lambda point: (point.scores[metric], FACTORS[point.factor]))


def write_choice(runs: Path) -> tuple[dict[str, str], set[str]]:
    """Write <runs>/tuning.json, the grid and what is chosen of it.

    Returns for each row of the comparison the choice in words, or why there is none; and the names of the chosen runs.
    """
    table, told, runs_chosen = [], {}, set()
    for row, points in read_grid(runs).items():
        chosen, metric = None, deciding_metric(points)
        try:
            chosen = choose(points)
            runs_chosen.add(chosen.run)
            edge = ", at the edge of the grid" if chosen.at_edge else ""
            told[row] = f"{' '.join(chosen.overrides)} ({metric} {chosen.scores[str(metric)]:.4f}{edge})"
        except ValueError as error:
            told[row] = f"none: {error}"
        for point in points:
            about: dict[str, Any] = {"row": row, "parametrisation": point.parametrisation, "factor": point.factor}
            about |= {"learning_rate": point.config.get("method", {}).get("learning_rate"), "run": point.run}
            about |= {"state": point.state, "metric": metric, "value": point.scores.get(str(metric))}
            table.append(about | {"chosen": point is chosen, "at_edge": point is chosen and point.at_edge})
    RunRecord(runs).write("tuning.json", table)
    return told, runs_chosen


def tuned_rows(rows: Rows, folder: str, words: list[str]) -> Rows:
    """The rows of a study with the settings that `tuning` chose for them, which are read from a folder of its records.

    Rows that have no learning rate stay as they are. What lies at the grid's edge is said on standard error. Raises
    ValueError naming every row without a complete grid, or tuned with another preset or data set.
    """
    grid, found, problems, edges = read_grid(user_path(folder)), [], [], []
    for title, own in rows:
        usual = compose([*own, *words])
        if "learning_rate" not in usual.method:
            found.append((title, own))
            continue
        try:
            if lacking := {*parametrisations(usual.method)} - {point.parametrisation for point in grid.get(title, [])}:
                raise ValueError(f"was not tuned{' with ' + ', '.join(sorted(lacking)) if title in grid else ''}")
            point = choose(grid[title])
            if point.config["preset"] != usual.preset:
                raise ValueError(f"was tuned with preset={point.config['preset']}")
            if point.data not in (None, digest(usual.dataset, usual.cache, Split.validation)):
                raise ValueError("was tuned on other data")
        except ValueError as error:
            problems.append(f"{title}: {error}")
            continue
        edges += [f"{title} (x{point.factor})"] if point.at_edge else []
        found.append((title, [*own, *point.overrides]))
    if problems:
        told = "`python -m ablations.study tuning` with the same runs= fills what is missing"
        raise ValueError(f"tuned={folder}: {'; '.join(problems)}. {told}, for some methods with only=")
    if edges:
        print(f"chosen at the edge of the grid of learning rates: {', '.join(edges)}", file=sys.stderr)
    return found
