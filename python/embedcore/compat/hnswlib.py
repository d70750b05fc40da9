"""A drop-in for the ``hnswlib`` 0.8.0 package: change ``import hnswlib`` to this.

>>> import numpy as np
>>> from embedcore.compat import hnswlib
>>> index = hnswlib.Index(space="cosine", dim=2)
>>> index.init_index(max_elements=3)
>>> index.add_items(np.array([[1, 0], [0, 2], [1, 1]]), ids=[10, 20, 30])
>>> labels, distances = index.knn_query([3, 0], k=2)
>>> labels
array([[10, 30]], dtype=uint64)

Names, arguments, defaults, results and the RuntimeErrors are those of hnswlib. What differs:

Safer
  - Every call may come from any number of threads at once. Searches take no lock; writes of different
    labels run in parallel, writes of one label one after the other. Only save, pickling and the copies wait
    for running writes, and hold off new ones.
  - A call that is refused has changed nothing: an ``add_items`` that does not fit adds none of its rows.
    hnswlib adds up to the limit, then raises.
  - Calls before ``init_index``, queries of the wrong dimension and damaged files raise a RuntimeError;
    hnswlib reads memory that is not its own. So does a k larger than what BFIndex holds.
  - NaN and infinity are refused by a RuntimeError that is a ValueError, too. Zero vectors are taken.
  - Calls of ``add_items`` without ids that run at once get labels of their own.
  - ``add_items(replace_deleted=True)`` of a label that exists updates it in place and leaves the deleted
    ones alone; hnswlib would keep the old vector a second time. A deleted label takes its own place.
  - Loading a file of no items keeps its ``max_elements``; hnswlib makes it 0.
  - BFIndex under cosine normalises queries, so that distances are 1 - cos as documented; hnswlib does not.

Narrower
  - Labels are 0 to 2^63-1, dim is 1 to 65535.
  - The graph has 2 to 512 links per node: an M beyond is reported as given and built as the nearest of these.
  - Of files of hnswlib itself the items are read, deleted ones included, and the graph is built anew: loading
    one takes as long as adding its items. hnswlib does not read files written here. Pickles of hnswlib itself
    are refused; have it save an index and load the file.
  - Files written here are one file each: a snapshot of the index that :meth:`embedcore.Index.load` reads,
    followed, where items are marked deleted, by their vectors. Loading such a file needs its size again as
    room beside it or in the temporary directory. ``index_file_size`` writes the file to the temporary
    directory to measure it.
  - ``get_items`` takes labels of shape (n,) or (n, 1).

Otherwise different
  - The graph, and so the neighbours that an approximate search misses, are embedcore's own.
  - ``max_elements`` is enforced, and nothing is allocated for it.
  - ``mark_deleted`` takes the item out of the graph and keeps its vector, ``unmark_deleted`` inserts it
    again: it costs what adding costs. Adding tidies up now and then, when removed or replaced items
    outnumber half of the live ones; that one call takes longer, searches go on.
  - Which deleted item ``replace_deleted`` replaces is unspecified there and the one deleted first here.
  - A label given twice in one ``add_items`` gets its last vector; in hnswlib whichever thread comes last.
  - ``filter`` may be an :class:`embedcore.index.IdSet`, too, which is far faster than a callable.
  - ``load_index`` on an index in use warns by :mod:`warnings`. A file that cannot be written is a
    RuntimeError; hnswlib says nothing.
  - Files and pickles refuse a different dim, and l2 against the other two spaces.
"""

from embedcore.compat._bruteforce import BFIndex
from embedcore.compat._index import Index

__all__ = ["BFIndex", "Index"]
