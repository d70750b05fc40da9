"""Evaluation: is the new model at least as good for every consumer? Golden sets, gates, the harness.

golden        labelled queries of a consumer, imported whole, versioned, hashed (loads no numerics)
importing/    golden sets from files: rows, clicks, raters, TREC, BEIR; golden_files: the sets' own format
query_log     an opt-in, bounded sample of queries; golden_sample: what is drawn of it to be labelled
resolve       their item ids as dense item numbers; head, torso and tail
metrics       recall@k and precision@1 per query; thresholds: per generation; ranking: nDCG, MRR
significance  paired bootstrap, sign-flip test, minimum detectable effect; multiple: Holm over consumers
sequential    bounds that hold while being watched; engagement: the canary's gate; lift: offline to online
gates         verdicts with evidence; norms: of a model's vectors; canary_set, preflight: before a migration
evaluator     one consumer on one generation; exact, truth: recall against exact search; freshness
calibration   scores between two generations; ef_search: the breadth that is enough; calibrator: both
parity        query-side against index-side preprocessing
simulation    how often the gates decide rightly, over populations measured between two real models
harness       Harness: evaluate, compare, evaluate_blended, preflight; desk: the same as plain documents
reporting/    the report of two generations: document, page, charts, tables; points: differences in words

Import from the modules: this package loads nothing by itself, so that reading a golden set stays cheap.
"""
