"""XingGAN and XingGAN++ as a method: their generator in the adversarial training of `xinggan.model.adversarial`."""

from xinggan.data.settings import PoseMap
from xinggan.model.adversarial import PoseTransferGAN
from xinggan.model.generator import XingGenerator
from xinggan.model.switches import Architecture, Discriminators, LossWeights


class XingGAN(PoseTransferGAN):
    """XingGAN++ as the defaults stand; `architecture` switches its components (see `xinggan.model.switches`)."""

    def __init__(
        self,
        architecture: Architecture | None = None,
        losses: LossWeights | None = None,
        discriminators: str = Discriminators.both,
        learning_rate: float = 2e-4,
        history: int = 50,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        a = architecture or Architecture()
        super().__init__(
            XingGenerator(a),
            losses or LossWeights(),
            discriminators,
            width=a.width,
            norm=a.norm,
            dropout=a.dropout,
            learning_rate=learning_rate,
            history=history,
            pose_map=pose_map,
            pose_sigma=pose_sigma,
            seed=seed,
        )
