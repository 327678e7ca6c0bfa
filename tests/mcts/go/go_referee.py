"""A slow referee for Go, written from the rules (docs/go_rules.md) and sharing nothing with ours.

Boards are dictionaries of stones; a move is judged by making it and looking at all past positions.
"""

BLACK, WHITE = 0, 1


class Referee:
  def __init__(self, size, superko='positional', suicide=False, max_moves=None, stones=(), first=0):
    self.size, self.superko, self.suicide = size, superko, suicide
    self.max_moves = 2 * size * size if max_moves is None else max_moves
    self.stones = dict(stones)  # (row, column) -> colour
    self.player, self.passes = first, 0
    self.turns = len(self.stones)
    self.past = [(frozenset(self.stones.items()), self.player)]  # position, who is to move

  @property
  def over(self):
    return self.passes == 2 or self.turns == self.max_moves

  def around(self, point):
    row, column = point
    near = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [(r, c) for r, c in near if 0 <= r < self.size and 0 <= c < self.size]

  def region(self, stones, point):
    """All points joined to `point` by points of its colour (None: empty), and what they touch."""
    colour, found, touched, open_points = stones.get(point), {point}, set(), [point]
    while open_points:
      for p in self.around(open_points.pop()):
        if stones.get(p) != colour:
          touched.add(stones.get(p))
        elif p not in found:
          found.add(p)
          open_points.append(p)
    return found, touched

  def after(self, point):
    """The stones after the player's move to an empty point: captures, then suicide."""
    stones = {**self.stones, point: self.player}
    for p in self.around(point):
      if stones.get(p) == 1 - self.player:
        chain, touched = self.region(stones, p)
        if None not in touched:
          stones = {q: c for q, c in stones.items() if q not in chain}
    chain, touched = self.region(stones, point)
    if None not in touched:
      stones = {q: c for q, c in stones.items() if q not in chain}
    return stones

  def is_legal(self, point):
    if self.over or point in self.stones:
      return False
    stones = self.after(point)
    if point not in stones and not self.suicide:
      return False
    board = frozenset(stones.items())
    if self.superko == 'positional':
      return all(board != old for old, _ in self.past)
    if self.superko == 'situational':
      return (board, 1 - self.player) not in self.past
    return len(self.past) < 2 or board != self.past[-2][0]

  def mask(self):
    """Of each action, row by row and then the pass."""
    points = [self.is_legal((r, c)) for r in range(self.size) for c in range(self.size)]
    return [*points, not self.over]

  def play(self, action):
    if self.over:
      return
    if action == self.size * self.size:
      self.passes += 1
    else:
      self.stones, self.passes = self.after(divmod(action, self.size)), 0
    self.player = 1 - self.player
    self.turns += 1
    self.past.append((frozenset(self.stones.items()), self.player))

  def board(self):
    sign = {BLACK: 1, WHITE: -1, None: 0}
    return [[sign[self.stones.get((r, c))] for c in range(self.size)] for r in range(self.size)]

  def ownership(self):
    owner = self.board()
    for r in range(self.size):
      for c in range(self.size):
        if (r, c) not in self.stones:
          _, touched = self.region(self.stones, (r, c))
          owner[r][c] = {frozenset({BLACK}): 1, frozenset({WHITE}): -1}.get(frozenset(touched), 0)
    return owner
