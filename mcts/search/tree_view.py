"""A tree as plain data (JSON), and as a picture (SVG) of its most visited part."""

import html
import json
from collections.abc import Callable

import jax
import numpy as np

from mcts.search.tree import Tree


def to_dict(tree: Tree, game: int = 0) -> dict:
  """The tree of one game of the batch: 'value' of the root and 'nodes' in their order.

  Each node has the number of its parent and the action from there (none of the root), 'visits' and
  mean 'value' of that edge and its 'prior', all from the view of the player who chooses it; 'raw',
  the node's own evaluation for its player to move; 'done'.
  """
  fields = ('prior', 'visits', 'total', 'child', 'raw', 'done', 'parent', 'size')
  prior, visits, total, child, raw, done, parent, size = jax.device_get(
    [getattr(tree, name)[game] for name in fields]
  )
  nodes = [{'raw': _number(raw[0]), 'done': bool(done[0])}]
  for i in range(1, int(size)):
    above = int(parent[i])
    action = int(np.flatnonzero(child[above] == i)[0])
    count = int(visits[above, action])
    nodes.append(
      {
        'parent': above,
        'action': action,
        'visits': count,
        'value': _number(total[above, action] / max(count, 1)),
        'prior': _number(np.exp(prior[above, action])),
        'raw': _number(raw[i]),
        'done': bool(done[i]),
      }
    )
  return {'actions': prior.shape[-1], 'value': _number(tree.value[game]), 'nodes': nodes}


def to_json(tree: Tree, game: int = 0) -> str:
  """One node a line."""
  data = to_dict(tree, game)
  nodes = ',\n  '.join(json.dumps(node) for node in data.pop('nodes'))
  return f'{json.dumps(data)[:-1]}, "nodes": [\n  {nodes}\n]}}\n'


def _number(x) -> float:
  return round(float(x), 6)


# -------- picture --------

WIDTH, HEIGHT, RADIUS, MARGIN = 46, 84, 15, 40


def to_svg(tree: Tree, game: int = 0, *, most: int = 40, name: Callable[[int], str] = str) -> str:
  """The `most` most visited nodes; a line as thick as its share of visits, the label its action.

  In a circle stands the number of visits; it is the bluer the better for whoever chose it, and the
  redder the worse. A thick rim is the end of a game. `name` turns an action into its label.
  """
  nodes = to_dict(tree, game)['nodes']
  shown = _most_visited(nodes, most)
  x, y = _places(nodes, shown)
  width, height = max(x.values()) + 2 * MARGIN, max(y.values()) + 2 * MARGIN
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
    f'height="{height:g}" font-family="sans-serif" font-size="11" text-anchor="middle">',
    '<rect width="100%" height="100%" fill="white"/>',
    f'<g transform="translate({MARGIN} {MARGIN})">',
  ]
  total = sum(node.get('visits', 0) for node in nodes if node.get('parent') == 0)
  parts += [_edge(nodes[i], i, x, y, total, name) for i in shown[1:]]
  parts += [_circle(nodes[i], x[i], y[i], total) for i in shown]
  return '\n'.join([*parts, '</g>', '</svg>', ''])


def _most_visited(nodes, most):
  """Numbers in order, the root first; a parent always has as many visits as its children."""
  order = sorted(range(1, len(nodes)), key=lambda i: (-nodes[i]['visits'], i))
  return [0, *sorted(order[: max(most - 1, 0)])]


def _places(nodes, shown):
  """x and y of each node: leaves side by side, parents in the middle above their children."""
  below = {i: [j for j in shown[1:] if nodes[j]['parent'] == i] for i in shown}
  for children in below.values():
    children.sort(key=lambda j: nodes[j]['action'])
  y = {0: 0.0}
  for i in shown[1:]:
    y[i] = y[nodes[i]['parent']] + HEIGHT
  x, free, stack = {}, 0.0, [(0, False)]
  while stack:
    i, ready = stack.pop()
    if not below[i]:
      x[i], free = free, free + WIDTH
    elif ready:
      x[i] = (x[below[i][0]] + x[below[i][-1]]) / 2
    else:
      stack += [(i, True), *((j, False) for j in reversed(below[i]))]
  return x, y


def _edge(node, i, x, y, total, name):
  """A line to a node with its action on it."""
  x1, y1, x2, y2 = x[node['parent']], y[node['parent']], x[i], y[i]
  width = 0.6 + 7 * node['visits'] / max(total, 1)
  middle = f'x="{(x1 + 2 * x2) / 3:g}" y="{(y1 + 2 * y2) / 3:g}"'
  label = html.escape(name(node['action']))
  return (
    f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" stroke="#999" stroke-width="{width:.2f}"/>'
    f'<text {middle} stroke="white" stroke-width="3" paint-order="stroke" fill="#333">'
    f'{label}</text>'
  )


def _circle(node, x, y, total):
  """A node with its visits; the rest of what is known of it appears under the mouse."""
  value = node.get('value', 0.0)
  weak = round(255 * (1 - 0.75 * abs(value)))
  colour = f'rgb({weak},{weak},255)' if value >= 0 else f'rgb(255,{weak},{weak})'
  facts = ', '.join(f'{key} {value}' for key, value in node.items() if key != 'parent')
  return (
    f'<g><title>{facts}</title><circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="{colour}" '
    f'stroke="#333" stroke-width="{3 if node["done"] else 1}"/>'
    f'<text x="{x:g}" y="{y + 4:g}">{node.get("visits", total)}</text></g>'
  )
