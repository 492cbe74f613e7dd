"""Data: the card of each test set, from what the runs recorded and, where it lies on this machine, the packed data."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reports import measures
from reports.embedded import kept_table
from reports.markup import Shown, details, join, listing, paragraph, table
from reports.record import flatten
from reports.records import Records

COUNT_HEADS = ("split", "images", "people", "pairs", "height x width", "joints outside the image")


def cards(records: Records, output: Path | str) -> Shown:
    """A card for each test set: settings, counts, how often each joint is seen, what packing found."""
    parts = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        settings = group[0].config.get("dataset")
        told = [(key, measures.as_text(value)) for key, value in flatten(settings).items()] if settings else []
        parts.append(Markup("<h3>{}</h3>").format(heading))
        counted = "1 run was" if len(group) == 1 else f"{len(group)} runs were"
        parts.append(paragraph(f"{counted} scored on it.", "dataset"))
        card = find_card(group)
        if card is None:
            away = "The packed data set is not on this machine, or not where these runs' configuration says."
            parts.append(paragraph(f"{away} Counts and joints are left out.", "none"))
        else:
            parts.append(_counts(card, Path(output), number))
            notes = [str(note) for note in card.get("notes") or ()]
            parts.append(listing([_shared(card), *notes]))
        parts.append(details("Settings", table(["key", "value"], told, f"Settings of {heading}")))
    return Shown(join(parts))


def find_card(group: Records) -> dict[str, Any] | None:
    """card.json of the packed data set that these runs were scored on, where they left it."""
    from xinggan.data.packed import packed_directory

    for record in group:
        cache, name = record.config.get("cache"), record.facts.get("dataset.name")
        digest = record.dataset_digest
        if not (isinstance(cache, str) and isinstance(name, str) and isinstance(digest, str)):
            continue
        try:
            found = json.loads((packed_directory(cache, name, digest) / "card.json").read_bytes())
            if found["digest"] == digest and found["splits"]["test"]["joint_visibility"]:
                return found
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _counts(card: dict[str, Any], output: Path, number: int) -> Markup:
    rows, visible = [], {}
    for name, split in card["splits"].items():
        size = f"{split.get('height')} x {split.get('width')}"
        counted = [f"{split.get(key, 0):,}" for key in ("images", "identities", "pairs")]
        rows.append([name, *counted, size, f"{split.get('joints_outside', 0):,}"])
        visible[name] = split.get("joint_visibility") or {}
    counts = kept_table(output, f"data-{number}", COUNT_HEADS, rows, "What is in it")
    joints = dict.fromkeys(joint for shares in visible.values() for joint in shares)
    shares = [[joint, *(f"{of.get(joint, 0):.1%}" for of in visible.values())] for joint in joints]
    return counts + kept_table(output, f"joints-{number}", ["joint", *visible], shares, "Images that show a joint")


def _shared(card: dict[str, Any]) -> str:
    shared = card.get("shared") or {}
    return f"Training and test set share {shared.get('images', '?')} images and {shared.get('identities', '?')} people."
