"""Tests of embedcore.store."""
