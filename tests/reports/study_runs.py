"""User studies for tests: two runs on the same people, each of which paints one known colour; keys and answers."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

COLOURS = {"alder": (200, 30, 30), "birch": (30, 30, 200)}  # what each method paints; the last value is the pair
MARKUP = "<img src=x onerror=alert(1)>"
RUNS = {"a-000000000001": "xinggan", "b-000000000002": "pidm <b>"}
A, B = RUNS


def painted_runs(folder: Path, fabricator) -> list[Path]:
    """Run directories below `folder`, written by the reports' Fabricator, with a manifest of their generated images."""
    settings = DatasetSettings(height=32, width=16, people_train=2, people_test=12, views=4, test_pairs=40)
    data = prepare(settings, folder / "cache", progress=False)
    found = []
    for name, colour in COLOURS.items():
        facts = {"dataset": {"name": "synthetic"}, "cache": str(folder / "cache"), "digest": data.digest}
        run = fabricator(folder / "runs").run(name, f"{name} {MARKUP}", **facts)
        manifest = []
        for pair, (source, target) in enumerate(data.test.pairs):
            file = run / "generated" / f"{pair:06d}.png"
            Image.new("RGB", (16, 32), (*colour[:2], colour[2] + pair)).save(file)
            names = {"source": data.test.names[source], "target": data.test.names[target]}
            checksum = hashlib.sha256(file.read_bytes()).hexdigest()
            told = {"pair": pair, "pair_id": data.test.pair_id(pair), "file": file.name, "sha256": checksum}
            manifest.append(told | names)
        (run / "generated" / "manifest.json").write_text(json.dumps(manifest))
        found.append(run)
    return found


def told(page: Path) -> dict:
    """What the page knows."""
    return json.loads(re.search(r'id="study">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def key_of(kind: str) -> dict[str, Any]:
    """Forty judged trials, two for practice, six catch trials."""
    trials: dict[str, Any] = {}

    def add(role: str, *makers: str, practice: bool = False) -> None:
        number = len(trials)
        pictures = {f"{2 * number + place:03d}": maker for place, maker in enumerate(makers)}
        trials[f"t{number:03d}"] = {"role": role, "practice": practice, "pair_id": "x", "pictures": pictures}

    if kind == "side-by-side":
        for number in range(42):
            add("pair", A, B, practice=number < 2)
        for _ in range(3):
            add("truth", "real", A)
            add("identical", B, B)
    else:
        for number in range(11):
            add("generated", A, practice=number < 1)
            add("generated", B)
        for number in range(21):
            add("real", "real", practice=number < 1)
        for _ in range(6):
            add("scrambled", "scrambled")
    shown = {"study": "0123456789abcdef", "kind": kind, "seconds": 1.0, "schema": 1}
    return {**shown, "runs": RUNS, "trials": trials}


def answered(key: dict[str, Any], choose: Callable[[dict[str, Any], int], str], **changes: Any) -> list[dict[str, Any]]:
    """One answer a trial; `choose(trial, number)` says which."""
    rows = []
    for number, (name, trial) in enumerate(key["trials"].items()):
        row = {"trial": name, "answer": choose(trial, number), "shown_ms": 1002.5, "answer_ms": 1500, "showings": 1}
        if key["kind"] == "side-by-side":
            row["left"] = sorted(trial["pictures"])[number % 2]
        rows.append({**row, "away": False, **changes})
    return rows


def answer_file(key: dict[str, Any], answers: list[dict[str, Any]], session: int = 1, **changes: Any) -> dict[str, Any]:
    facts = {"schema": 1, "study": key["study"], "kind": key["kind"], "session": f"{session:032x}"}
    return {**facts, "consented": True, "finished": True, "answers": answers} | changes


def right(trial: dict[str, Any], number: int) -> str:
    return "real" if trial["role"] == "real" else "generated"


def write(folder: Path, *contents: Any) -> list[Path]:
    files = []
    for number, content in enumerate(contents):
        files.append(folder / f"answers-{number}.json")
        files[-1].write_text(content if isinstance(content, str) else json.dumps(content))
    return files
