"""``embedcore demo``: a whole migration on real processes, told at the end by a table and a report."""
