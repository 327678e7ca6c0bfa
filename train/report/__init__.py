"""The report of a run: one HTML file with the paper's number beside ours, curves and mistakes.

`launch.py report` writes it from what one run folder or several hold. Read in this order:

  folder       Reads a run folder: what has its form, and in words what has not.
  numbers      The number of runs that differ in the seed alone, all that `eval` measured, devices.
  results      Records a number in docs/results; README's table.
  page         Puts the page together; `templates/report.html` and `report.css` say how it looks.
  curves       Which charts there are, in which colours.
  charts       Draws curves by matplotlib, as SVG in the page's colours.
  pictures     Confusion matrix, samples of the test set, first-layer filters, what a task drew.
  boards       A game, move by move.
  elo_curves   Elo from the matches that self-play logged.
  scaling      Fits the scaling law of language models to a sweep.

`launch.py` alone imports this room. It needs of `train` the core alone, and starts no JAX.
"""
