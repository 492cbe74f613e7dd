"""Sweeps on a SLURM cluster: submit, requeue, watch. Knows how to launch `ablations.run`, nothing about models."""
