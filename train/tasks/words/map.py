"""A map of words in two dimensions, in which near vectors are near: t-SNE (van der Maaten 2008)."""

import io
from collections.abc import Sequence

import numpy as np

from train.tasks.words.neighbours import Vectors

NEAR = 11  # words that are drawn around each of those that were chosen
SIZE = (9, 8)  # inches


def draw(vectors: Vectors, words: Sequence[str]) -> bytes:
  """Returns a PNG: each word with its neighbours in a colour of its own.

  words: of the vocabulary, at least one.
  """
  import matplotlib.figure  # half a second, which a run without a map does without

  groups: dict[int, int] = {}  # word -> of whose group
  numbers = vectors.vocabulary.numbers
  for group, word in enumerate(words):
    near = [name for name, _ in vectors.near([numbers[word]], [], NEAR)]
    for name in (word, *near):
      groups.setdefault(numbers[name], group)
  places = positions(vectors.rows[list(groups)])
  figure = matplotlib.figure.Figure(figsize=SIZE, dpi=110, layout='tight')
  axes = figure.add_subplot()
  axes.axis('off')
  axes.margins(x=0.1)  # for the words at the right
  for (x, y), (number, group) in zip(places, groups.items(), strict=True):
    word, chosen = vectors.vocabulary.words[number], vectors.vocabulary.words[number] in words
    colour = f'C{group % 10}'
    axes.plot(x, y, '.', color=colour, markersize=9 if chosen else 4)
    text = word.replace('$', r'\$')  # which would begin a formula
    weight = 'bold' if chosen else 'normal'
    axes.annotate(
      text, (x, y), (3, 2), textcoords='offset points', color=colour, weight=weight, fontsize=8
    )
  file = io.BytesIO()
  figure.savefig(file, format='png')
  return file.getvalue()


def positions(rows: np.ndarray) -> np.ndarray:
  """Returns `[N, 2]`: places of vectors `[N, D]` of length 1, their ranks along either axis.

  Ranks keep who is near whom, and give each word's label a line of its own.
  """
  if len(rows) < 4:
    return np.stack([np.arange(len(rows)), np.zeros(len(rows))], 1)
  from sklearn.manifold import TSNE

  perplexity = (len(rows) - 1) / 3
  model = TSNE(perplexity=perplexity, metric='cosine', init='random', random_state=0)
  return np.argsort(np.argsort(model.fit_transform(rows), axis=0), axis=0)
