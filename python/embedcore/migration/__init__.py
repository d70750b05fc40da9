"""Migrations: from one model's generation to another's, phase by phase, gated, recorded and reversible."""
