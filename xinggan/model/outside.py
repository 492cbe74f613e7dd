"""Methods that live outside the suite: a folder with one Python and one yaml file for each.

Commands take such folders as `--methods FOLDER` and pass them on to the processes they start in XINGGAN_METHODS.
"""

import os
import sys
from pathlib import Path

VARIABLE = "XINGGAN_METHODS"


def use_methods(folder: Path) -> None:
    """Make the folder's methods known to this process and those it starts. Raises ValueError for one without any."""
    if not list(folder.glob("*.yaml")):
        raise ValueError(f"--methods {folder}: expected a folder with one .py and one .yaml file for each method")
    known = os.environ.get(VARIABLE, "").split(os.pathsep)
    os.environ[VARIABLE] = os.pathsep.join(filter(None, dict.fromkeys([*known, str(folder.absolute())])))


def method_folders() -> list[Path]:
    """The folders in use, importable from."""
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)
    return folders


def outside_modules() -> list[str]:
    """Names of the folders' Python files, which run records of their methods may name."""
    return [file.stem for folder in method_folders() for file in folder.glob("*.py")]
