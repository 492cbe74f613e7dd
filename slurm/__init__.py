"""Sweeps on a SLURM cluster or on this machine. Knows how to launch `ablations.run`, nothing about models.

To read in this order: sweep (words -> runs), cluster (where), submit (what the rules say -> jobs), submission (what is
written down), run (attempts, states, rules), queue (asking SLURM), job (what is executed), report (what comes last);
then status, logs, cancel and retry, which look and act from outside.
"""
