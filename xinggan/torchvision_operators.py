"""Import of torchvision where its compiled operators are missing or do not load, as beside a CPU build of torch.

Such a torchvision fails on import because two of its operators have no schema. Declaring the schemas is enough for
everything but calling those two. torchvision, lpips, torch_fidelity and diffusers' models are imported after
`import_torchvision()`.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []  # the library object has to live as long as the schemas are wanted


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its operators first where they do not load. Raises ImportError if not installed."""
    if not _declared and not compiled_operators_load():
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            library.define(schema)
        _declared.append(library)
    import torchvision

    return torchvision


def compiled_operators_load() -> bool:
    """True if torchvision's compiled operators are there and fit the installed torch."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for path in Path(spec.origin).parent.glob("_C*.*"):
        try:
            torch.ops.load_library(path)
        except OSError:
            continue
        return True
    return False
