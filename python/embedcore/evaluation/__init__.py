"""Evaluation: is the new model at least as good for every consumer? Golden sets, gates, the harness.

golden        labelled queries of a consumer, imported whole, versioned, hashed (loads no numerics)
resolve       their item ids as dense item numbers; the long-tail bucket
metrics       recall@k and precision@1 per query; thresholds: per generation
significance  paired bootstrap, sign-flip test, minimum detectable effect; sequential: bounds while watched
gates         verdicts with evidence; engagement: the canary's; canary_set: the pre-flight's
calibration   score pairs between two generations; exact: recall against exact search
harness       Harness: evaluate, compare, evaluate_blended, preflight, calibration_pairs
report        rows of plain data

Import from the modules: this package loads nothing by itself, so that reading a golden set stays cheap.
"""
