"""Measurements side by side with peers. Run from the root of the checkout: ``python -m bench --help``."""
