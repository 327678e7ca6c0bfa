"""Draws a board of a game: see `mcts.draw.diagram.main`."""

from mcts.draw.diagram import main

if __name__ == '__main__':
  main()
