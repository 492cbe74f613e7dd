"""GANs to compare with, one file each: architecture and losses of their papers in the suite's own harness."""
