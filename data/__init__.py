"""Sources of batches. SOURCES: the classes that `config.data.name` chooses from."""

from typing import Any

from data.datasets import DATASETS
from data.go_games import GoGames
from data.images import ImageData
from data.selfplay import SelfPlayData
from data.text import TextData

SOURCES: dict[str, Any] = {
  'images': ImageData,
  'text': TextData,
  'selfplay': SelfPlayData,
  'go_games': GoGames,
}

__all__ = ['DATASETS', 'SOURCES', 'GoGames', 'ImageData', 'SelfPlayData', 'TextData']
