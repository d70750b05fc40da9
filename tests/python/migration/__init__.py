"""Tests of embedcore.migration."""
