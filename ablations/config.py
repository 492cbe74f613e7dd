"""From words such as `scale=single preset=paper` to the experiment they mean; no torch, no numpy.

Values come from, later ones win: the dataclasses below and of the method's settings, conf/preset/<preset>.yaml (what a
preset means for every method, with a section for each data set), conf/method/<method>.yaml (what the method adds or
changes, with a section for each preset, and for a preset on a data set), the command line. In all of them a key that is
no field of `Experiment` is a setting of the method; a preset's settings that a method does not have are left out.
"""

import difflib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from functools import cache
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ablations.words import as_word, read_words, suggestion
from xinggan.data.settings import DATASETS, ESTIMATORS, PUBLISHED_SIZES, DatasetSettings, Split, proportions_of
from xinggan.files import sha256_of, user_path
from xinggan.metrics.protocol import LPIPS_NETWORKS
from xinggan.model.from_settings import CLASSES, build, method_folders, settings_class
from xinggan.model.switches import PublishedSettings
from xinggan.timing.scenario import PRECISIONS
from xinggan.trained import published_methods
from xinggan.training.settings import TrainingSettings

if TYPE_CHECKING:
    from xinggan.model.method import Method

CONF = Path(__file__).parent / "conf"
SEEDS = f"accepted is 0 to {2**63 - 1}"
REFERENCE_KEYS = ("preset", "dataset", "evaluation", "device", "runs", "cache")  # what they have from the run
COMMAND_LINE = "command line"
NO_SETTINGS = (*CLASSES, "_published_settings_", "presets", "published_for")  # keys of a method's file


class Budget(StrEnum):
    """The unit of training compute of which every method of a comparison gets the same amount."""

    images = "images"  # training pairs
    seconds = "seconds"  # on this device
    flops = "flops"  # floating-point operations, forward and backward


@dataclass
class Evaluation:
    """Settings for generating and scoring the test pairs."""

    split: Split = Split.test  # or validation: a tenth of the training people, who are not trained on then
    batch: int = 16
    lpips_net: str = "alex"  # alex | vgg | squeeze
    protocols: str = "clean"  # or all: also those of the published tables
    estimator: str | None = None  # of PCKh on photographs: movenet | keypointrcnn
    estimator_weights: str | None = None  # MoveNet's .tflite file
    proportions: str | None = None  # for MoveNet: those of the photographs before they were stretched, such as 48:128
    halvings: int = 0  # also score after 1/2, 1/4, ... of the training, so many times: a learning curve


@dataclass
class Experiment:
    """One experiment: a method with its settings, data, training, evaluation, and where it happens."""

    method_name: str = "xinggan"  # the word of method=
    preset: str = "small"
    published: str | None = None  # file of a published checkpoint, evaluated instead of training
    method: Any = field(default_factory=dict)  # dict: _target_, _settings_, and the settings

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    training: TrainingSettings | None = field(default_factory=TrainingSettings)
    budget: Budget = Budget.images
    amount: float | None = None  # of the budget; None: the preset's steps, or the FLOPs that XingGAN++ takes for them
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0  # of the training and of the method's initial weights
    precision: str = "fp32"  # fp32 | bf16
    compile: bool = False

    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    runs: str = "runs"  # where run records go
    cache: str = "data"  # where packed data sets go

    def __post_init__(self) -> None:
        """Raise ValueError naming every value that is out of range."""
        method, data, training, evaluation = self.method_name, self.dataset, self.training, self.evaluation
        refused = {
            f"seed={self.seed}: {SEEDS}": not 0 <= self.seed < 2**63,
            f"evaluation.batch={evaluation.batch}: accepted is 1 or more": evaluation.batch < 1,
            f"evaluation.halvings={evaluation.halvings}: accepted are 0 to 16": not 0 <= evaluation.halvings <= 16,
            f"dataset.seed={data.seed}: {SEEDS}": not 0 <= data.seed < 2**63,
            f"precision={self.precision}: accepted are {', '.join(PRECISIONS)}": self.precision not in PRECISIONS,
            f"evaluation.lpips_net={evaluation.lpips_net}: accepted are {', '.join(LPIPS_NETWORKS)}": (
                evaluation.lpips_net not in LPIPS_NETWORKS
            ),
            f"evaluation.protocols={evaluation.protocols}: accepted are clean, all": (
                evaluation.protocols not in ("clean", "all")
            ),
            f"evaluation.estimator={evaluation.estimator}: accepted are {', '.join(ESTIMATORS)}": (
                evaluation.estimator not in (None, *ESTIMATORS)
            ),
            "evaluation.estimator_weights, evaluation.proportions: accepted with evaluation.estimator=movenet": (
                evaluation.estimator != "movenet"
                and (evaluation.estimator_weights or evaluation.proportions) is not None
            ),
            "evaluation.estimator=movenet needs evaluation.estimator_weights=FILE": (
                evaluation.estimator == "movenet" and not evaluation.estimator_weights
            ),
            f"amount={self.amount}: accepted is more than 0": self.amount is not None and not 0 < self.amount < inf,
            "budget=seconds needs amount=SECONDS, such as amount=240": (
                self.budget == Budget.seconds and self.amount is None
            ),
            f"budget, amount: method={method} is not trained": (
                training is None and (self.budget, self.amount) != (Budget.images, None)
            ),
            "training.checkpoint_activations=true: accepted is false with compile=true": (
                self.compile and training is not None and training.checkpoint_activations
            ),
            f"dataset={data.name} needs dataset.root=FOLDER, a folder in Pose-Transfer layout (see docs/data.md)": (
                data.name != "synthetic" and not data.root
            ),
        }
        if evaluation.estimator_weights and not user_path(evaluation.estimator_weights).is_file():
            expected = "accepted is MoveNet's .tflite file (docs/data.md says where to get it)"
            refused[f"evaluation.estimator_weights={evaluation.estimator_weights}: no such file; {expected}"] = True
        if evaluation.proportions:
            try:
                proportions_of(evaluation.proportions)
            except ValueError as error:
                refused[f"evaluation.proportions={error}"] = True
        for side, pixels in (("height", data.height), ("width", data.width)):
            reason = f"dataset.{side}={pixels}: accepted are multiples of 4 from 16"
            refused[reason] = pixels is not None and (pixels % 4 != 0 or pixels < 16)
        if found := [reason for reason, applies in refused.items() if applies]:
            raise ValueError("; ".join(found))


KEYS = tuple(key.name for key in fields(Experiment))
GROUPS = {"method": "xinggan", "preset": "small", "dataset": "synthetic"}  # keys that name files, with their defaults


def compose(words: list[str]) -> Experiment:
    """The experiment that the words mean. Raises ValueError with everything that is wrong."""
    return resolve(words)[0]


def resolve(words: list[str]) -> tuple[Experiment, dict[str, str]]:
    """The experiment, and where each of its values (dotted key) comes from. Raises ValueError."""
    given, reasons = read_words(words)
    sources = {place: COMMAND_LINE for place in ("method_name", "preset") if place.removesuffix("_name") in given}
    chosen = {group: given.pop(group, default) for group, default in GROUPS.items()}
    for group, name in chosen.items():
        if name not in (choices := choices_of(group)):
            accepted = ", ".join(sorted(choices))
            reasons.append(f"{group}={as_word(name)}: accepted are {accepted}{suggestion(name, choices)}")
    if reasons:
        raise ValueError("; ".join(reasons))

    values: dict[str, tuple[Any, str]] = {}  # dotted key -> value, where it comes from
    for source, layer in [*_layers(**chosen), (COMMAND_LINE, given)]:
        for key, value in flat(layer):
            values[key if key.split(".")[0] in KEYS else f"method.{key}"] = value, source
            if key == "training.steps":
                values.pop("training.images", None)
    _count_steps(values, reasons)
    published, _ = values.get("published", (None, ""))
    experiment = OmegaConf.structured(Experiment)  # the defaults, and what each value may be
    experiment.method_name, experiment.preset, experiment.published = chosen["method"], chosen["preset"], published
    classes, experiment.method = _published(experiment) if published else _method(experiment)
    fixed = ("_target_", "_settings_", "path", "sha256") if published else classes
    sources |= {f"method.{key}": "published" if published else f"method/{chosen['method']}.yaml" for key in fixed}
    if published or values.pop("training", ("", ""))[0] is None:
        experiment.training = None

    for place, (value, source) in values.items():
        word = f"{place.removeprefix('method.')}={as_word(value)}"
        if published and source.startswith("method/"):
            continue  # a published checkpoint needs none of what the method's file says
        try:
            if place.startswith("training.") and experiment.training is None:
                raise ConfigKeyError(place)
            OmegaConf.update(experiment, place, value)
            sources[place] = source
        except (ConfigAttributeError, ConfigKeyError):
            if source == COMMAND_LINE or source.startswith("method/"):  # a preset speaks for every method
                reasons.append(f"{word}: {_unknown_key(place, experiment)}")
        except OmegaConfBaseException as error:
            reasons.append(f"{word}: {str(error).splitlines()[0]}")
    if "seed" in experiment.method:
        experiment.method.seed, sources["method.seed"] = experiment.seed, "seed"
    if "code_size" in experiment.method and experiment.dataset.height and experiment.dataset.width:
        experiment.method.code_size = [experiment.dataset.height // 4, experiment.dataset.width // 4]
        sources["method.code_size"] = "dataset"

    _checked(experiment.method, reasons)
    settings: Any = OmegaConf.to_container(experiment.method)
    experiment.method = classes | settings
    found = _checked(experiment, reasons)
    if reasons:
        raise ValueError("; ".join(dict.fromkeys(reasons)))
    of_method = f"default of {classes.get('_settings_', '').rpartition('.')[2]}"
    defaults = {key: of_method if key.startswith("method.") else "default" for key, _ in flat(plain_values(found))}
    return found, defaults | sources


def _count_steps(values: dict[str, tuple[Any, str]], reasons: list[str]) -> None:
    """Replace `training.images`, how many pairs a training sees, by the steps that the batch needs for as many.

    A schedule in images says the same for every batch. Of images and steps the one that is said last counts.
    """
    images, source = values.pop("training.images", (None, ""))
    batch, _ = values.get("training.batch", (TrainingSettings.batch, ""))
    if images is None or not isinstance(batch, int) or batch < 1:
        return  # a batch that is none is refused with the other values
    if not isinstance(images, int) or images < 1:
        reasons.append(f"training.images={as_word(images)}: accepted are whole numbers from 1")
    else:
        values["training.steps"] = -(-images // batch), f"{source}, training.images={images}"


def _layers(method: str, preset: str, dataset: str) -> list[tuple[str, dict[str, Any]]]:
    """(place in a file, its keys and values) of all that the files say; later layers win."""
    of_all, own = _file(CONF / "preset" / f"{preset}.yaml"), _file(method_files()[method])
    height, width = PUBLISHED_SIZES.get(dataset, (None, None))
    layers: list[tuple[str, dict[str, Any]]] = [
        (f"dataset={dataset}", {"dataset": {"name": dataset, "height": height, "width": width}}),
        (f"preset/{preset}.yaml", of_all),
        (f"preset/{preset}.yaml, datasets: {dataset}", of_all.get("datasets", {}).get(dataset, {})),
        (f"method/{method}.yaml", own),
    ]
    for section in (preset, f"{preset}-{dataset}"):
        layers.append((f"method/{method}.yaml, presets: {section}", own.get("presets", {}).get(section, {})))
    outside = {*NO_SETTINGS, "datasets"}
    return [(where, {key: value for key, value in said.items() if key not in outside}) for where, said in layers]


def _method(experiment: DictConfig) -> tuple[dict[str, str], DictConfig]:
    """The classes that the method's file names, and its settings with their defaults."""
    file = _file(method_files()[experiment.method_name])
    classes = {key: file[key] for key in CLASSES if key in file}
    if "_settings_" in classes:
        kind = settings_class(classes["_settings_"], f"method={experiment.method_name}")
        return classes, OmegaConf.structured(kind)
    taken = {key: value for key, value in file.items() if key == "seed" or key not in (*KEYS, *NO_SETTINGS)}
    return classes, OmegaConf.create(taken, flags={"struct": True})


def _published(experiment: DictConfig) -> tuple[dict[str, str], DictConfig]:
    """The class that evaluates a published checkpoint of the method, and its settings."""
    path, method = Path(experiment.published).absolute(), experiment.method_name
    if method not in (readers := published_methods()):
        raise ValueError(f"published={path}: accepted with method={' or method='.join(sorted(readers))}")
    if not path.is_file():
        raise ValueError(f"published={path}: no such file; expected the state dict of a published generator")
    usual = f"{PublishedSettings.__module__}.PublishedSettings"
    settings = _file(method_files()[method]).get("_published_settings_", usual)
    kind = settings_class(settings, f"method={method}")
    classes = {"_target_": readers[method], "_settings_": settings}
    return classes, OmegaConf.structured(kind(path=str(path), sha256=sha256_of(path)))


def _checked(node: DictConfig, reasons: list[str]) -> Any:
    """The node as an instance of its dataclass; None, with the reasons appended to `reasons`, where it is refused."""
    for key in node:
        child = node[key]
        if isinstance(child, DictConfig) and is_dataclass(OmegaConf.get_type(child)):
            count = len(reasons)
            _checked(child, reasons)
            if len(reasons) > count:  # its defaults stand in, so that the rest can be looked at
                node[key] = OmegaConf.structured(OmegaConf.get_type(child))
    try:
        return OmegaConf.to_object(node)
    except ValueError as error:
        reasons.append(str(error))
        return None


def _unknown_key(place: str, experiment: DictConfig) -> str:
    """The reason to refuse a key that does not exist: the keys that do, and the one that may have been meant."""
    group, _, key = place.rpartition(".")
    method = f"method={experiment.method_name}"
    node = OmegaConf.select(experiment, group)
    if group == "training" and node is None:
        return f"{'a published checkpoint' if experiment.published else method} is not trained"
    if isinstance(node, DictConfig) and group != "method":
        return f"{group.removeprefix('method.')} has no {key}; accepted are {', '.join(node)}{suggestion(key, node)}"
    key = place.split(".")[1]
    taken = [str(name) for name in experiment.method if name not in ("seed", "path", "sha256")]
    listed = ", ".join(dict.fromkeys([*difflib.get_close_matches(key, taken), *taken])) or "no settings"
    if experiment.published:
        return f"fixed by the published checkpoint, which takes {listed}"
    return f"not a setting of {method}, which takes {listed}{suggestion(key, [*taken, *KEYS])}"


def flat(values: dict[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{parent}{key}.")
        else:
            yield f"{parent}{key}", value


def method_files() -> dict[str, Path]:
    """Name -> yaml file of every method, those of `--methods` folders included. The suite's own names stay its own."""
    outside = [file for folder in method_folders() for file in sorted(folder.glob("*.yaml"))]
    return {file.stem: file for file in [*outside, *sorted((CONF / "method").glob("*.yaml"))]}


def published_for(method: str) -> list[str]:
    """The data sets that the method's authors trained it on: there `preset=paper` has the published schedule."""
    return _file(method_files()[method]).get("published_for", [])


def choices_of(group: str) -> list[str]:
    """Accepted values of the key `method`, `preset` or `dataset`, the default first."""
    presets = [file.stem for file in (CONF / "preset").glob("*.yaml")]
    names = {"method": method_files(), "dataset": DATASETS, "preset": presets}[group]
    return sorted(names, key=lambda name: (name != GROUPS[group], name))


@cache
def _file(file: Path) -> dict[str, Any]:
    """The content of a yaml file. Raises ValueError for one that is not keys and values."""
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(said, dict):
        raise ValueError(f"{file}: expected keys and values, such as _target_: my_method.MyMethod")
    return said


def reference(experiment: Experiment, method: str) -> Experiment:
    """A trivial reference on the same data, scored in the same way."""
    return replace(compose([f"method={method}"]), **{key: getattr(experiment, key) for key in REFERENCE_KEYS})


def plain_values(experiment: Experiment) -> dict[str, Any]:
    """The experiment as dictionaries, lists, strings and numbers."""
    return json.loads(json.dumps(asdict(experiment)))


def check_processes(experiment: Experiment, count: int, method: "Method | None" = None) -> None:
    """Raise ValueError for a training that `count` processes would compute differently from one.

    method: the experiment's, where it is made already; what is not said by the settings is seen in it.
    """
    if (training := experiment.training) is None or count == 1:
        return
    if training.batch % count:
        raise ValueError(f"training.batch={training.batch} does not divide among {count} processes")
    if experiment.method.get("norm") == "batch":
        raise ValueError(f"norm=batch sees only its part of a batch in each of {count} processes: norm=instance")
    if method is None:
        return
    if any(type(module).__name__.startswith("BatchNorm") for module in method.modules()):
        name = experiment.method_name
        raise ValueError(f"method={name} has batch norms whatever norm= says: it trains in 1 process, not {count}")
    if (training.batch // count) % method.compared_images:
        raise ValueError(
            f"training.batch={training.batch}: method={experiment.method_name} sees {method.compared_images} images "
            f"together, so {count} processes need a multiple of {count * method.compared_images}"
        )


def build_method(experiment: Experiment, device: str) -> "Method":
    """The method on its device, as it is trained, with fresh weights drawn from the seed.

    Raises as `from_settings.build`, and ValueError for a method whose activations cannot be computed again.
    """
    import torch

    method = build(experiment.method)
    method.precision = experiment.precision
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; matrix products are so by default
    method.to(device)
    if experiment.training is not None and experiment.training.checkpoint_activations:
        method.checkpoint_activations()
    if experiment.compile:
        for part in method.averaged:
            getattr(method, part).compile()
    return method
