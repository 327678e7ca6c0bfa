"""Where handicap stones stand: the fixed places of GTP 2 (section 4.1.1), and more."""


def max_fixed(size: int) -> int:
  """Returns how many stones have a fixed place at most.

  None below size 7, four on 7 and on even sizes, else nine.
  """
  if size < 7:
    return 0
  return 4 if size == 7 or size % 2 == 0 else 9


def fixed(size: int, number: int) -> list[int]:
  """Returns the fixed points (row * N + column) of `number` stones, 2 to `max_fixed(size)`."""
  near = 3 if size >= 13 else 2  # from the edge
  low, middle, high = size - 1 - near, size // 2, near  # rows; 0 is the top
  at = lambda row, column: row * size + column  # noqa: E731
  corners = [at(low, near), at(high, low), at(high, near), at(low, low)]
  sides = [at(middle, near), at(middle, low), at(low, middle), at(high, middle)]
  centre = [at(middle, middle)]
  if number <= 4:
    return corners[:number]
  odd = number % 2 == 1
  return corners + sides[: number - 4 - odd] + (centre if odd else [])


def free(size: int, number: int) -> list[int]:
  """Returns points for any number of stones: the fixed ones, then the farthest from all others."""
  points = fixed(size, min(number, max_fixed(size))) if max_fixed(size) else []
  while len(points) < number:
    points.append(_farthest(size, points))
  return points


def _farthest(size, points):
  middle = (size - 1) / 2

  def rank(point):
    row, column = divmod(point, size)
    others = [divmod(other, size) for other in points]
    nearest = min((abs(row - y) + abs(column - x) for y, x in others), default=0)
    return nearest, -abs(row - middle) - abs(column - middle)

  return max((point for point in range(size * size) if point not in points), key=rank)
