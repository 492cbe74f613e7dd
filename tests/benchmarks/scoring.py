"""What scoring costs: every per-image metric of a test set the size of Market-1501's, beside the published loop.

    python tests/benchmarks/scoring.py --pairs 12000

The loop is what the published evaluation scripts do: one pair at a time through scikit-image, SSIM and Mask-SSIM. LPIPS
takes part where its network's weights are at hand.
"""

import argparse
import time

import numpy as np
import torch
from skimage.metrics import structural_similarity

from xinggan.data.prepare import prepare
from xinggan.data.settings import DatasetSettings
from xinggan.metrics.images import ScoredPairs
from xinggan.metrics.protocol import protocols_for
from xinggan.metrics.score import NetworkOutputs, score_similarity
from xinggan.metrics.values import Scores
from xinggan.progress import track
from xinggan.weights_files import MetricUnavailable


def main() -> None:
    """Score synthetic people under every protocol and print the seconds of each part, then of the loop."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=12_000, help="test pairs (default: %(default)s)")
    parser.add_argument("--people", type=int, default=750, help="identities, of 8 images each (default: %(default)s)")
    parser.add_argument("--lpips-net", default="alex", help="alex, vgg or squeeze (default: %(default)s)")
    parser.add_argument("--cache", default="data", help="where the packed data set is kept (default: %(default)s)")
    options = parser.parse_args()

    settings = DatasetSettings(people_train=2, people_test=options.people, test_pairs=options.pairs)
    split = prepare(settings, options.cache).test
    test = ScoredPairs(split.images[split.pairs[:, 0]], split, np.arange(len(split)))
    outputs = NetworkOutputs(test, None, "cpu")
    print(f"{len(split)} pairs of {split.width}x{split.height}, {torch.get_num_threads()} threads")

    def similarity(protocol):
        return lambda: score_similarity(Scores(protocol), test, "cpu")

    parts = {f"SSIM, L1 ... {p.name}": similarity(p) for p in protocols_for("market1501").values()}
    parts[f"LPIPS ({options.lpips_net})"] = lambda: outputs.lpips(options.lpips_net)
    parts["embedded PCKh"] = lambda: outputs.poses_embedded
    total_s = 0.0
    for name, part in parts.items():
        began = time.perf_counter()
        try:
            part()
        except MetricUnavailable as reason:
            print(f"  {name:<32} unavailable: {reason}")
            continue
        seconds = time.perf_counter() - began
        total_s += seconds
        print(f"  {name:<32} {seconds:7.1f} s", flush=True)
    print(f"  {'all of these':<32} {total_s:7.1f} s")
    began = time.perf_counter()
    published_loop(test)
    loop_s = time.perf_counter() - began
    print(f"  {'the published loop, SSIM alone':<32} {loop_s:7.1f} s, {loop_s / total_s:.2f} times all of the above")


def published_loop(test: ScoredPairs) -> None:
    """SSIM and Mask-SSIM of every pair as the published scripts have them, one pair at a time, by scikit-image."""
    split = test.split
    for row in track(range(len(test)), "scikit-image, pair by pair", len(test), "pairs"):
        target = test.target_rows[row]
        mask = np.unpackbits(split.masks[target], axis=-1, count=split.width)[..., None]  # [H, W, 1]
        whole = (test.generated[row], split.images[target])
        for generated, real in (whole, [image * mask for image in whole]):
            structural_similarity(
                generated,
                real,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=max(int(np.ptp(generated)), 1),
                channel_axis=-1,
            )


if __name__ == "__main__":
    main()
