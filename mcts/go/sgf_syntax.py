"""The syntax of SGF (FF[4]): bytes to text, and text to games, variations, nodes and properties.

A file's charset has to be known before its brackets are: in Shift-JIS, Big5 and GB 18030 the second
byte of a character may be a bracket's or a backslash's.
"""

import codecs
import contextlib
import itertools
import os
import re
import stat
from collections.abc import Iterator

MAX_BYTES = 1 << 26  # of a file
MAX_NODES = 1 << 18  # of one variation; a game has some hundreds
START = re.compile(r'\(\s*+;')
TEXT = r'[^\\\]]*+(?:\\.[^\\\]]*+)*+'  # up to a bracket that no backslash escapes
VALUE = re.compile(rf'\[({TEXT})\]', re.DOTALL)
TOKEN = re.compile(rf'\s*+(?:([;()])|([A-Za-z]++)\s*+((?:\[{TEXT}\]\s*+)++))', re.DOTALL)
# The beginning of a game; a variation that begins with these properties is not known.
ROOT = re.compile(
  r'\(\s{0,9};\s{0,9}(?:[A-Z]{1,2}\[[^\[\]]{0,99}\]\s{0,9}){0,9}(?:GM|FF|CA|SZ)\[', re.ASCII
)
MARKS = {
  codecs.BOM_UTF8: 'utf-8-sig',
  codecs.BOM_UTF16_LE: 'utf-16',
  codecs.BOM_UTF16_BE: 'utf-16',
  b'(\0;\0': 'utf-16-le',
  b'\0(\0;': 'utf-16-be',
}
# A charset's larger version, which is what programs mean by the name, as browsers do.
LARGER = {
  'gb2312': 'gb18030',
  'gbk': 'gb18030',
  'shift_jis': 'cp932',
  'euc_kr': 'cp949',
  'big5': 'big5hkscs',
}
GUESSES = ('latin-1', 'cp932', 'gb18030', 'big5hkscs', 'cp949')  # the first is the standard's
# Chinese text in GB 2312: pairs of bytes, both high, so that none is a bracket or a backslash.
GB2312 = re.compile(rb'(?:[\x00-\x7f]++|[\xa1-\xf7][\xa1-\xfe])*+')
ISO_2022 = re.compile(rb'(?<![A-Za-z])CA\[\s*iso-?2022', re.IGNORECASE)  # ASCII, and escapes
PRINTABLE = bytes(range(32, 127))

BLANK = ' \t\r\n\f\v\0\x1a'  # also what old systems fill files up with

Node = dict[str, list[str]]
"""The properties of a node: name -> values, as they are written between the brackets."""


def games(text: str) -> Iterator['GameText']:
  """Yields each game, to be read before the next is asked for; what is between games is not SGF."""
  found = START.search(text)
  while found:
    game = GameText(text, found.start())
    yield game
    # Behind a game that is broken, only what is surely no variation of it.
    found = (START if game.whole else ROOT).search(text, max(game.end, found.end()))


class GameText:
  """One game in a text.

  Attributes:
    text: the whole text.
    end: how far it is read.
    whole: whether it is read to its end.
  """

  def __init__(self, text: str, start: int):
    """Begins at a `START`."""
    self.text, self.end, self.whole = text, start, False

  def variations(self) -> Iterator[tuple[int, list[Node]]]:
    """Yields the nodes of each variation from the root on; the main line is the first.

    Yields:
      How many of the first nodes are those of the variation before, and the nodes, in a list that
      changes when the next one is asked for.

    Raises:
      ValueError: at what is no SGF, or where the text ends within the game.
    """
    nodes: list[Node] = []
    forks: list[int] = []  # how many nodes there were at each bracket that is open
    shared, last = 0, ''
    while match := TOKEN.match(self.text, self.end):
      mark, name, values = match.groups()
      if not _may_follow(mark, last):
        break
      self.end = match.end()
      if mark is None:
        _add(nodes[-1], name, values)
        continue
      if mark == '(':
        forks.append(len(nodes))
      elif mark == ';':
        nodes.append({})
        if len(nodes) > MAX_NODES:
          raise ValueError(f'a variation of more than {MAX_NODES} nodes')
      else:
        if last == ';':
          yield shared, nodes
        del nodes[forks.pop() :]
        shared = len(nodes)
        if not forks:
          self.whole = True
          return
      last = mark
    raise self._unexpected()

  @property
  def rest(self) -> str:
    """Returns what stands between the game's end and the next one, or the end of the text."""
    following = START.search(self.text, self.end)
    return self.text[self.end : following.start() if following else None].strip(BLANK)

  def _unexpected(self) -> ValueError:
    rest = self.text[self.end :].lstrip()
    brackets = re.sub(r'\\.', '', rest, flags=re.DOTALL)
    if ']' not in brackets and ('[' in brackets or ')' not in brackets):
      return ValueError('cut short: the file ends within the game')
    return ValueError(f'{shown(rest)}: no SGF')


def _may_follow(mark: str | None, last: str) -> bool:
  """Tells whether a mark, or a property for None, may stand after the mark `last`."""
  if mark is None:
    return last == ';'
  return last in ('(', ';') if mark == ';' else last != '('


def _add(node: Node, name: str, values: str) -> None:
  # Before FF[4] names had small letters, which say nothing: AddBlack is AB.
  capitals = re.sub('[a-z]+', '', name)
  if not capitals:
    raise ValueError(f'property {shown(name)}: must be in capitals')
  node.setdefault(capitals, []).extend(VALUE.findall(values))


def shown(text: str, most: int = 30) -> str:
  """Returns text of a file for an error message: quoted, control characters escaped, and short."""
  return repr(text if len(text) <= most else f'{text[:most]}...')


# -------- bytes to text --------


def file_size(path: str | os.PathLike) -> int:
  """Returns the bytes of a file; ValueError for a device or a pipe, which may have no end."""
  found = os.stat(path)
  if not stat.S_ISREG(found.st_mode):
    raise ValueError('must be a file, not a folder, a device or a pipe')
  return found.st_size


def content(source: bytes | str | os.PathLike) -> bytes:
  """Returns the bytes of a file, or those that are given.

  Raises:
    OSError: for a file that cannot be read.
    ValueError: for what is no file, and for one of over 64 MiB.
  """
  if isinstance(source, bytes):
    return source
  if (size := file_size(source)) > MAX_BYTES:
    raise ValueError(f'{size >> 20} MiB: must be at most {MAX_BYTES >> 20} MiB')
  with open(source, 'rb') as file:
    return file.read(MAX_BYTES)


def decode(data: bytes) -> tuple[str, str]:
  """Returns a file's text, and a note on its charset; '' where there is nothing to say.

  The charset is the byte-order mark's; else UTF-8 where the bytes are that, whatever they say; else
  what the property CA says; else Latin-1, unless more of the file can be read as another. Games
  with a property CA of their own are read by it.
  """
  for mark, name in MARKS.items():
    if data.startswith(mark):
      return _decoded(data, name)
  if not ISO_2022.search(data):
    with contextlib.suppress(UnicodeDecodeError):
      return data.decode('utf-8'), ''
  text = data.decode('latin-1')
  cuts = [0, *(match.start() for match in ROOT.finditer(text) if match.start()), len(text)]
  parts = [_decode_game(data[a:b]) for a, b in itertools.pairwise(cuts)]
  return ''.join(text for text, _ in parts), next((note for _, note in parts if note), '')


def _decode_game(data: bytes) -> tuple[str, str]:
  found = re.search(rb'(?<![A-Za-z])CA\[\s*([^\]]{0,40}?)\s*\]', data)
  said = found[1].decode('latin-1') if found else ''
  declared = [name for name in [_charset(said)] if name]
  likely = [*declared, 'utf-8'] if ISO_2022.search(data) else ['utf-8', *declared]
  names = [*likely, *(['gb18030'] if GB2312.fullmatch(data) else []), *GUESSES]
  readings = (x for x in (_Reading(data, name) for name in dict.fromkeys(names)) if x.fits)
  # Brackets and backslashes are what they are in every charset, unless one follows a high byte.
  best = next(readings)
  if best.damage or (best.name != 'utf-8' and re.search(rb'[\x81-\xfe][\[\]\\]', data)):
    best = max(itertools.chain([best], readings), key=_Reading.sense)
  return best.text, best.note(said)


class _Reading:
  """Bytes as text in one charset."""

  def __init__(self, data: bytes, name: str):
    self.name, (self.text, self.damage) = name, _decoded(data, name)

  @property
  def fits(self) -> bool:
    """Whether the bytes are this charset, or UTF-8 with a few characters that are cut."""
    foreign = sum(not c.isascii() for c in self.text) if self.damage else 0
    return not self.damage or self.text.count('\ufffd') < 0.3 * foreign

  def sense(self) -> tuple[int, int]:
    """Returns how many properties games that can be read have, and minus the control characters."""
    count = 0
    for game in games(self.text):
      with contextlib.suppress(ValueError):
        count += sum(len(node) for shared, nodes in game.variations() for node in nodes[shared:])
    return count, -sum(not c.isprintable() for c in self.text)

  def note(self, said: str) -> str:
    """Returns what is to be said where the property CA is `said`, '' for none."""
    if self.damage or self.name in ('utf-8', _charset(said)):
      return self.damage
    if said:
      return f'CA[{shown(said)[1:-1]}] does not fit: read as {self.name}'
    standard = self.name == 'latin-1' and not re.search('[\x80-\x9f]', self.text)
    return '' if standard else f'no CA: read as {self.name}'


def _charset(name: str) -> str | None:
  """Returns Python's name of a charset that has ASCII as it is; None for others."""
  try:
    found = codecs.lookup(re.sub('^[Xx]-', '', name)).name
    if 'escape' in found or PRINTABLE.decode(found) != PRINTABLE.decode('ascii'):
      return None
  except (LookupError, ValueError):
    return None
  return LARGER.get(found, found)


def _decoded(data: bytes, name: str) -> tuple[str, str]:
  try:
    return data.decode(name), ''
  except UnicodeDecodeError:
    return data.decode(name, 'replace'), f'some of the text is not {name}'
