"""Reports over run records: queries, tables, figures and notebooks. Never imports torch."""
