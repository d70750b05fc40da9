"""A platform in dicts, with PlatformApi's methods and refusals: what the tests of server, clients and command
line stand on."""

from __future__ import annotations

from embedcore.api import PlatformApi
from support.fake_platform.core import DIGEST, DIMENSION, TOY, gates, toy_vector
from support.fake_platform.evaluation_part import EvaluationPart
from support.fake_platform.item_part import ItemPart
from support.fake_platform.migration_part import MigrationPart
from support.fake_platform.registry_part import RegistryPart

__all__ = ["DIGEST", "DIMENSION", "TOY", "FakePlatform", "gates", "toy_vector"]


class FakePlatform(ItemPart, RegistryPart, MigrationPart, EvaluationPart, PlatformApi):
    """``failing[method]`` is raised by that method (an iterator: one after the other, None passes);
    ``blocking[method]`` is waited for; ``entered`` is set when a blocked method has begun."""
