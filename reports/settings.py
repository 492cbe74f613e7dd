"""Settings of runs: what a word of a question means, in which settings runs differ, what a report calls them by that.

The facts of a run are its configuration under dotted keys (`training.steps`) and what is DERIVED from its record.
"""

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.record import SAME_RESULT, without_seed
from baselines import REFERENCES
from reports.formats import as_text

NO_RIVALS = (*REFERENCES, "vae_roundtrip")  # what sees the target image or was not trained is never called best
DERIVED = (
    *("run", "title", "run_id", "label", "name", "method", "state", "dataset", "dataset_digest", "variant"),
    *("is_reference", "is_timing_only"),
)
OF_THE_SEED = ("seed", "method.seed")  # a method's own seed is the run's
NO_DIFFERENCE = (  # where files lie, and how often a training is logged and saved, is no difference between runs
    *(*DERIVED, "runs", "cache", "dataset.root", "dataset.force", "method.path", "evaluation.estimator_weights"),
    *(f"training.{key}" for key in SAME_RESULT),
)
Facts = Mapping[str, Any]
Rows = list[tuple[str, str]]  # of a study: title and run directory's name, in the order of its table


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"training": {"steps": 200}} -> {"training.steps": 200}; lists become tuples, so that values can be compared."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = tuple(map(str, value)) if isinstance(value, list) else value
    return flat


def same(value: Any, wanted: Any) -> bool:
    """Whether a setting has the value that was asked for, perhaps as a word of a command line."""
    return value == wanted or as_text(value).replace(", ", ",") == as_text(wanted).replace(", ", ",")


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """A metric's protocol in a line: its name, then every setting."""
    settings = {"name": "not named"} | flatten(protocol)
    name = str(settings.pop("name"))
    return " · ".join([name, *(f"{key.replace('_', ' ')}: {as_text(value)}" for key, value in settings.items())])


def resolve_key(runs: Iterable[Facts], key: str) -> str:
    """The full name of the fact that `key` means: itself, or the one dotted configuration key that ends with it.

    Raises ValueError for a key that no run has, or that several configuration keys end with, with what is there.
    """
    known = {fact: None for facts in runs for fact in facts}
    if key in known or not known:
        return key
    endings = [name for name in known if name.endswith("." + key)]
    if len(endings) == 1:
        return endings[0]
    near = endings or difflib.get_close_matches(key, known, n=5, cutoff=0.5) or sorted(known)
    problem = "is ambiguous" if endings else "is in no record"
    raise ValueError(f"the key {key!r} {problem}; keys like it: {', '.join(near[:12])}")


def differing(runs: Sequence[Facts]) -> list[str]:
    """Configuration keys whose value is not the same in all runs, in the order of the configuration.

    A value that stands in the configuration twice (`scale`, and `method.architecture.scale` that refers to it) counts
    under its shorter key.
    """
    keys = {key: None for facts in runs for key in facts if key not in NO_DIFFERENCE}
    columns = {key: [repr(facts.get(key)) for facts in runs] for key in keys}
    several = [key for key, values in columns.items() if len(set(values)) > 1]
    shorter = {key: [key.split(".", place)[-1] for place in range(1, key.count(".") + 1)] for key in several}
    return [key for key in several if not any(columns.get(end) == columns[key] for end in shorter[key])]


def differing_beside_seed(runs: Sequence[Facts]) -> list[str]:
    """As `differing`, without what may differ between training seeds of one model."""
    return [key for key in differing(runs) if key not in (*OF_THE_SEED, "device")]


# What runs are called.


def read_studies(runs: Path | str) -> dict[str, Rows]:
    """Study -> its rows, from runs/studies/<study>.json, which `ablations.study` writes; rows that never ran included.

    A file that is none, or damaged, is left out.
    """
    studies: dict[str, Rows] = {}
    for path in sorted((Path(runs) / "studies").glob("*.json")):
        try:
            studies[path.stem] = [(str(row["title"]), str(row["run"])) for row in json.loads(path.read_bytes())]
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return studies


def arrange(runs: Mapping[str, dict[str, Any]], studies: Mapping[str, Rows]) -> list[str]:
    """Give the facts of a report's runs their `title` and `variant`; returns the runs in the order of its tables.

    Rows of a study come first, then other methods by name and seed, then the trivial references. A run of several
    studies is a row of the one that holds most of these runs; rows of a study stay together.
    """
    rivals = {run for run, facts in runs.items() if not facts["is_reference"]}
    held = {study: sum(run in rivals for _, run in rows) for study, rows in studies.items()}
    rows = {
        run: (-rank, place, title)
        for rank, study in enumerate(sorted(studies, key=lambda name: (held[name], name)))
        for place, (title, run) in enumerate(studies[study])
        if run in rivals
    }
    for run, title in _titles(runs, {run: title for run, (_, _, title) in rows.items()}).items():
        runs[run]["title"] = title
    for variant, members in _grouped(runs, lambda run: without_seed(runs[run]["title"])).items():
        apart = differing_beside_seed([runs[run] for run in members])
        for run in members:
            runs[run]["variant"] = runs[run]["title"] if apart else variant

    def place(run: str) -> tuple:
        facts = runs[run]
        reference = NO_RIVALS.index(facts["method"]) if facts["is_reference"] else -1
        seed = facts.get("seed") if isinstance(facts.get("seed"), int) else 0
        return reference, rows.get(run, (math.inf, 0))[:2], facts["name"], seed, run

    return sorted(runs, key=place)


def _titles(runs: Mapping[str, Facts], rows: Mapping[str, str]) -> dict[str, str]:
    """Run -> a distinct title: the run's row in a study, or its name, with what tells it from its namesakes."""
    called = {run: rows.get(run, facts["name"]) for run, facts in runs.items()}
    scored = {called[run] for run, facts in runs.items() if not facts["is_timing_only"]}
    alone = {run for run, facts in runs.items() if facts["is_timing_only"] and called[run] in scored}
    found = {}
    for title, members in _grouped(runs, lambda run: called[run] + " (timed alone)" * (run in alone)).items():
        apart = differing([runs[run] for run in members])
        keys = ["seed"] if "seed" in apart else apart[:2]
        for run in members:
            found[run] = " ".join([title, *(f"{key.split('.')[-1]}={runs[run].get(key)}" for key in keys)])
    used = Counter(found.values())
    return {run: f"{title} {runs[run]['run_id'][:6]}" if used[title] > 1 else title for run, title in found.items()}


def _grouped(runs: Iterable[str], name: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for run in runs:
        groups.setdefault(name(run), []).append(run)
    return groups
