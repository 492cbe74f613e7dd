"""Where the numbers come from: how the runs' configurations differ, where they ran, what is missing, and the data card
of each test set.
"""

import json
from typing import Any

import pandas

from reports.formats import DASH, as_text, duration, joined, plural
from reports.records import Records
from reports.settings import NO_DIFFERENCE, differing, flatten

CLASS = "method._target_"


def missing(records: Records) -> dict[str, list[str]]:
    """For each run (by title) that is not finished or not complete: what is wrong, a sentence each."""
    found = {r.title: [r.state_sentence] * (r.state != "finished") + r.problems for r in records}
    return {title: sentences for title, sentences in found.items() if sentences}


def pictures_left_out(records: Records) -> str:
    """How many of the scored runs come without all or any of their generated images; "" where every image is there."""
    runs = [record for record in records.methods if record.is_scored]
    parts = [record for record in runs if not (record.directory / "generated" / "manifest.json").is_file()]
    none = sum(not record.examples for record in parts)
    if not parts:
        return ""
    counts = {"only example panels of": len(parts) - none, "no pictures of": none}
    told = joined([f"{what} {many}" for what, many in counts.items() if many])
    return (
        f"The records of {plural(len(runs), 'scored run')} hold {told}. Numbers are of all test pairs; the same "
        "command in an empty folder makes the images again."
    )


def configuration_table(records: Records) -> pandas.DataFrame:
    """What differs between the runs, a row a run; all switches when nothing differs.

    Where there are several methods, what differs between runs of one method, or what all configurations have: the rest
    is a method's own and no difference. A setting that a method does not have is a dash, also where it stands at the
    top of the configuration, for methods that have it.
    """
    facts = [record.facts for record in records]
    kinds = dict.fromkeys(each.get(CLASS) for each in facts)
    families = [[each for each in facts if each.get(CLASS) == kind] for kind in kinds]
    of_all = {key for runs in (facts, *families) for key in differing(runs) if all(key in each for each in runs)}
    keys = [key for key in differing(facts) if key in of_all or len(families) == 1]
    if not differing(facts):
        top = [key for key, value in records[0].config.items() if not isinstance(value, dict)]
        own = [key for key in facts[0] if key.startswith("method.") and key.split(".")[-1] not in top]
        keys = [key for key in [*top, *own] if key not in NO_DIFFERENCE]
    table = {"run": [record.title for record in records]}
    for key in [key for key in keys if not key.split(".")[-1].startswith("_")]:
        taken = [any(fact.startswith("method.") and fact.endswith(f".{key}") for fact in each) for each in facts]
        has = [key in each and (takes or not any(taken)) for each, takes in zip(facts, taken, strict=True)]
        texts = [as_text(each[key]) if here else DASH for each, here in zip(facts, has, strict=True)]
        table[key.removeprefix("method.")] = texts
    return pandas.DataFrame(table)


def settings(tree: Any) -> pandas.DataFrame:
    """Every setting with its dotted key, in the order of its file; none where a damaged record has no such tree."""
    tree = tree if isinstance(tree, dict) else {}
    return pandas.DataFrame([(key, as_text(value)) for key, value in flatten(tree).items()], columns=["key", "value"])


def record_table(records: Records) -> pandas.DataFrame:
    """State, time and place of every run, as text."""

    rows = []
    for record in records:
        place, dirty = record.environment, " + changes" if record.environment.get("dirty") else ""
        rows.append(
            {
                "run": record.title,
                "state": record.state,
                "started": str(record.status.get("started") or DASH).replace("T", " ")[:16],
                "time": duration(record.status.get("seconds")),
                "attempts": as_text(record.status.get("attempts", DASH)),
                "commit": str(place.get("commit") or DASH)[:10] + dirty,
                "device": place.get("device") or DASH,
                "precision": as_text(record.config.get("precision", DASH)),
                "threads": as_text(place.get("threads", DASH)),
                "record": record.run,
            }
        )
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
