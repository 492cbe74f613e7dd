"""Where the numbers come from: how the runs' configurations differ, where they ran, what is missing, and the data card
of each test set.
"""

import json
from typing import Any

import pandas

from reports.comparison import FOLDERS, differing
from reports.formats import DASH, as_text, duration
from reports.records import Records
from reports.run_directory import DERIVED, Record, flatten

CLASS = "method._target_"


def missing(records: Records) -> dict[str, list[str]]:
    """For each run (by title) that is not finished or not complete: what is wrong, a sentence each."""
    found: dict[str, list[str]] = {}
    for record in records:
        sentences = [record.state_sentence] if record.state != "finished" else []
        if sentences := [*sentences, *record.problems]:
            found[record.title] = sentences
    return found


def configuration_table(records: Records) -> pandas.DataFrame:
    """What differs between the runs, a row a run; all settings when nothing differs.

    Where there are several methods, what differs between runs of one method, or what all configurations have: the rest
    is a method's own and no difference. A setting that a method does not have is a dash.
    """
    families: dict[Any, list[Record]] = {}
    for record in records:
        families.setdefault(record.facts.get(CLASS), []).append(record)
    shared = {
        key
        for members in [list(records), *families.values()]
        for key in differing(members)
        if all(key in record.facts for record in members)
    }
    keys = [key for key in differing(records) if key in shared or len(families) == 1]
    if not differing(records):
        top = [key for key, value in records[0].config.items() if not isinstance(value, dict)]
        own = [key for key in records[0].facts if key.startswith("method.") and key.split(".")[-1] not in top]
        keys = [key for key in [*top, *own] if key not in (*DERIVED, *FOLDERS)]
    columns: dict[str, list[str]] = {"run": [record.title for record in records]}
    for key in [key for key in keys if not key.split(".")[-1].startswith("_")]:
        # What stands at the top of the configuration of an older record may be no setting of its method.
        own = [any(f.startswith("method.") and f.endswith(f".{key}") for f in record.facts) for record in records]
        columns[key.removeprefix("method.")] = [
            as_text(record.facts[key]) if key in record.facts and (has or not any(own)) else DASH
            for record, has in zip(records, own, strict=True)
        ]
    return pandas.DataFrame(columns)


def settings(tree: Any) -> pandas.DataFrame:
    """Every setting with its dotted key, in the order of its file; none where a damaged record has no such tree."""
    tree = tree if isinstance(tree, dict) else {}
    return pandas.DataFrame([(key, as_text(value)) for key, value in flatten(tree).items()], columns=["key", "value"])


def record_table(records: Records) -> pandas.DataFrame:
    """State, time and place of every run, as text."""

    def told(source: dict[str, Any], key: str) -> str:
        return as_text(source[key]) if source.get(key) is not None else DASH

    rows = [
        {
            "run": record.title,
            "state": record.state,
            "started": told(record.status, "started").replace("T", " ")[:16],
            "time": duration(record.status.get("seconds")),
            "attempts": told(record.status, "attempts"),
            "commit": told(record.environment, "commit")[:10]
            + (" + changes" if record.environment.get("dirty") else ""),
            "device": told(record.environment, "device"),
            "precision": told(record.config, "precision"),
            "threads": told(record.environment, "threads"),
            "record": record.run,
        }
        for record in records
    ]
    return pandas.DataFrame(rows)


def environments(records: Records) -> dict[str, list[str]]:
    """Each distinct environment as text, and the titles of the runs that ran in it."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.environment:
            told = "\n".join(f"{key}: {as_text(value)}" for key, value in flatten(record.environment).items())
            found.setdefault(told, []).append(record.title)
    return found


def data_card(group: Records) -> dict[str, Any] | None:
    """card.json of the packed data set that these runs were scored on, where they left it; None where it is not."""
    from xinggan.data.packed import packed_directory

    for record in group:
        cache, name, digest = record.config.get("cache"), record.facts.get("dataset.name"), record.dataset_digest
        if not (isinstance(cache, str) and isinstance(name, str) and isinstance(digest, str)):
            continue
        try:
            found = json.loads((packed_directory(cache, name, digest) / "card.json").read_bytes())
            if found["digest"] == digest and found["splits"]["test"]["joint_visibility"]:
                return found
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def data_tables(card: dict[str, Any]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """What is in each split, and on which share of its images each joint is seen, as text."""
    splits = card["splits"]
    keys = {"images": "images", "people": "identities", "pairs": "pairs", "joints outside the image": "joints_outside"}
    counts = pandas.DataFrame(
        {"split": name, "height x width": f"{split.get('height')} x {split.get('width')}"}
        | {head: f"{split.get(key, 0):,}" for head, key in keys.items()}
        for name, split in splits.items()
    )
    shares = pandas.DataFrame({name: split.get("joint_visibility") or {} for name, split in splits.items()})
    shares = shares.fillna(0.0).map("{:.1%}".format).rename_axis("joint").reset_index()
    return counts, shares


def data_notes(card: dict[str, Any]) -> list[str]:
    """What training and test set share, and what packing found."""
    shared = card.get("shared") or {}
    told = f"Training and test set share {shared.get('images', '?')} images and {shared.get('identities', '?')} people."
    return [told, *map(str, card.get("notes") or ())]
