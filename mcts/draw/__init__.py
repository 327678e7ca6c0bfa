"""Pictures of Go boards, as SVG and PNG.

All is in `diagram`: `draw` makes a matplotlib figure, `encode` and `save` write it. It knows of us
`mcts.go` alone, and is for whoever shows a game. `python -m mcts.draw GAME.sgf --move=36
--output=board.png` draws the board after 36 moves.
"""
