"""A game on a page, move by move: boards as tasks write them, in text, and a slider.

The page's one script is here; without it the last position is seen.
"""

from collections.abc import Iterator, Sequence

from train.report.figures import Html, element

FILE = 'game.txt'  # as tasks name it
STONES = 'XO'  # of the player who moves first, and of the other
RADIUS = 0.46  # of a stone, in distances of lines
SCRIPT = Html(
  """<script>
for (const game of document.querySelectorAll('.game')) {
  const slider = game.querySelector('input'), text = game.querySelector('output')
  const stones = game.querySelectorAll('[data-from]')
  const show = () => {
    const move = Number(slider.value), end = move == slider.max
    for (const stone of stones) {
      const seen = stone.dataset.from <= move && move < stone.dataset.to
      stone.style.display = seen ? '' : 'none'
    }
    text.textContent = end ? `after ${move} moves: ${game.dataset.result}` : `move ${move}`
  }
  slider.addEventListener('input', show)
  show()
}
</script>"""
)


def replay(text: str) -> Html:
  """The game of a FILE: boards of '.', 'X' and 'O', empty lines between them, the result.

  Html('') if the text is nothing of the kind.
  """
  *blocks, result = text.strip().split('\n\n')
  boards = [block.split('\n') for block in blocks]
  if not boards or {len(row) for board in boards for row in board} != {len(boards[0][0])}:
    return Html('')
  rows, columns = len(boards[0]), len(boards[0][0])
  if any(len(board) != rows for board in boards):
    return Html('')
  moves = len(boards)
  view = f'-0.6 -0.6 {columns + 0.2:.1f} {rows + 0.2:.1f}'
  shapes = [*_lines(rows, columns), *_stones(boards)]
  drawing = element('svg', *shapes, viewBox=view, class_='board', role='img')
  slider = element('input', type='range', min=0, max=moves, value=moves, aria_label='move')
  words = element('output', f'after {moves} moves: {result}')
  return element('div', drawing, slider, words, class_='game', data_result=result) + SCRIPT


def _lines(rows: int, columns: int) -> Iterator[Html]:
  for y in range(rows):
    yield element('line', x1=0, y1=y, x2=columns - 1, y2=y)
  for x in range(columns):
    yield element('line', x1=x, y1=0, x2=x, y2=rows - 1)


def _stones(boards: Sequence[Sequence[str]]) -> Iterator[Html]:
  """Each stone with the moves between which it is there, and a mark on the one that came last."""
  moves, empty = len(boards), ['.' * len(row) for row in boards[0]]
  before = [empty, *boards]
  for y, row in enumerate(boards[-1]):
    for x in range(len(row)):
      seen = [board[y][x] for board in before] + ['']
      begin = 0
      for move in range(1, moves + 2):
        if seen[move] != seen[begin]:
          if seen[begin] in STONES:
            yield from _stone(x, y, seen[begin], begin, move, moves)
          begin = move


def _stone(x: int, y: int, kind: str, begin: int, end: int, moves: int) -> Iterator[Html]:
  place = {'cx': x, 'cy': y}
  colour = ('first', 'second')[STONES.index(kind)]
  hidden = None if end > moves else 'display:none'
  span = {'data_from': begin, 'data_to': end}
  yield element('circle', **place, r=RADIUS, class_=colour, style=hidden, **span)
  hidden = None if begin == moves else 'display:none'
  span = {'data_from': begin, 'data_to': begin + 1}
  yield element('circle', **place, r=RADIUS / 3, class_='last', style=hidden, **span)
