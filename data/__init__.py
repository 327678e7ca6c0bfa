"""Sources of batches. SOURCES: the classes that `config.data.name` chooses from."""

from typing import Any

from data.go.source import GoGames
from data.images.datasets import DATASETS
from data.images.source import ImageData
from data.selfplay import SelfPlayData
from data.text.source import TextData

SOURCES: dict[str, Any] = {
  'images': ImageData,
  'text': TextData,
  'selfplay': SelfPlayData,
  'go_games': GoGames,
}

__all__ = ['DATASETS', 'SOURCES', 'GoGames', 'ImageData', 'SelfPlayData', 'TextData']
