"""Two runs on the same packed synthetic people, for studies of them: what each generated is of one known colour."""

import hashlib
import json
import re
from pathlib import Path

from PIL import Image

from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings

COLOURS = {"alder": (200, 30, 30), "birch": (30, 30, 200)}  # what each method paints; the last value is the pair
MARKUP = "<img src=x onerror=alert(1)>"


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
