"""Messages and services of embedcore.v1, generated from server/proto (see CONTRIBUTING.md)."""
