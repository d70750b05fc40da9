"""Golden sets from files: what a labelling tool, a click log or a benchmark's layout gives.

read          one entry for all formats: ``read_golden`` -> Imported, the set and its lines in the file
judgements    rows "query, item, grade" -> queries; every problem with its line, nothing half-imported
clicks        rows "query, item, position, impressions, clicks" -> grades corrected for position
raters        rows "query, item, rater, grade, position" -> one grade, agreement, the position's effect
trec          TREC qrels with a file of queries; a folder in BEIR's layout
"""

from embedcore.evaluation.importing.read import Imported, ImportOptions, read_golden

__all__ = ["ImportOptions", "Imported", "read_golden"]
