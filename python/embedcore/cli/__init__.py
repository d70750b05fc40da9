"""The command line: one file per group of commands over :class:`embedcore.api.PlatformApi`."""
