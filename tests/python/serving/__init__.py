"""Tests of embedcore.serving."""
