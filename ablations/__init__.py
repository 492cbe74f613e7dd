"""Experiments: one run (`ablations.run`), a named study (`ablations.study`), their configuration and records."""

import xinggan  # noqa: F401  sets how OpenMP waits, before torch is imported
