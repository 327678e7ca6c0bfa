"""docs/reading.md: its paths exist, an evening is short enough, and no file is left out."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'reading.md').read_text()
SOURCES = ('models', 'mcts', 'data', 'train')
FOLDERS = (*SOURCES, 'benchmarks', 'configs', 'docs', 'examples', 'tests')
MAX_LINES = 2500
PATH = re.compile(r'`((?:[\w.]+/)*[\w.]+/?)`')
LINK = re.compile(r'\]\((?!http)([^)#]*)#?([^)]*)\)')

# Files that the page need not name. `__init__.py` are the pages of their folders.
UNNAMED: dict[str, str] = {}  # path: reason

EVENINGS = dict(re.findall(r'^## (\d+\. .*?)\n(.*?)(?=^## )', PAGE, flags=re.M | re.S))


def paths(text):
  """Returns the files and folders that a text names in backquotes."""
  found = PATH.findall(text)
  return [p for p in found if p.endswith(('.py', '.md')) or p.split('/')[0] in FOLDERS]


def anchors(text):
  """Returns the anchors of a page's headings, as GitHub makes them."""
  titles = re.findall(r'^#+ (.*)', text, flags=re.M)
  return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def lines(path):
  return len((ROOT / path).read_text().splitlines())


def test_every_path_and_link_leads_somewhere():
  missing = [path for path in paths(PAGE) if not (ROOT / path).exists()]
  assert not missing
  for name, anchor in LINK.findall(PAGE):
    page = ROOT / 'docs' / name if name else ROOT / 'docs' / 'reading.md'
    assert page.exists(), name
    assert not anchor or anchor in anchors(page.read_text()), anchor


@pytest.mark.parametrize('title', EVENINGS)
def test_an_evening_is_at_most_so_many_lines(title):
  files = [path for path in paths(EVENINGS[title]) if path.endswith('.py')]
  read = {path for path in files if path.split('/')[0] in (*SOURCES, 'launch.py')}
  total = sum(map(lines, read))
  assert 0 < total <= MAX_LINES, f'{total} lines'


def test_every_source_file_is_named_and_none_in_two_evenings():
  listed = [path for text in EVENINGS.values() for path in re.findall(r'^- `([^`]+)`', text, re.M)]
  assert len(listed) == len(set(listed)) > 0
  files = {str(path.relative_to(ROOT)) for name in SOURCES for path in (ROOT / name).rglob('*.py')}
  files = {path for path in files if not path.endswith('__init__.py')}
  assert not files - set(paths(PAGE)) - set(UNNAMED)
  assert not set(UNNAMED) & set(paths(PAGE)), 'these are named after all'
