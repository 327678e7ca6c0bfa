"""A story, a library of twenty documents, and an empty cache for what is made of them."""

import pytest

EOT = 256  # of the tokenizer `bytes`
STORY = ''.join(f'{i} sheep, ' for i in range(120))  # 1,210 characters


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'breakthroughs' / 'data'


@pytest.fixture
def story(tmp_path) -> str:
  path = tmp_path / 'story.txt'
  path.write_text(STORY)
  return str(path)


@pytest.fixture
def library(tmp_path) -> str:
  """Twenty documents of 0 to 190 characters, three of them elsewhere."""
  root = tmp_path / 'library'
  for i in range(20):
    path = root / ('deep' if i in (3, 4, 13) else '') / f'{i:02}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(chr(97 + i) * (10 * i))
  return str(root)
