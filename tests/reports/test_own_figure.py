"""The example notebook answers, draws and tests a question on a few small records."""

from pathlib import Path

import pandas as pd

import reports
from reports.notebook import run_notebooks

NOTEBOOK = Path(reports.__file__).parent / "notebooks" / "your_own_figure.ipynb"


def test_example_notebook_runs_and_writes_its_figure(fabricate, tmp_path):
    for number, scale in enumerate(("single", "multi")):
        directory = fabricate.run(name=f"xinggan scale={scale}", scale=scale)
        frame = pd.read_parquet(directory / "per_image.parquet")
        frame.assign(identity=frame.pair // 4, value=0.4 + 0.01 * (frame.pair * (number + 3) % 7)).to_parquet(
            directory / "per_image.parquet"
        )
    parameters = {"runs": str(fabricate.folder), "keys": ["scale"], "output": str(tmp_path / "figures")}
    (notebook,) = run_notebooks([NOTEBOOK], parameters, progress=False)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"ssim-by-scale.pdf", "ssim-by-scale.svg"}
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2 and kinds.count("text/html") == 2
