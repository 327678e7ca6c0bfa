"""The words of texts, piece by piece: files, folders, what is gzipped, Python's own documentation.

A line is a sentence. Words come in lists of a bounded length, in which LINE_END stands for the end
of a line that has words.
"""

import ast
import contextlib
import dataclasses
import gzip
import io
import itertools
import pathlib
import re
import zlib
from collections.abc import Iterator

from data.checks import shown
from data.remarks import Remarks
from data.text import datasets, files

PIECE = 1 << 20  # characters read at a time
LONGEST = 1000  # characters of a word; more are cut off, else one could fill the memory
LINE_END = '\n'

# What `data.words` chooses from: how a line is cut into words.
TOKENS = {
  'spaces': re.compile(r'\n|[^\s]+'),
  'letters': re.compile(r"\n|[^\W\d_]+(?:['’][^\W\d_]+)*"),
}

EMBEDDED = 'python_docs'


@dataclasses.dataclass(frozen=True)
class Text:
  """A text that can be read again and again.

  Attributes:
    name: for messages.
    paths: its files; () of the embedded one.
    words: a key of TOKENS.
    lower: whether words are made lower case.
  """

  name: str
  paths: tuple[str, ...]
  words: str = 'spaces'
  lower: bool = True

  def pieces(self) -> Iterator[list[str]]:
    """Yields the words of all files in order, LINE_END behind each line, in lists.

    What is no UTF-8 becomes U+FFFD, which is counted and said.

    Raises:
      ValueError: a file cannot be read to its end.
    """
    pattern, remarks = TOKENS[self.words], Remarks(self.name)
    for text in self._texts(remarks):
      text = text.lower() if self.lower else text
      yield [word[:LONGEST] for word in pattern.findall(text)]
    remarks.say()

  def _texts(self, remarks: Remarks) -> Iterator[str]:
    if not self.paths:
      yield from (f'{text}\n' for text in python_docs())
    for path in map(pathlib.Path, self.paths):
      for text in whole_words(path):
        if bad := text.count('\ufffd'):
          remarks.add('characters that are not UTF-8, read as U+FFFD', str(path), count=bad)
        yield text
      yield LINE_END


def find(dataset: str, pattern: str, words: str, lower: bool) -> Text:
  """Returns the text that `data.dataset` names.

  Raises:
    ValueError: there is none.
  """
  path = pathlib.Path(dataset).expanduser()
  if dataset == EMBEDDED:
    return Text(dataset, (), 'letters', lower)
  if path.is_dir():
    found = files.find(path, pattern)
    if not found:
      where = f'data.dataset={shown(dataset)}'
      raise ValueError(f'{where}: the folder has no text files like {shown(pattern)}')
    return Text(dataset, tuple(map(str, found)), words, lower)
  if not path.is_file():
    raise ValueError(
      f'data.dataset={shown(dataset)}: no such file or folder; choices: {EMBEDDED}, a file or a'
      ' folder of texts, gzipped or not'
    )
  return Text(dataset, (str(path),), words, lower)


def whole_words(path: pathlib.Path) -> Iterator[str]:
  """Yields a file in pieces that end between words.

  Raises:
    ValueError: it cannot be read to its end.
  """
  rest = ''
  try:
    opened = gzip.open if path.suffix == '.gz' else open
    with opened(path, 'rb') as raw, io.TextIOWrapper(raw, 'utf-8-sig', 'replace') as file:
      while piece := file.read(PIECE):
        text = rest + piece
        end = max(text.rfind(' '), text.rfind('\n')) + 1
        end = end if end or len(text) < PIECE else len(text)  # a word of a megabyte is none
        rest = text[end:]
        yield text[:end]
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error
  yield rest


def python_docs() -> Iterator[str]:
  """Yields the paragraphs of the documentation strings of the interpreter's standard library.

  CPython 3.11.7 has 8,498 of them, 1.8 MB, about 280,000 words. Examples of the interpreter (`>>>`)
  are left out.
  """
  splits = datasets.python(0.1)
  sources = itertools.chain(*(split.read(range(split.size)) for split in splits.values()))
  for source in sources:
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
      for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
          yield from _paragraphs(ast.get_docstring(node) or '')


def _paragraphs(text: str) -> Iterator[str]:
  for paragraph in re.split(r'\n\s*\n', text):
    if '>>>' not in paragraph and paragraph.strip():
      yield ' '.join(paragraph.split())
