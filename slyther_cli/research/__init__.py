"""Training, evaluation, studies and benchmarks. Only ``commands`` imports it; no model needs it to be
used."""
