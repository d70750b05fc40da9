"""WordNet 3.0 as a corpus: 117,659 items with relations made by people, and golden sets drawn from them."""

from embedcore.datasets.wordnet.corpus import REFERENCE_TIME, SPREAD_DAYS, Corpus, Entry, load
from embedcore.datasets.wordnet.golden import golden_sets

__all__ = ["REFERENCE_TIME", "SPREAD_DAYS", "Corpus", "Entry", "golden_sets", "load"]
