"""The house: which floor every file stands on, that it uses only floors below, and that no imports go in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("xinggan", "baselines", "ablations", "reports", "slurm")

# From the ground up; the longest prefix of a module's name counts.
FLOORS = (
    (
        "xinggan",  # what it says of the environment before torch is imported
        "xinggan.command",
        "xinggan.files",
        "xinggan.progress",
        "xinggan.distributed",
        "xinggan.torchvision_operators",
        "xinggan.weights_files",
    ),
    ("xinggan.data", "xinggan.pictures"),
    ("xinggan.metrics.embedded",),
    ("xinggan.model",),
    ("xinggan.metrics",),
    ("xinggan.training",),
    ("xinggan.timing",),
    ("xinggan.trained", "xinggan.generate", "xinggan.evaluate"),
    ("baselines",),
    ("ablations",),
    ("reports.user_study",),
    ("reports",),
    ("slurm",),
)


def modules():
    """Module name -> file of every module of the suite."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


MODULES = modules()


def imports(name):
    """Modules of the suite that a module imports, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            others = len(inner) < len(node.names)
            found |= inner | ({node.module} & MODULES.keys() if others else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES.keys()
    return found - {name}


def floor(name):
    """Number of a module's floor, the ground being 0."""
    fitting = [
        (len(prefix), number)
        for number, prefixes in enumerate(FLOORS)
        for prefix in prefixes
        if name == prefix or (name.startswith(f"{prefix}.") and prefix != "xinggan")
    ]
    assert fitting, f"{name} stands on no floor: give it one in {Path(__file__).name}"
    return max(fitting)[1]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_from_its_own_floor_and_those_below(name):
    above = {other for other in imports(name) if floor(other) > floor(name)}
    assert not above, f"{name} imports {', '.join(sorted(above))}"


def test_no_imports_go_in_a_circle():
    try:
        TopologicalSorter({name: imports(name) for name in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


COMMANDS = [name for name, file in MODULES.items() if "argparse" in file.read_text() and "__main__" in file.read_text()]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_on_any_terminal(name):
    """Its last lines hand `main` to `run_command`, which sets how streams treat characters that they lack."""
    last = ast.unparse(ast.parse(MODULES[name].read_text()).body[-1])
    assert last.startswith("if __name__ == '__main__':\n    run_command("), last


def test_only_the_names_of_the_house_stand_at_the_top():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    written_by_commands = {"runs", "data", "report"}
    assert folders - written_by_commands <= {*PACKAGES, "tests", "docs"}
