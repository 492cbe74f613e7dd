"""What determines a data set and its pose maps, as plain values. Imports nothing heavy."""

from dataclasses import dataclass
from enum import StrEnum


class PoseMap(StrEnum):
    """How a joint becomes a map (see `poses.heatmaps`)."""

    gaussian = "gaussian"
    onehot = "onehot"  # one pixel a joint, as the published DeepFashion maps ended up


@dataclass
class DatasetSettings:
    """A data set to prepare. Everything here except `root` (where the files happen to lie) goes into its digest."""

    name: str = "synthetic"  # synthetic | market1501 | deepfashion | folder
    root: str | None = None  # folder in Pose-Transfer layout; none for synthetic
    height: int | None = None  # pixels; None: as the files are (photographs only)
    width: int | None = None  # pixels
    resize: bool = False  # allow photographs of another size than height x width to be resized (area)
    test_pairs: int | None = None  # score only the first so many test pairs of the list; None: all
    identity_pattern: str | None = None  # regular expression, first group: the identity; None: the data set's rule
    mask_radius: int = 4  # pixels around limbs in the body mask (4 at 128x64 and 256x176)

    # synthetic people only
    people_train: int = 400
    people_test: int = 60
    views: int = 8  # images of each person
    seed: int = 0  # which world of people; not the training seed
