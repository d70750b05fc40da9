"""Serving: indexes and their lanes, routes, and the query path above the native router."""
