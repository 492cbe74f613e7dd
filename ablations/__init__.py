"""Experiments: one run (`ablations.run`), a named study (`ablations.study`), their configuration and records."""
