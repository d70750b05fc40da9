"""What holds for all tests."""

from __future__ import annotations

import signal

# A job started in the background of a shell inherits an ignored SIGINT, and so would the tests' children:
# what is tested about Ctrl-C is how it is answered, so it has to arrive.
signal.signal(signal.SIGINT, signal.default_int_handler)
